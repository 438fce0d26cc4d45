//! Whole runs: what they leave, and their models measured and asked again.

use eblora::peft::AdapterSet;
use eblora::report::result::RunResult;
use eblora::run::MethodName;
use serde_json::Value;

use crate::files::{Project, every_method};

fn result(project: &Project, file: &str) -> RunResult {
    RunResult::from_json(project.read(file).as_bytes(), file).unwrap()
}

/// `eblora eval` of the model after each task gives the row of the accuracy matrix, and of the base the zero-shot row.
fn measured_again(project: &Project, result: &RunResult) {
    for method in &result.methods {
        let eval = |flags: &[&str]| -> Vec<f64> {
            let args = [&["eval", "run", "--json", "--method", &method.name], flags].concat();
            let json: Value = serde_json::from_str(&project.succeeds(&args)).unwrap();
            result.tasks.iter().map(|task| json["accuracy"][task].as_f64().unwrap()).collect()
        };
        assert_eq!(eval(&["--base"]), method.zero_shot, "{}", method.name);
        for (task, row) in result.tasks.iter().zip(&method.accuracy) {
            assert_eq!(eval(&["--task", task]), *row, "{} after {task}", method.name);
        }
    }
}

#[test]
fn images_are_trained_measured_and_asked() {
    let project = Project::images();
    let told = project.succeeds(&["check", "run.toml"]);
    for part in [
        "task fashion: 64 images to train on, 30 to measure on",
        "method ours: eblora of rank 4",
        "everything is there",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!project.path("run").exists(), "check writes nothing");
    let table = project.succeeds(&["train", "run.toml"]);
    assert!(table.contains("on the test images, seed 0") && table.contains("ours: accuracy (%)"), "{table}");
    let result = result(&project, "run/result.json");
    assert_eq!(result.config.resolved.as_ref().unwrap()["train"]["steps"], 4);
    assert_eq!(result.methods[1].method, "eblora");
    assert!(result.methods[1].orthonormality_error.unwrap() < 5e-6 && result.methods[1].subspace_leak.unwrap() < 1e-5);
    assert_eq!(result.methods[0].spectra[0].site, "layers.0.q");
    assert!(!project.path("run/checkpoints").exists());
    measured_again(&project, &result);

    let page = project.read("run/report.html");
    assert!(page.contains("the whole config") && !page.contains("<script"));
    let metrics = project.read("run/ours/metrics.jsonl");
    let events = |kind: &str| metrics.lines().filter(|line| line.contains(&format!("\"event\":\"{kind}\""))).count();
    assert_eq!((events("zero_shot"), events("step"), events("learnt")), (1, 8, 2));
    assert_eq!(events("memory"), 2 * 3 * 4, "two tasks, three linears of four blocks");

    let set = AdapterSet::read(project.path("run/ours/adapters")).unwrap();
    assert_eq!(set.tasks().iter().map(|task| task.name.as_str()).collect::<Vec<_>>(), ["fashion", "turned"]);
    let adapter = set.adapter(&set.tasks()[0]).unwrap();
    assert_eq!(adapter.layers.len(), 12);
    assert!(project.succeeds(&["inspect", "run/ours/adapters"]).contains("fashion"));
    project.succeeds(&["export", "run/ours/adapters", "--format", "merged", "--base", "base", "--out", "merged"]);
    assert!(project.path("merged/model.safetensors").exists() && project.path("merged/config.json").exists());

    let asked = project.succeeds(&[
        "predict",
        "run",
        "--method",
        "ours",
        "--top",
        "2",
        "turned/test-0.png",
        "turned/test-1.png",
    ]);
    assert_eq!(asked.lines().count(), 2);
    assert!(asked.lines().all(|line| line.matches('%').count() == 2), "{asked}");
    assert!(
        project.refuses(&["predict", "run", "turned/test-0.png"]).contains("choose by --method among lora-ft, ours")
    );
    assert!(project.refuses(&["predict", "run", "--method", "ours", "run.toml"]).contains("run.toml"));
}

