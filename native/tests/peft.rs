//! Adapters as files, without Python: those that stock PEFT has made give its logits in our models, and the verbs
//! `inspect`, `merge` and `export` of the real binary.

mod peft_models;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use eblora::model::Family;
use eblora::peft::{AdapterSet, PeftAdapter, PeftLayer};
use eblora_core::adapter::LoraAdapter;
use eblora_core::faer::{Mat, Scale};
use eblora_core::linalg::random_orthonormal;
use eblora_core::method::After;
use eblora_core::random::Random;
use peft_models::{Case, How, difference, fixture, logits_with};
use serde_json::Value;

/// Family and base of each adapter under `tests/fixtures/peft`.
const MADE_BY_PEFT: [(&str, &str); 4] =
    [("bert", "bert"), ("vit", "vit_cls"), ("vit", "vit_cls_v5"), ("llama", "llama_untied")];

/// f32 in two orders of summation, some 300 operations deep.
const SAME: f32 = 2e-5;

fn eblora(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eblora")).args(args).current_dir(folder).output().unwrap()
}

fn done(folder: &Path, args: &[&str]) -> String {
    let output = eblora(args, folder);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(folder: &Path, args: &[&str]) -> String {
    let output = eblora(args, folder);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.matches("error:").count() == 1, "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    stderr
}

/// An energy-balanced update of the given layers of `llama_tied`.
fn balanced(seed: u64, ranks: &[(&str, usize)]) -> PeftAdapter {
    let rng = &mut Random::new(seed, "peft");
    let layer = |(module, rank): &(&str, usize)| {
        let mut factor = || random_orthonormal::<f32>(32, *rank, rng).unwrap();
        let (u, v) = (factor() * Scale(0.5f32), factor());
        let lora = LoraAdapter::new(v.transpose().to_owned(), u, 1.0).unwrap();
        PeftLayer { module: (*module).to_owned(), lora }
    };
    PeftAdapter { layers: ranks.iter().map(layer).collect(), ..PeftAdapter::default() }
}

const Q0: &str = "model.layers.0.self_attn.q_proj";
const O1: &str = "model.layers.1.self_attn.o_proj";

/// A set of three tasks, the second one kept and trained on, in `folder/run`.
fn write_set(folder: &Path) -> [PeftAdapter; 3] {
    let base = Some(fixture("llama_tied").display().to_string());
    let mut set = AdapterSet::create(&folder.join("run"), base, Family::Llama).unwrap();
    let tasks = [
        ("movie", After::Merge, balanced(1, &[(Q0, 2), (O1, 3)])),
        ("bank", After::Keep, balanced(2, &[(Q0, 1)])),
        ("news", After::Keep, balanced(3, &[(O1, 2)])),
    ];
    tasks.map(|(name, after, adapter)| {
        set.add(name, after, &adapter).unwrap();
        adapter
    })
}

fn delta(adapter: &PeftAdapter, module: &str) -> Mat<f32> {
    let layer = adapter.layers.iter().find(|layer| layer.module == module);
    layer.map_or_else(|| Mat::zeros(32, 32), |layer| layer.lora.delta())
}

#[test]
fn what_stock_peft_has_made_gives_its_logits() {
    for (family, base) in MADE_BY_PEFT {
        let (adapter, case) =
            (PeftAdapter::read(fixture(&format!("peft/{family}"))).unwrap(), format!("peft/{family}"));
        let case = Case::read(&fixture(&format!("{case}.safetensors")));
        for how in [How::Attached, How::Merged] {
            let (logits, _) = logits_with(family, &fixture(base), &case, how, |_| Some(adapter.clone()));
            let error = difference(&logits, &case.logits);
            assert!(error < SAME, "{family} on {base}, {how:?}: {error:e}");
        }
        let (without, _) = logits_with(family, &fixture(base), &case, How::Attached, |_| None);
        assert!(difference(&without, &case.logits) > 0.01, "{family}: a comparison that anything passes");
    }
}

#[test]
fn a_merged_folder_is_the_model_with_its_adapter() {
    for (family, base) in MADE_BY_PEFT {
        let folder = tempfile::tempdir().unwrap();
        let (adapter, base) = (fixture(&format!("peft/{family}")), fixture(base));
        let args = ["export", adapter.to_str().unwrap(), "--format", "merged", "--base", base.to_str().unwrap()];
        done(folder.path(), &[&args[..], &["--out", "merged"]].concat());
        let case = Case::read(&fixture(&format!("peft/{family}.safetensors")));
        let merged = folder.path().join("merged");
        let (logits, _) = logits_with(family, &merged, &case, How::Attached, |_| None);
        let error = difference(&logits, &case.logits);
        assert!(error < SAME, "{family}: {error:e}");
        let config = |folder: &Path| fs::read(folder.join("config.json")).unwrap();
        assert_eq!(config(&merged), config(&base));
    }
    // The same encoder under a head and in shards.
    let folder = tempfile::tempdir().unwrap();
    let (adapter, base) = (fixture("peft/bert"), fixture("bert_prefixed"));
    let args = ["export", adapter.to_str().unwrap(), "--base", base.to_str().unwrap(), "--format"];
    done(folder.path(), &[&args[..], &["merged", "--out", "merged"]].concat());
    let case = Case::read(&fixture("peft/bert.safetensors"));
    let (logits, _) = logits_with("bert", &folder.path().join("merged"), &case, How::Attached, |_| None);
    assert!(difference(&logits, &case.logits) < SAME);
    // For the same model, PEFT needs the head's names.
    done(folder.path(), &[&args[..], &["peft", "--out", "renamed"]].concat());
    let renamed = PeftAdapter::read(folder.path().join("renamed")).unwrap();
    assert!(renamed.layers.iter().all(|layer| layer.module.starts_with("bert.encoder.layer.")));
    assert_eq!(renamed.base_model.as_deref(), base.to_str());
}

#[test]
fn a_set_is_exported_as_of_any_task() {
    let folder = tempfile::tempdir().unwrap();
    let [movie, bank, news] = write_set(folder.path());
    let sum = |task: &[&str]| {
        let out = format!("out{}", task.len() + task.iter().map(|t| t.len()).sum::<usize>());
        done(folder.path(), &[&["export", "run", "--format", "peft", "--out", &out], task].concat());
        PeftAdapter::read(folder.path().join(out)).unwrap()
    };
    for (task, parts) in [
        (&["--task", "movie"][..], vec![&movie]),
        (&["--task", "bank"], vec![&movie, &bank]),
        (&[], vec![&movie, &news]), // the kept one of `bank` went on in `news`
    ] {
        let exported = sum(task);
        for module in [Q0, O1] {
            let due = parts.iter().fold(Mat::zeros(32, 32), |sum, part| sum + delta(part, module));
            assert!((delta(&exported, module) - due).norm_max() < 1e-6, "{task:?} {module}");
        }
    }
    // The base is the one that the set names.
    done(folder.path(), &["export", "run", "--format", "merged", "--out", "whole"]);
    assert!(folder.path().join("whole/model.safetensors").exists());
    for (args, part) in [
        (
            &["export", "run", "--format", "peft", "--out", "x", "--task", "cars"][..],
            "no task `cars`; there are: movie, bank, news",
        ),
        (
            &["export", "run/01-movie", "--format", "peft", "--out", "x", "--task", "movie"],
            "none of the folders is a set",
        ),
        (&["export", "run", "--format", "merged", "--out", "run"], "run: the folder is not empty"),
        (
            &["export", "nothing", "--format", "peft", "--out", "x"],
            "nothing: no adapter_config.json is there; no such folder",
        ),
        (&["export", "run", "--format", "merged", "--base", "run", "--out", "x"], "cannot read run/config.json"),
        (&["merge", "run", "--out", "x"], "it is a set of adapters"),
    ] {
        let message = refused(folder.path(), args);
        assert!(message.contains(part), "{message}");
        assert!(!folder.path().join("x").exists(), "{args:?} left something behind");
    }
    let bert = fixture("bert");
    let other = refused(
        folder.path(),
        &["export", "run", "--format", "merged", "--base", bert.to_str().unwrap(), "--out", "x"],
    );
    assert!(other.contains("nothing is called `model.layers.0.self_attn.q_proj` there"), "{other}");
    let nameless = balanced(1, &[(Q0, 1)]);
    nameless.write(&folder.path().join("nameless")).unwrap();
    let message = refused(folder.path(), &["export", "nameless", "--format", "merged", "--out", "x"]);
    assert!(message.contains("the adapters name no base: the base model is needed"), "{message}");
}

#[test]
fn adapters_are_merged_with_weights_and_smoothed() {
    let folder = tempfile::tempdir().unwrap();
    let [movie, bank, _] = write_set(folder.path());
    let read = |out: &str| PeftAdapter::read(folder.path().join(out)).unwrap();
    let said = done(folder.path(), &["merge", "run/01-movie", "run/02-bank", "--weights", "-1,0.5", "--out", "one"]);
    assert!(said.contains("one/adapter_config.json: 2 layer(s), rank 3"), "{said}");
    let due = delta(&movie, Q0) * Scale(-1.0f32) + delta(&bank, Q0) * Scale(0.5f32);
    assert!((delta(&read("one"), Q0) - due).norm_max() < 1e-6);
    let peft = fixture("peft/llama");
    done(folder.path(), &["merge", peft.to_str().unwrap(), "--smooth", "frobenius", "--out", "even"]);
    let sigma = read("even").layers[0].lora.singular_values().unwrap();
    assert!((sigma[0] / sigma[1] - 1.0).abs() < 1e-4, "{sigma:?}");
    for (args, part) in [
        (&["run/01-movie", "--weights", "1,2", "--out", "x"][..], "1 adapters and 2 weights"),
        (&["run/01-movie", "--weights", "1,nan", "--out", "x"], "a finite number is expected"),
        (&["run/01-movie", "--smooth", "median", "--out", "x"], "none, mean, frobenius"),
        (&["run/01-movie", "--weights", "0", "--smooth", "mean", "--out", "one"], "one: the folder is not empty"),
        (&["--out", "x"], "ADAPTER"),
    ] {
        let message = refused(folder.path(), &[&["merge"], args].concat());
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn inspection_tells_balanced_from_unbalanced() {
    let folder = tempfile::tempdir().unwrap();
    write_set(folder.path());
    let table = done(folder.path(), &["inspect", "run", "--json", "facts.json"]);
    for part in ["movie (merge): 2 layers", "bank (keep): 1 layers", "news (keep)", Q0, "5.0e-1 5.0e-1 …"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(!table.contains('\u{1b}') && table.lines().all(|line| line.chars().count() <= 100), "{table}");
    let facts: Value = serde_json::from_slice(&fs::read(folder.path().join("facts.json")).unwrap()).unwrap();
    let layer = &facts["adapters"][0]["layers"][1];
    assert_eq!((&layer["module"], &layer["rank"], &layer["in"]), (&O1.into(), &3.into(), &32.into()));
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((number(&layer["top_share"]) - 1.0 / 3.0).abs() < 1e-6 && (number(&layer["energy"]) - 0.75).abs() < 1e-6);
    assert!(
        (number(&layer["effective_rank"]) - 3.0).abs() < 1e-6 && number(&layer["b"]["orthonormality_error"]) < 1e-6
    );
    assert_eq!(facts["adapters"][2]["task"], "news");

    let peft = fixture("peft/llama");
    let json = done(folder.path(), &["inspect", peft.to_str().unwrap(), "--json", "-"]);
    let facts: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&facts["schema"], &facts["adapters"][0]["task"]), (&"eblora.inspection".into(), &Value::Null));
    assert!(number(&facts["adapters"][0]["total"]["orthonormality_error"]) > 0.1);
    assert!(refused(folder.path(), &["inspect", "nowhere"]).contains("nowhere: no adapter_config.json"));
    fs::write(folder.path().join("run/02-bank/adapter_config.json"), "{").unwrap();
    assert!(refused(folder.path(), &["inspect", "run"]).contains("02-bank/adapter_config.json: at"));
}

/// What was learnt on the bundled base, which is no folder, becomes a whole model all the same.
#[test]
fn the_bundled_base_is_exported_whole() {
    let folder = tempfile::tempdir().unwrap();
    let config = "model.base = \"bundled\"\nout = \"run\"\ntrain = { steps = 3, batch = 4, test_samples = 5 }\n\
                  method = [{ name = \"eblora\", rank = 2 }]\n[[task]]\nname = \"fashion\"\n\
                  train = \"bundled:fashion/train\"\ntest = \"bundled:fashion/test\"\n";
    fs::write(folder.path().join("run.toml"), config).unwrap();
    done(folder.path(), &["train", "run.toml", "--quiet"]);
    done(folder.path(), &["export", "run/eblora/adapters", "--format", "merged", "--out", "whole"]);
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/base");
    done(folder.path(), &["export", "run/eblora/adapters", "--format", "merged", "--base", assets, "--out", "same"]);
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        let [whole, same] = ["whole", "same"].map(|out| fs::read(folder.path().join(out).join(name)).unwrap());
        assert!(whole == same, "{name}");
    }
    done(folder.path(), &["export", "run/eblora/adapters", "--format", "peft", "--base", "bundled", "--out", "peft"]);
}
