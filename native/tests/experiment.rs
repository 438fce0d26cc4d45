//! Every experiment by the real binary, quickly: its table, its page, its numbers; and what it refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const NAMES: [&str; 9] =
    ["spectra", "smoothing", "ablation", "epsilon", "rank", "overhead", "memory", "interference", "order"];

/// These use the first of the seeds alone.
const ONE_SEED: [&str; 3] = ["spectra", "overhead", "memory"];

fn eblora(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eblora")).args(args).current_dir(folder).output().unwrap()
}

fn found(folder: &Path, name: &str) -> Value {
    let seeds = if ONE_SEED.contains(&name) { "1,2" } else { "1" };
    let args = ["experiment", name, "--quick", "--seeds", seeds, "--threads", "1", "--quiet", "--out", "found"];
    let output = eblora(&args, folder);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {err}");
    let json: Value = serde_json::from_slice(&fs::read(folder.join(format!("found/{name}.json"))).unwrap()).unwrap();
    let (claim, verdict) = (json["claim"].as_str().unwrap(), json["verdict"].as_str().unwrap());
    let outcome = if json["held"].as_bool().unwrap() { "held" } else { "did not hold" };
    assert!(out.contains(&format!("claim: {claim}\n{outcome}: {verdict}\n")), "{name}: {out}");
    let page = fs::read_to_string(folder.join(format!("found/{name}.html"))).unwrap();
    assert!(page.contains(&format!("It {outcome}.")) && page.contains("<svg"), "{name}");
    for table in json["tables"].as_array().unwrap() {
        let columns = table["columns"].as_array().unwrap().len();
        let rows = table["rows"].as_array().unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.as_array().unwrap().len() == columns), "{name}: {table}");
    }
    let lines = json["charts"].as_array().unwrap().iter().flat_map(|chart| chart["series"].as_array().unwrap());
    assert!(lines.clone().count() > 0 && lines.clone().all(|line| !line["points"].as_array().unwrap().is_empty()));
    json
}

/// What an experiment was run with.
fn setting<'a>(json: &'a Value, name: &str) -> &'a str {
    let settings = json["settings"].as_array().unwrap();
    settings.iter().find(|setting| setting[0] == name).unwrap()[1].as_str().unwrap()
}

/// The numbers of a table's column, by its name.
fn column(json: &Value, table: usize, name: &str) -> Vec<f64> {
    let table = &json["tables"][table];
    let at = table["columns"].as_array().unwrap().iter().position(|column| column == name).unwrap();
    table["rows"].as_array().unwrap().iter().map(|row| row[at].as_f64().unwrap_or(f64::NAN)).collect()
}

#[test]
fn every_experiment_tells_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let json = found(folder.path(), name);
        assert_eq!((&json["experiment"], setting(&json, "seeds")), (&name.into(), "1"), "the seeds that were used");
        match name {
            "smoothing" => {
                let tasks = json["tables"][1]["rows"].as_array().unwrap();
                assert_eq!(tasks.iter().filter(|row| row[0].is_string()).count(), 3, "a row for each task");
            }
            "ablation" => {
                let rows = json["tables"][0]["rows"].as_array().unwrap();
                let variants: Vec<_> = rows.iter().map(|row| row[0].as_str().unwrap()).collect();
                let all = ["lora-ft", "ebo", "eblora", "random-init", "qr-retraction", "gradients-at-base"];
                assert_eq!(variants, all);
                // Another init is another run: the variant was really trained.
                let numbers = |row: usize| ["MFN", "MFT", "BWT"].map(|name| column(&json, 0, name)[row]);
                assert_ne!(numbers(3), numbers(2), "random-init and eblora");
            }
            "spectra" => {
                // The rank is 8: EBLoRA's energy lies in equal parts.
                let methods = json["tables"][0]["rows"].as_array().unwrap();
                let at = methods.iter().position(|row| row[0] == "eblora").unwrap();
                assert!((column(&json, 0, "top share")[at] - 0.125).abs() < 1e-3);
                let lora = methods.iter().position(|row| row[0] == "lora-ft").unwrap();
                assert!(column(&json, 0, "top share")[lora] > 0.2);
            }
            "epsilon" => {
                let share = column(&json, 0, "M, % of inputs");
                assert!(share[0] > 0.0 && share[0] < share[1], "{share:?}");
            }
            "memory" => {
                let (stored, direct) = (column(&json, 0, "stored numbers"), column(&json, 0, "as M itself"));
                assert!(stored[0] > 0.0 && stored[0] <= direct[0] && stored[1] < direct[0], "{stored:?} {direct:?}");
                assert_eq!(stored[1], direct[1], "a budget keeps M itself");
                assert!(json["verdict"].as_str().unwrap().contains("EBO, which has no memory"));
                assert_eq!(stored.last(), Some(&0.0), "EBO has none");
            }
            "overhead" => {
                assert_eq!(setting(&json, "steps timed"), "5");
                assert!(column(&json, 0, "step").iter().all(|ms| *ms > 0.0));
                assert!(column(&json, 1, "by SVD").iter().all(|us| *us > 0.0));
            }
            "interference" => assert_eq!(column(&json, 0, "top share"), [0.125, 1.0]),
            _ => {}
        }
    }
}

#[test]
fn numbers_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = || {
        let json = found(folder.path(), "interference");
        (json["tables"].clone(), json["verdict"].clone())
    };
    let first = numbers();
    assert_eq!(first, numbers());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |args: &[&str]| {
        let output = eblora(&[&["experiment"], args].concat(), folder.path());
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && !err.contains("panicked"), "{err}");
        err
    };
    let unknown = refused(&["spectrum"]);
    assert!(unknown.contains("spectra") && unknown.contains("interference"), "{unknown}");
    assert!(refused(&["order", "--config", "none.toml"]).contains("none.toml"));
    assert!(refused(&["order", "--seeds", "x"]).contains("x"));
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(refused(&["order", "--quick", "--out", "file/found"]).contains("file"));
}
