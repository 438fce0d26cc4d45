//! The folder of a run: nothing of the user's is replaced, nothing that was saved is lost, and no run is taken for another.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use super::files::Project;

#[test]
fn what_the_user_has_there_stays() {
    let project = Project::texts();
    // The config's own folder, and its own file, as the run's.
    project.write("mine/config.toml", project.read("run.toml").replace("\"base\"", "\"../base\""));
    for (out, refusal) in [("out=", "a folder is needed"), ("out=mine", "no run of eblora wrote it")] {
        assert!(project.refuses(&["train", "run.toml", "-q", out]).contains(refusal), "{out}");
    }
    let kept = project.read("mine/config.toml");
    for start in ["--resume", "--restart"] {
        assert!(project.refuses(&["train", "run.toml", "-q", start, "out=mine"]).contains("config.toml is there"));
    }
    assert_eq!(project.read("mine/config.toml"), kept);
    for name in ["labels.json", "report.html", "forgetting.svg"] {
        project.write(&format!("{name}-out/{name}"), "mine");
        let out = format!("out={name}-out");
        assert!(project.refuses(&["train", "run.toml", "-q", &out]).contains(name));
        assert_eq!(fs::read_dir(project.path(&format!("{name}-out"))).unwrap().count(), 1);
    }
    // A folder with other things is as good as any.
    project.write("notes/notes.txt", "mine");
    project.succeeds(&["train", "run.toml", "-q", "out=notes"]);
    assert_eq!(project.read("notes/notes.txt"), "mine");
    // A file is none, nor what is below it, and `check` knows.
    for out in ["out=run.toml", "out=run.toml/run"] {
        assert!(project.refuses(&["check", "run.toml", out]).contains("run.toml is not a folder"));
    }
}

#[test]
fn a_restart_discards_once_nothing_can_refuse() {
    let project = Project::texts();
    project.succeeds(&["train", "run.toml", "-q"]);
    let result = project.read("run/result.json");
    let ran = project.run(&["train", "run.toml", "-q", "--restart", "device=gpu:99"]);
    assert_eq!((ran.code, ran.err.contains("gpu:99") || ran.err.contains("number 99")), (Some(2), true), "{}", ran.err);
    assert_eq!(project.read("run/result.json"), result);
    assert_eq!(project.run(&["check", "run.toml", "device=gpu:99"]).code, Some(2));
    project.succeeds(&["train", "run.toml", "-q", "--restart", "train.steps=2"]);
    assert_ne!(project.read("run/result.json"), result);
}

#[test]
fn a_method_has_a_name_of_its_own_in_the_folder() {
    let project = Project::texts();
    for label in ["result.json", "Report.html", "checkpoints", "seed-3"] {
        let told = project.refuses(&["check", "run.toml", &format!("method.0.label={label}")]);
        assert!(told.contains("label") && told.contains("something else in a run's folder"), "{told}");
    }
}

#[test]
fn what_goes_on_is_the_same_run() {
    let project = Project::texts();
    project.succeeds(&["train", "run.toml", "-q"]);
    let added = "method=[{name=\"eblora\",rank=2},{name=\"ebo\",rank=2}]";
    // Another seed, alone or with another method.
    for more in [&[][..], &[added]] {
        let all = [&["train", "run.toml", "-q", "--resume", "seeds=[1]"][..], more].concat();
        assert!(project.refuses(&all).contains("differs at `seeds`"));
    }
    // Other samples, another base.
    let samples = project.read("feeling/train.jsonl");
    project.write("feeling/train.jsonl", samples.replace("w2", "w3"));
    let told = project.refuses(&["train", "run.toml", "-q", "--resume", added]);
    assert!(told.contains("another texts of feeling"), "{told}");
    project.write("feeling/train.jsonl", samples);
    let table = project.succeeds(&["train", "run.toml", "-q", "--resume", added]);
    assert!(table.contains("ebo "), "{table}");
    let result = project.read("run/result.json");
    assert!(result.contains("\"facts\":{\"base model\":\"one of checksum "), "{result}");
}

#[test]
fn one_seed_and_several_do_not_share_a_folder() {
    let project = Project::texts();
    let train = |seeds| ["train", "run.toml", "-q", "train.steps=2", seeds];
    project.succeeds(&train("seeds=[0]"));
    assert!(project.refuses(&train("seeds=[1, 2]")).contains("the run of one seed"));
    fs::remove_dir_all(project.path("run")).unwrap();
    project.succeeds(&train("seeds=[1, 2]"));
    assert!(project.refuses(&train("seeds=[1]")).contains("runs of several seeds"));
    for verb in ["eval", "predict"] {
        let text = if verb == "predict" { &["w1"][..] } else { &[] };
        let told = project.refuses(&[&[verb, "run"][..], text].concat());
        assert!(told.contains("name one of its folders: seed-1, seed-2"), "{told}");
    }
    project.succeeds(&["eval", "run/seed-2"]);
    assert!(project.refuses(&["eval", "base"]).contains("holds no run"));
    fs::remove_file(project.path("run/seed-2/result.json")).unwrap();
    let told = project.refuses(&["report", "run"]);
    assert!(told.contains("seed-2 holds a run that has not finished") && told.contains("--resume"), "{told}");
}

#[test]
fn a_run_is_measured_by_the_labels_that_it_learnt() {
    let project = Project::texts();
    project.succeeds(&["train", "run.toml", "-q", "model.head=linear"]);
    let before = project.succeeds(&["eval", "run"]);
    let table = project.read("topic/train.csv");
    project.write("topic/train.csv", format!("{table}a,\"w8 w5 w9\"\n"));
    let told = project.refuses(&["eval", "run"]);
    assert!(told.contains("the data's labels are") && told.contains("but the run learnt"), "{told}");
    project.write("topic/train.csv", table);
    assert_eq!(project.succeeds(&["eval", "run"]), before);
}

#[test]
fn absurd_numbers_are_told() {
    let project = Project::texts();
    for (key, most) in [
        ("train.batch=9223372036854775807", "more than 65536"),
        ("train.batch=65537", "more than 65536"),
        ("train.snapshots=9223372036854775807", "more than 10000000"),
        ("train.steps=100000000000", "more than 10000000"),
        ("model.max_tokens=9223372036854775807", "not in the range"),
        ("train.steps=-1", "a whole number, 0 or above"),
        ("train=7", "a table"),
        ("foo.bar=1", "\"foo.bar=1\" on the command line"),
    ] {
        let told = project.refuses(&["check", "run.toml", key]);
        assert!(told.contains(most), "{key}: {told}");
    }
    // What is no value of TOML is refused with the arguments.
    let ran = project.run(&["check", "run.toml", "seeds=[18446744073709551615]"]);
    assert!(ran.code == Some(2) && ran.err.contains("too large"), "{}", ran.err);
}

#[test]
fn lines_and_answers_stand_side_by_side() {
    let project = Project::texts();
    project.succeeds(&["train", "run.toml", "-q"]);
    let asked = |input: &str| {
        let mut child = project
            .command(&["predict", "run", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let ran = child.wait_with_output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    let (code, out, err) = asked("w1 w2\nw3\n");
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{err}");
    let (code, _, err) = asked("w1 w2\n\nw3\n");
    assert!(code == Some(2) && err.contains("text 2 is empty"), "{err}");
    let (code, _, err) = asked("");
    assert!(code == Some(2) && err.contains("standard input is empty"), "{err}");
}
