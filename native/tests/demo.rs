//! The demo and the benchmark on the real binary: what they print and write, that a seed repeats a run to the bit on any
//! number of threads, and that the constraints of the method hold after every step. The runs are short; their accuracies
//! mean nothing. `quality.rs` does the full run.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use eblora::report::result::{RunResult, SCHEMA, VERSION};
use tempfile::TempDir;

/// Flags of the run that most tests look at.
const SHORT: [&str; 6] = ["--steps", "6", "--split", "validation", "--seed", "3"];

fn eblora(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eblora")).args(args).current_dir(folder).output().unwrap()
}

/// A finished run: its folder, what it printed and what it measured.
struct Run {
    folder: TempDir,
    stdout: String,
    stderr: String,
    result: RunResult,
}

impl Run {
    fn new(verb: &[&str], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = eblora(&[verb, flags].concat(), folder.path());
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(output.status.code(), Some(0), "{flags:?}: {stderr}");
        let json = fs::read(folder.path().join("eblora-demo/result.json")).unwrap();
        let result = RunResult::from_json(&json, "result.json").unwrap();
        Self { folder, stdout, stderr, result }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join("eblora-demo").join(file)).unwrap()
    }

    /// The result without what may differ between two runs of one seed. Rust's shortest decimal tells any two bit
    /// patterns of a number apart.
    fn numbers(&self) -> String {
        let mut result = self.result.clone();
        result.threads = 0;
        for method in &mut result.methods {
            (method.seconds, method.peak_memory_bytes) = (0.0, None);
        }
        format!("{result:#?}")
    }
}

/// All three methods, on one thread.
fn short_run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| Run::new(&["demo"], &[&SHORT[..], &["--threads", "1"]].concat()))
}

/// Where two texts first differ.
fn difference(a: &str, b: &str) -> Option<String> {
    let differs = a.lines().zip(b.lines()).enumerate().find(|(_, (a, b))| a != b);
    let line = differs.map(|(i, (a, b))| format!("line {}: {a} | {b}", i + 1));
    line.or_else(|| (a != b).then(|| "one goes on".to_owned()))
}