#[test]
fn what_is_bundled_needs_no_file() {
    let project = Project::images();
    let task = |name: &str| {
        format!("[[task]]\nname = \"{name}\"\ntrain = \"bundled:{name}/train\"\ntest = \"bundled:{name}/test\"\n")
    };
    let text = "out = \"run\"\nthreads = 1\n[model]\nbase = \"bundled\"\nblocks = [3]\n[train]\nsteps = 2\nbatch = 4\n\
                train_samples = 200\ntest_samples = 20\n[[method]]\nname = \"eblora\"\nrank = 2\n";
    project.write("bundled.toml", format!("{text}{}{}", task("fashion"), task("mnist-inverted")));
    project.succeeds(&["train", "bundled.toml", "-q"]);
    measured_again(&project, &result(&project, "run/result.json"));
    assert_eq!(project.succeeds(&["predict", "run", "turned/train-0.png", "--top", "1"]).lines().count(), 1);
    let message = project.refuses(&["check", "bundled.toml", "task.1.test=bundled:mnist/test"]);
    assert!(message.contains("bundled:mnist/test is not bundled; there are bundled:fashion/train"), "{message}");
}

#[test]
fn texts_are_trained_measured_and_asked() {
    let project = Project::texts();
    project.succeeds(&["train", "run.toml", "--quiet"]);
    let result = result(&project, "run/result.json");
    measured_again(&project, &result);
    let labels: Value = serde_json::from_str(&project.read("run/labels.json")).unwrap();
    assert_eq!(labels["labels"], serde_json::json!(["no", "yes", "w10", "w11"]));
    // One label space: what is asked may be called by the label of any task.
    let line = project.succeeds(&["predict", "run", "--json", "--top", "4", "w8 w6 w9"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    let sum: f64 = answer["answers"].as_array().unwrap().iter().map(|a| a["confidence"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{line}");
    assert!(project.refuses(&["predict", "run", ""]).contains("text 1 is empty"));
    assert!(project.refuses(&["eval", "run", "--task", "nothing"]).contains("nothing"));
    assert!(project.refuses(&["eval", "run", "--on", "nothing"]).contains("there are feeling, topic"));

    // The same config again: kept, refused, or another one.
    assert!(project.refuses(&["train", "run.toml"]).contains("holds a run that has finished"));
    assert!(project.succeeds(&["train", "run.toml", "--resume"]).contains("MFN"));
    let other = project.refuses(&["train", "run.toml", "train.steps=3", "--resume"]);
    assert!(other.contains("differs at `train.steps`"), "{other}");
    project.succeeds(&["train", "run.toml", "train.steps=3", "--restart", "-q"]);
    assert_eq!(self::result(&project, "run/result.json").config.steps, 3);
}

#[test]
fn a_method_is_added_to_a_finished_run() {
    let project = Project::texts();
    let methods = r#"method=[{name = "lora-ft", rank = 2}, {name = "ebo", rank = 2}, {name = "eblora", rank = 2}]"#;
    let fewer = r#"method=[{name = "eblora", rank = 2}, {name = "lora-ft", rank = 2}]"#;
    project.succeeds(&["train", "run.toml", methods, "out=whole", "-q"]);
    project.succeeds(&["train", "run.toml", fewer, "-q"]);
    let before = result(&project, "run/result.json");
    // A setting of what is there can't change, and nothing can be left out.
    let changed = methods.replacen("rank = 2", "rank = 1", 1);
    assert!(project.refuses(&["train", "run.toml", &changed, "--resume"]).contains("differs at `method."));
    let gone = r#"method=[{name = "lora-ft", rank = 2}, {name = "ebo", rank = 2}]"#;
    assert!(project.refuses(&["train", "run.toml", gone, "--resume"]).contains("differs at `method"));
    project.succeeds(&["train", "run.toml", methods, "--resume", "-q"]);

    let (added, whole) = (result(&project, "run/result.json"), result(&project, "whole/result.json"));
    let names = |result: &RunResult| result.methods.iter().map(|method| method.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&added), ["lora-ft", "ebo", "eblora"]);
    for (a, b) in added.methods.iter().zip(&whole.methods) {
        assert_eq!((&a.accuracy, &a.loss, &a.spectra), (&b.accuracy, &b.loss, &b.spectra), "{}", a.name);
    }
    // What was there is kept, not trained again.
    assert_eq!((&added.methods[2], &added.methods[0]), (&before.methods[0], &before.methods[1]));
    assert_eq!(project.succeeds(&["report", "run", "--markdown", "-"]).matches("| ebo |").count(), 2);
    assert!(project.path("run/ebo/adapters/adapters.json").exists());
    measured_again(&project, &added);
}

#[test]
fn a_linear_head_is_shared_by_all_tasks_too() {
    let project = Project::texts();
    let linear = ["train", "run.toml", "model.head=linear", "--quiet"];
    project.succeeds(&linear);
    let result = result(&project, "run/result.json");
    measured_again(&project, &result);
    let line = project.succeeds(&["predict", "run", "--json", "--top", "4", "w8 w6 w9"]);
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["answers"].as_array().unwrap().len(), 4, "{line}");
    // Another head, another run.
    assert!(project.refuses(&["train", "run.toml", "--resume"]).contains("differs at `model.head`"));
    let message = project.refuses(&["check", "run.toml", "model.head=lines"]);
    assert!(message.contains("model.head") && message.contains("linear"), "{message}");
    // The labels' texts are not read, so they may be of any length.
    let text = project.read("run.toml").replace("\"no\"", "\"w1 w1 w1 w1 w1 w1 w1 w1 w1\"");
    project.write("run.toml", text);
    assert!(project.refuses(&["check", "run.toml"]).contains("more than the 8"));
    project.succeeds(&["check", "run.toml", "model.head=linear"]);
}

#[test]
fn prompts_are_trained_measured_and_asked() {
    let project = Project::prompts();
    project.succeeds(&["train", "run.toml", "--quiet"]);
    let result = result(&project, "run/result.json");
    measured_again(&project, &result);
    let chosen = project.succeeds(&["predict", "run", "--task", "choice", "--top", "1", "w1 w5"]);
    assert!(["yes ", "no "].iter().any(|answer| chosen.starts_with(answer)), "{chosen}");
    assert_eq!(project.succeeds(&["predict", "run", "w1 w9"]).lines().count(), 1);
    // A run is the same with less memory, and goes on with it.
    let checkpointing = "model.gradient_checkpointing=true";
    project.succeeds(&["train", "run.toml", "--quiet", checkpointing, "out=small"]);
    let small = self::result(&project, "small/result.json");
    for (a, b) in small.methods.iter().zip(&result.methods) {
        assert_eq!((&a.accuracy, &a.loss, &a.spectra), (&b.accuracy, &b.loss, &b.spectra), "{}", a.name);
    }
    project.succeeds(&["train", "run.toml", "--quiet", checkpointing, "--resume"]);
}

#[test]
fn every_method_trains_every_family_and_its_adapters_give_its_accuracies() {
    let methods = every_method();
    for project in [Project::images(), Project::texts(), Project::prompts()] {
        project.succeeds(&["train", "run.toml", "--quiet", "train.steps=3", "train.checkpoint_every=2", &methods]);
        let result = result(&project, "run/result.json");
        let names: Vec<_> = result.methods.iter().map(|method| method.method.as_str()).collect();
        assert_eq!(names, MethodName::ALL.map(MethodName::as_str));
        measured_again(&project, &result);
        for method in &result.methods {
            let (name, stored) = (method.method.as_str(), method.stored.unwrap());
            let keeps_nothing = ["lora-ft", "individual", "stella", "osf", "ebo"].contains(&name);
            assert_eq!(stored == 0, keeps_nothing, "{name}: {stored}");
            let last = method.subspace.iter().filter(|m| m.task == result.tasks.len() - 1);
            let basis: usize = last.map(|m| m.dim * m.k.min(m.dim - m.k)).sum();
            assert!(basis == 0 || stored == basis, "{name}: M or its complement has {basis} numbers, not {stored}");
            assert!(method.loss.iter().all(|point| point.loss.is_finite()), "{}", method.name);
            assert!(method.orthonormality_error.is_none_or(|error| error < 1e-5), "{}", method.name);
            assert!(method.subspace_leak.is_none_or(|leak| leak < 1e-4), "{}", method.name);
        }
    }
}

#[test]
fn several_seeds_have_a_folder_each_and_a_common_table() {
    let project = Project::texts();
    let table = project.succeeds(&["train", "run.toml", "seeds=[3, 1]", "train.steps=3", "--quiet"]);
    assert!(table.contains("±"), "{table}");
    let seeds: Vec<_> = ["run/seed-3/result.json", "run/seed-1/result.json"].map(|f| result(&project, f).seed).into();
    assert_eq!(seeds, [3, 1]);
    project.succeeds(&["report", "run", "--markdown", "table.md"]);
    let markdown = project.read("table.md");
    let rows =
        |text: &str| text.lines().filter(|line| line.starts_with("| eblora")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(&markdown).len(), 2);
    assert!(project.refuses(&["report", "base", "--markdown", "-"]).contains("holds no run"));
}

#[test]
fn init_writes_a_config_that_is_read() {
    let project = Project::texts();
    for family in ["vit", "bert", "llama"] {
        let file = format!("{family}.toml");
        project.succeeds(&["init", &file, "--family", family]);
        // All that is wrong with it is that there is no such model.
        let told = project.refuses(&["check", &file]);
        assert!(told.contains("models"), "{told}");
        assert!(project.refuses(&["init", &file]).contains("--force replaces it"));
        project.succeeds(&["init", &file, "--force"]);
    }
}

#[test]
fn a_folder_that_is_refused_stays_as_it_was() {
    let project = Project::texts();
    // The second seed's folder has checkpoints: the first one must not train either.
    project.write("run/seed-1/checkpoints/eblora/00000001.json", "{}");
    project.write("run/seed-1/labels.json", "mine");
    let message = project.refuses(&["train", "run.toml", "seeds=[0, 1]"]);
    assert!(message.contains("seed-1") && message.contains("holds the checkpoints"), "{message}");
    assert_eq!(project.read("run/seed-1/labels.json"), "mine");
    assert!(!project.path("run/seed-0").exists() && !project.path("run/seed-1/config.toml").exists());
}

/// The same config on a GPU (a software one where there is no other): within a sample of 10 of the CPU's accuracies.
#[test]
fn a_config_runs_on_a_gpu() {
    let project = Project::texts();
    let run = |device: &str, out: &str| {
        let flags = [format!("device={device}"), format!("out={out}"), "train.steps=3".to_owned()];
        project.succeeds(&["train", "run.toml", &flags[0], &flags[1], &flags[2], "-q"]);
        result(&project, &format!("{out}/result.json"))
    };
    let (cpu, gpu) = (run("cpu", "on-cpu"), run("gpu", "on-gpu"));
    assert_ne!(cpu.device, gpu.device);
    for (a, b) in cpu.methods[0].accuracy.iter().flatten().zip(gpu.methods[0].accuracy.iter().flatten()) {
        assert!((a - b).abs() <= 10.0 + 1e-9, "{a} and {b}");
    }
    let losses = |result: &RunResult| result.methods[0].loss.iter().map(|point| point.loss).collect::<Vec<_>>();
    for (a, b) in losses(&cpu).iter().zip(&losses(&gpu)) {
        assert!((a - b).abs() < 1e-3 * a.abs().max(1.0), "losses {a} and {b}");
    }
}
