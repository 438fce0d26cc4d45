//! Bad input on the real binary: exit code 2, exactly one message, no panic.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The bundled base, which the tests damage in copies.
const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/base");

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");

fn eblora(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eblora")).args(args).current_dir(folder).output().unwrap()
}

/// Runs in an empty folder and returns the one message.
fn refused_in(folder: &Path, args: &[&str]) -> String {
    let output = eblora(args, folder);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert_eq!(stderr.matches("error:").count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && !stderr.contains("panicked"), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    stderr
}

fn refused(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let message = refused_in(folder.path(), args);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{args:?} left something behind");
    message
}

/// Runs on a copy of the bundled base with one file replaced.
fn refused_with(file: &str, content: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        fs::copy(Path::new(BASE).join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join(file);
    fs::write(&path, content(fs::read(&path).unwrap())).unwrap();
    refused(&["demo", "--base", folder.path().to_str().unwrap()])
}

#[test]
fn unknown_flags_verbs_and_values() {
    assert!(refused(&["--colour"]).contains("--colour"));
    assert!(refused(&["train"]).contains("train"));
    let methods = refused(&["--methods", "lora-ft,olora"]);
    for known in ["olora", "lora-ft", "ebo", "eblora"] {
        assert!(methods.contains(known), "{methods}");
    }
    assert!(refused(&["demo", "--gradient-at", "nowhere"]).contains("base, merged"));
    assert!(refused(&["demo", "--split", "train"]).contains("test, validation"));
    assert!(refused(&["bench", "--threads", "1,0"]).contains("from 1 to 256"));
    assert!(refused(&["bench", "--repeats", "0"]).contains("from 1 on"));
    assert!(refused(&["bench", "--steps", "3"]).contains("--steps"));
}

#[test]
fn values_out_of_range() {
    for (flag, value, expected) in [
        ("--rank", "0", "from 1 on"),
        ("--rank", "-1", "--rank"),
        ("--rank", "97", "rank 97 is more than"),
        ("--epsilon", "0", "above 0 and at most 1"),
        ("--epsilon", "1.5", "above 0 and at most 1"),
        ("--epsilon", "NaN", "above 0 and at most 1"),
        ("--steps", "0", "from 1 on"),
        ("--steps", "many", "from 1 on"),
        ("--threads", "0", "from 1 to 256"),
        ("--threads", "100000", "from 1 to 256"),
        ("--seed", "x", "invalid"),
        ("--s-rate", "0", "above 0"),
        ("--lora-rate", "inf", "above 0"),
        ("--methods", "ebo,ebo", "named twice"),
        ("--methods", "", "--methods"),
    ] {
        let value = format!("{flag}={value}");
        let message = refused(&[&value]);
        assert!(message.contains(expected), "{value}: {message}");
    }
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    // Below a plain file, which no user can write, root neither.
    assert!(refused_in(folder.path(), &["--out", "file/out"]).contains("cannot make the folder file/out"));
    assert!(refused_in(folder.path(), &["--out", "file"]).contains("file is not a folder"));
}

#[test]
fn damaged_and_foreign_weights() {
    let message = refused_with("model.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec());
    assert!(message.contains("model.safetensors: truncated: 1237992 bytes are due, 618996 are there"), "{message}");
    let message = refused_with("model.safetensors", |bytes| bytes[..100].to_vec());
    assert!(message.contains("truncated"), "{message}");
    let message = refused_with("model.safetensors", |_| b"PK\x03\x04 a zip file by another name".to_vec());
    assert!(message.contains("not a safetensors file"), "{message}");
    // Sound, but of something else, and of a smaller ViT.
    let fixture = |name: &str| fs::read(format!("{FIXTURES}/{name}")).unwrap();
    let message = refused_with("model.safetensors", |_| fixture("gpm.safetensors"));
    assert!(message.contains("no tensor `vit.embeddings."), "{message}");
    let message = refused_with("model.safetensors", |_| fixture("vit_mean/model.safetensors"));
    assert!(message.contains("where [") && message.contains("is due"), "{message}");
    let message = refused_with("model.safetensors", |_| Vec::new());
    assert!(message.contains("truncated"), "{message}");
    let message = refused_with("model.safetensors", |mut bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    });
    assert!(message.contains("holds NaN"), "{message}");
}

#[test]
fn configs_of_other_models() {
    let message = refused_with("config.json", |_| br#"{"model_type":"bert","hidden_size":384}"#.to_vec());
    assert!(message.contains("another model") && message.contains("bert"), "{message}");
    let message = refused_with("config.json", |_| b"{".to_vec());
    assert!(message.contains("config.json"), "{message}");
    let swap = |from: &'static str, to: &'static str| {
        refused_with("config.json", move |json| String::from_utf8(json).unwrap().replacen(from, to, 1).into_bytes())
    };
    assert!(swap("\"hidden_size\": 96", "\"hidden_size\": 128").contains("where [128, 1, 7, 7] is due"));
    assert!(swap("\"num_attention_heads\": 4", "\"num_attention_heads\": 5").contains("5 heads do not divide"));
    assert!(swap("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5").contains("no tensor `vit.encoder.layer.4."));
    assert!(swap("\"head\": \"prototype\"", "\"head\": \"tree\"").contains("at `head`"));
    let message = refused_with("preprocessor_config.json", |_| br#"{"image_std":[0]}"#.to_vec());
    assert!(message.contains("`image_std`"), "{message}");
}

#[test]
fn folders_without_a_model() {
    assert!(refused(&["--base", "no/such/folder"]).contains("config.json"));
    let folder = tempfile::tempdir().unwrap();
    fs::copy(Path::new(BASE).join("config.json"), folder.path().join("config.json")).unwrap();
    let message = refused(&["--base", folder.path().to_str().unwrap()]);
    assert!(message.contains("neither model.safetensors nor"), "{message}");
}

#[test]
fn results_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused_in(folder.path(), &["report", "result.json"]).contains("cannot read result.json"));
    fs::write(folder.path().join("result.json"), "{}").unwrap();
    assert!(refused_in(folder.path(), &["report", "result.json"]).contains("not a result of eblora"));
    fs::write(folder.path().join("result.json"), r#"{"schema":"other","version":1}"#).unwrap();
    assert!(refused_in(folder.path(), &["report", "result.json"]).contains("schema \"other\""));
}

#[test]
fn help_and_version_are_no_errors() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["--help"][..], &["demo", "--help"], &["bench", "--help"], &["report", "--help"], &["--version"]] {
        let output = eblora(args, folder.path());
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_report_is_made_again_from_a_small_result() {
    let method = r#"{"name":"ebo","method":"ebo","settings":{},"learning_rates":{"s":0.003},"trainable_parameters":10,"zero_shot":[1,2],
        "accuracy":[[80.25,3],[40,70]],"mft":75.1,"mfn":55,"maa":67.6,"bwt":-40.2,"fwt_mtil":3,"fwt_cells":3,
        "spectra":[{"task":1,"step":5,"site":"layers.0.q","sigma":[2,1],"top_share":0.8,"effective_rank":1.6,
        "variance":0.25}],"subspace":[],"loss":[],"orthonormality_error":1e-7,"subspace_leak":null,"seconds":1.5,
        "peak_memory_bytes":null}"#;
    let result = format!(
        r#"{{"schema":"eblora.result","version":2,"eblora_version":"0","seed":3,"device":"cpu","threads":1,
        "platform":"none",
        "config":{{"base":"bundled","family":"vit","steps":5,"batch":2,"gradient_at":"base","split":"test",
        "train_samples":8,"measured_samples":4,"resolved":null}},"tasks":["first","second"],"methods":[{method}]}}"#
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("result.json"), result).unwrap();
    let output = eblora(&["report", "result.json", "--out", "again"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("80.2") && table.contains("-40.2") && !table.contains('\u{1b}'), "{table}");
    let page = fs::read_to_string(folder.path().join("again/report.html")).unwrap();
    assert!(page.contains("<td class=\"best\">80.25</td>"));
    assert!(fs::read_to_string(folder.path().join("again/forgetting.svg")).unwrap().starts_with("<svg"));
}