#[test]
fn a_run_prints_its_table_and_its_progress() {
    let run = short_run();
    let table = &run.stdout;
    for part in ["lora-ft: accuracy (%)", "ebo: accuracy (%)", "eblora: accuracy (%)", "summary", "MFN", "BWT"] {
        assert!(table.contains(part), "{part}:\n{table}");
    }
    assert!(!table.contains('\u{1b}'), "escapes in a pipe");
    assert!(table.contains("report: eblora-demo"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(run.stderr.contains("eblora") && !run.stderr.contains("error"), "{}", run.stderr);
}

#[test]
fn a_result_holds_every_cell() {
    let result = &short_run().result;
    assert_eq!((result.schema.as_str(), result.version, result.seed, result.threads), (SCHEMA, VERSION, 3, 1));
    assert_eq!((result.config.steps, result.config.split.as_str()), (6, "validation"));
    let tasks = result.tasks.len();
    assert_eq!(tasks, 5);
    assert_eq!(result.methods.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["lora-ft", "ebo", "eblora"]);
    for method in &result.methods {
        assert_eq!((method.zero_shot.len(), method.accuracy.len()), (tasks, tasks));
        for row in &method.accuracy {
            assert_eq!(row.len(), tasks);
            assert!(row.iter().all(|a| (0.0..=100.0).contains(a)), "{row:?}");
        }
        assert_eq!(method.zero_shot, result.methods[0].zero_shot, "all start from one base");
        assert_eq!(method.loss.len(), tasks); // six steps are one point a task
        assert!(method.spectra.iter().any(|s| s.task == tasks - 1 && s.step == 6));
        assert!(method.seconds > 0.0);
        let mfn = method.accuracy[tasks - 1].iter().sum::<f64>() / tasks as f64;
        assert!((method.mfn - mfn).abs() < 1e-9);
    }
}

#[test]
fn the_constraints_hold_after_every_step() {
    let [lora, ebo, eblora] = &short_run().result.methods[..] else { panic!("three methods") };
    assert_eq!((lora.orthonormality_error, lora.subspace_leak, ebo.subspace_leak), (None, None, None));
    for method in [ebo, eblora] {
        let error = method.orthonormality_error.unwrap();
        assert!(error <= 5e-6, "{}: |XᵀX − I| = {error:e}", method.name);
        for spectrum in &method.spectra {
            // Equal singular values are the point of the method: σ₁²/Σσ² is 1/r.
            let energy = spectrum.top_share * spectrum.sigma.len() as f64;
            assert!((energy - 1.0).abs() < 1e-4, "{}: {spectrum:?}", method.name);
        }
    }
    let leak = eblora.subspace_leak.unwrap();
    assert!(leak > 0.0 && leak <= 1e-5, "|MᵀV| = {leak:e}");
    assert!(lora.subspace.is_empty() && ebo.subspace.is_empty());
    for pair in eblora.subspace.iter().flat_map(|a| eblora.subspace.iter().map(move |b| (a, b))) {
        let (a, b) = pair;
        assert!(a.k <= a.dim && (a.site != b.site || a.task > b.task || a.k <= b.k), "M shrinks: {pair:?}");
    }
}

#[test]
fn page_and_picture_stand_alone() {
    let run = short_run();
    let page = run.read("report.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert!(page.matches("<svg").count() >= 10, "{} figures", page.matches("<svg").count());
    for resource in ["src=", "href=", "url(", "@import", "<script", "http://", "https://"] {
        assert!(!page.contains(resource), "{resource}");
    }
    let picture = run.read("forgetting.svg");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    // The one address in it is the name of the SVG namespace, which nobody loads.
    let rest = picture.replacen("xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    assert!(!rest.contains("http") && !rest.contains("href="));
    for task in &run.result.tasks {
        assert!(page.contains(task.as_str()) && picture.contains(task.as_str()), "{task}");
    }
    let mut left: Vec<_> = (fs::read_dir(run.folder.path().join("eblora-demo")).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["forgetting.svg", "report.html", "result.json"]);
}

#[test]
fn a_report_of_the_result_is_the_same() {
    let run = short_run();
    let again = eblora(&["report", "eblora-demo/result.json", "--out", "again"], run.folder.path());
    assert_eq!(again.status.code(), Some(0));
    let page = fs::read_to_string(run.folder.path().join("again/report.html")).unwrap();
    assert_eq!(difference(&page, &run.read("report.html")), None);
    fs::remove_dir_all(run.folder.path().join("again")).unwrap();
}

#[test]
fn a_seed_decides_a_run_to_the_bit_on_one_thread_and_on_two() {
    let (one, two) = (short_run(), Run::new(&["demo"], &[&SHORT[..], &["--threads", "2", "--quiet"]].concat()));
    assert_eq!((one.result.threads, two.result.threads), (1, 2));
    assert!(two.stderr.is_empty(), "{}", two.stderr);
    assert_eq!(difference(&one.numbers(), &two.numbers()), None);
}

#[test]
fn another_seed_gives_another_run_and_the_comparison_sees_it() {
    let flags = ["--steps", "6", "--split", "validation", "--seed", "4", "--methods", "eblora", "--threads", "1"];
    let (mut other, first) = (Run::new(&["demo"], &flags), short_run());
    let (a, b) = (&other.result.methods[0], &first.result.methods[2]);
    assert_ne!(a.loss, b.loss);
    assert_ne!(a.accuracy, b.accuracy);
    assert_ne!(a.spectra, b.spectra);
    // The last bit of one number is enough for `difference`.
    let before = other.numbers();
    let sigma = &mut other.result.methods[0].spectra[7].sigma[0];
    *sigma = f64::from_bits(sigma.to_bits() + 1);
    assert!(difference(&before, &other.numbers()).is_some());
}

#[test]
fn without_a_verb_it_is_the_demo() {
    let flags = ["--steps", "1", "--split", "validation", "--methods", "lora-ft", "--threads", "2", "--quiet"];
    let (plain, demo) = (Run::new(&[], &flags), Run::new(&["demo"], &flags));
    assert_eq!(difference(&plain.numbers(), &demo.numbers()), None);
    assert!(plain.stdout.contains("lora-ft: accuracy (%)"));
}

#[test]
fn each_method_has_its_own_rank_and_a_given_one_is_for_all() {
    let flags = ["--steps", "1", "--test-images", "20", "--methods", "eblora,eblora-plus", "--threads", "2", "--quiet"];
    let ranks = |more: &[&str]| -> Vec<String> {
        let run = Run::new(&["demo"], &[&flags[..], more].concat());
        run.result.methods.iter().map(|method| method.settings["rank"].clone()).collect()
    };
    assert_eq!(ranks(&[]), ["8", "32"]);
    assert_eq!(ranks(&["--rank", "4"]), ["4", "4"]);
}

#[test]
fn a_base_of_another_size_is_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/vit_mean");
    let output = eblora(&["--base", base, "--rank", "4"], folder.path());
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.starts_with("error: the base ") && message.lines().count() == 1, "{message}");
    let expected = "takes images of 1×9×9, but those of task fashion are 1×28×28; choose another base";
    assert!(message.contains(expected), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_benchmark_prints_json_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = ["bench", "--device", "cpu", "--only", "vit_step", "--repeats", "2", "--threads", "1"];
    let output = eblora(&[&cpu[..], &["--json", "-"]].concat(), folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let bench: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = bench["results"].as_array().unwrap();
    let names: Vec<_> = results.iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["vit_step/lora", "vit_step/eblora"]);
    for result in results {
        assert_eq!((&result["threads"], &result["runs"]), (&1.into(), &2.into()));
        let times = ["median_ms", "min_ms", "forward_ms", "backward_ms", "optimizer_ms"];
        assert!(times.iter().all(|key| result[key].as_f64().is_some_and(|ms| ms > 0.0)), "{result}");
    }
    let table = eblora(&cpu, folder.path());
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("vit_step/lora") && table.contains("EBLoRA / LoRA: "), "{table}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_benchmark_measures_every_device_by_its_clock() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.json");
    let only = "matmul/512,matmul_bf16,skinny/x_v,symmetric_eigen/224,readback";
    let args = ["bench", "--only", only, "--repeats", "1", "--threads", "1", "--json", file.to_str().unwrap()];
    let output = eblora(&args, folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    let bench: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let devices = bench["devices"].as_array().unwrap();
    assert!(devices.len() > 1 && devices[0]["kind"] == "cpu", "{devices:?}");
    for device in devices {
        let name = device["name"].as_str().unwrap();
        assert!(table.contains(name), "{name} is missing in\n{table}");
        let of = |figure: &str| {
            let all = bench["results"].as_array().unwrap();
            all.iter().find(|r| r["device"] == name && r["name"] == figure)
        };
        let cpu = device["kind"] == "cpu";
        for figure in ["matmul/512", "matmul_bf16/1024", "skinny/x_v", "symmetric_eigen/224x16"] {
            let found = of(figure).unwrap_or_else(|| panic!("{figure} of {name} is missing"));
            let (ms, counted) = (found["median_ms"].as_f64().unwrap(), figure.starts_with("symmetric").then_some(()));
            assert!(ms > 0.0 && found["gflops"].as_f64().is_some() == counted.is_none(), "{found}");
            assert!(!cpu || found["clock"] == "host", "{found}");
        }
        // Operations over time: 2·512³ in median_ms.
        let square = of("matmul/512").unwrap();
        let rate = 2.0 * 512_f64.powi(3) / (square["median_ms"].as_f64().unwrap() * 1e6);
        assert!((square["gflops"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9, "{square}");
        assert_eq!(of("readback").is_some(), !cpu, "the CPU has nothing to read back from");
    }
}

#[test]
fn a_figure_that_is_none_is_refused_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let output = eblora(&["bench", "--only", "matmul,flops"], folder.path());
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("no figure is called flops") && message.contains("optimizer_7b/eblora"), "{message}");
}
