//! Adapters and models that we write, loaded by stock PEFT and transformers: the same logits. Needs Python.

#[path = "train/files.rs"]
#[expect(dead_code, reason = "the tests of `eblora train` use the rest")]
mod files;
mod peft_models;

use std::fs;
use std::path::Path;
use std::process::Command;

use eblora::model::Family;
use eblora::peft::merged::Base;
use eblora::peft::{AdapterSet, PeftAdapter, sum};
use eblora::run::MethodName;
use eblora_core::adapter::{HostAdapters, HostFactors};
use eblora_core::linalg::random_orthonormal;
use eblora_core::method::After;
use eblora_core::model::Site;
use eblora_core::random::Random;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use files::{Project, every_method};
use peft_models::{Case, How, difference, fixture, logits_with};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/check_peft.py");

/// Family, base, and the inputs that are used.
const MODELS: [(&str, Family, &str); 5] = [
    ("bert", Family::Bert, "bert"),
    ("vit", Family::Vit, "vit_cls"),
    ("vit", Family::Vit, "vit_cls_v5"),
    ("llama", Family::Llama, "llama_untied"),
    ("llama", Family::Llama, "llama_tied"),
];

/// What one Python is asked to do; starting it takes longer than all of it.
#[derive(Default)]
struct Jobs(Vec<(String, Vec<String>)>);

impl Jobs {
    fn add(&mut self, verb: &str, family: &str, base: &Path, adapter: Option<&Path>, case: &Path) {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut args = vec![verb.to_owned(), "--family".to_owned(), family.to_owned()];
        args.extend(["--base".to_owned(), text(base), "--case".to_owned(), text(case)]);
        if let Some(adapter) = adapter {
            args.extend(["--adapter".to_owned(), text(adapter)]);
        }
        let shown = adapter.unwrap_or(base).display();
        self.0.push((format!("{verb} {family} {shown}"), args));
    }

    /// What failed of each.
    fn failures(self) -> Vec<(String, Option<String>)> {
        let Some(python) = std::env::var_os("EBLORA_PYTHON") else {
            panic!(
                "EBLORA_PYTHON is not set: it must name a Python with tests/python/requirements.txt installed; \
                 `cargo xtask python` makes one and says where it is"
            );
        };
        let folder = tempfile::tempdir().unwrap();
        let (names, args): (Vec<_>, Vec<_>) = self.0.into_iter().unzip();
        let file = folder.path().join("jobs.json");
        fs::write(&file, serde_json::to_string(&args).unwrap()).unwrap();
        // No network: everything is in folders, and PEFT would look for a base by its name.
        let output = Command::new(&python).args([SCRIPT, "batch"]).arg(&file).env("HF_HUB_OFFLINE", "1").output();
        let output = output.unwrap_or_else(|e| panic!("EBLORA_PYTHON={}: {e}", python.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let failures: Vec<Option<String>> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(failures.len(), names.len());
        names.into_iter().zip(failures).collect()
    }

    fn all_pass(self) {
        let failed: Vec<_> = self.failures().into_iter().filter(|(_, failure)| failure.is_some()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

/// The same inputs with other logits, `rows` of them, into a file.
fn write_case(inputs: &Case, (logits, rows): &(Vec<f32>, usize), file: &Path) {
    let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
    let stored = SafeTensors::deserialize(&inputs.bytes).unwrap();
    let own = TensorView::new(Dtype::F32, vec![*rows, logits.len() / rows], &bytes).unwrap();
    let views = stored.iter().filter(|(name, _)| *name != "logits").chain([("logits", own)]);
    fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// One task's adapters as EBLoRA leaves them: orthonormal factors, one magnitude, and ranks that have shrunk here and there.
fn task(number: u64, sites: &[Site]) -> HostAdapters<f32> {
    let rng = &mut Random::new(number, "peft_python");
    let factors =
        sites.iter().enumerate().filter(|(site, _)| !(*site as u64 + number).is_multiple_of(5)).map(|(site, s)| {
            let rank = 1 + (site + number as usize) % 4;
            let mut factor = |n| random_orthonormal::<f32>(n, rank, rng).unwrap();
            HostFactors { site, u: factor(s.out), v: factor(s.inp), s: 0.3 + 0.1 * (site % 7) as f32 }
        });
    HostAdapters { factors: factors.collect(), fixed: None }
}

/// Writes a run of three tasks; the sum of `tasks` of them is what our model computes with.
fn write_run(folder: &Path, family: Family, base: &Path, sites: &[Site]) -> AdapterSet {
    let mut set = AdapterSet::create(folder, Some(base.display().to_string()), family).unwrap();
    for number in 1..=3 {
        set.add_host(&format!("task {number}"), After::Merge, &task(number, sites), sites).unwrap();
    }
    set
}

#[test]
#[ignore = "needs Python: cargo xtask test --only peft"]
fn stock_peft_computes_what_we_do() {
    let (root, mut jobs) = (tempfile::tempdir().unwrap(), Jobs::default());
    for (name, family, base_name) in MODELS {
        let folder = root.path().join(base_name);
        let (base, run) = (fixture(base_name), folder.join("run"));
        let inputs = Case::read(&fixture(&format!("peft/{name}.safetensors")));
        let mut set = None;
        logits_with(name, &base, &inputs, How::Attached, |sites| {
            set = Some(write_run(&run, family, &base, sites));
            None
        });
        let set = set.unwrap();
        // One task and three stacked; the first as the run leaves it in its folder.
        for (count, adapter) in [(1, run.join("01-task-1")), (3, folder.join("sum"))] {
            let sum = set.sum(count - 1).unwrap();
            if count > 1 {
                sum.write(&adapter).unwrap();
            }
            let [attached, merged] =
                [How::Attached, How::Merged].map(|how| logits_with(name, &base, &inputs, how, |_| Some(sum.clone())));
            let error = difference(&merged.0, &attached.0);
            assert!(error < 2e-5, "{base_name}: attached and merged differ by {error:e}");
            let case = |how: &str| folder.join(format!("{how}{count}.safetensors"));
            write_case(&inputs, &attached, &case("attached"));
            write_case(&inputs, &merged, &case("merged"));
            let whole = folder.join(format!("whole{count}"));
            Base::open(&base).unwrap().write_merged(&sum, &whole).unwrap();
            for how in ["attached", "merged"] {
                jobs.add("check", name, &base, Some(&adapter), &case(how));
                jobs.add("check", name, &whole, None, &case(how));
            }
        }
    }
    jobs.all_pass();
}

/// Two tasks of random images of two classes on the small ViT; the bundled one is none that stock transformers knows.
fn images() -> Project {
    let project = Project::images();
    for file in ["config.json", "model.safetensors"] {
        project.write(&format!("base/{file}"), fs::read(fixture("vit_cls").join(file)).unwrap());
    }
    let array = |shape: &str, values: Vec<u8>| {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &values].concat()
    };
    let mut rng = Random::new(1, "images");
    let mut config = "threads = 1\nout = \"run\"\n[model]\nbase = \"base\"\n[train]\nbatch = 8\n".to_owned();
    for (task, classes) in [("one", [0, 1]), ("two", [3, 2])] {
        config += &format!("[[task]]\nname = \"{task}\"\n");
        for (split, n) in [("train", 16), ("test", 4)] {
            let labels: Vec<u8> = (0..n).map(|i| classes[i % 2]).collect();
            let light = |i: usize| 128.0 + [30.0, -30.0][i / 200 % 2] + 20.0 * rng.normal();
            project.write(
                &format!("{task}-{split}.npy"),
                array(&format!("{n}, 2, 10, 10"), (0..n * 200).map(light).map(|x: f64| x as u8).collect()),
            );
            project.write(&format!("{task}-{split}-labels.npy"), array(&format!("{n},"), labels));
            config += &format!("{split} = \"{task}-{split}.npy\"\n{split}_labels = \"{task}-{split}-labels.npy\"\n");
        }
    }
    project.write("run.toml", config);
    project
}

/// What a run of each method leaves, in the end and after its first task. `eblora eval` gives the run's own accuracies with
/// it (`train/runs.rs`).
#[test]
#[ignore = "needs Python: cargo xtask test --only peft"]
fn stock_peft_computes_what_every_method_leaves() {
    let methods = every_method();
    let read = |file: &str| Case::read(&fixture(&format!("peft/{file}.safetensors")));
    let projects = [
        ("vit", images(), read("vit")),
        ("bert", Project::texts(), read("bert")),
        ("llama", Project::prompts(), read("llama")),
    ];
    let mut jobs = Jobs::default();
    for (family, project, inputs) in &projects {
        let base = project.path("base");
        project.succeeds(&["train", "run.toml", "--quiet", "train.steps=40", &methods]);
        let set = AdapterSet::read(project.path("run/lora-ft/adapters")).unwrap();
        let first = set.tasks()[0].name.as_str();
        for method in MethodName::ALL {
            for (when, task) in [("first", &["--task", first][..]), ("end", &[])] {
                let (source, out) = (format!("run/{method}/adapters"), format!("{method}-{when}"));
                project.succeeds(&[&["export", &source, "--format", "peft", "--out", &out], task].concat());
                let adapter = PeftAdapter::read(project.path(&out)).unwrap();
                let computed = logits_with(family, &base, inputs, How::Attached, |_| Some(adapter));
                let case = project.path(&format!("{out}.safetensors"));
                write_case(inputs, &computed, &case);
                jobs.add("check", family, &base, Some(&project.path(&out)), &case);
            }
            let (source, whole) = (format!("run/{method}/adapters"), format!("{method}-whole"));
            project.succeeds(&["export", &source, "--format", "merged", "--out", &whole]);
            jobs.add("check", family, &project.path(&whole), None, &project.path(&format!("{method}-end.safetensors")));
        }
    }
    jobs.all_pass();
}

#[test]
#[ignore = "needs Python: cargo xtask test --only peft"]
fn what_peft_makes_now_is_read_as_it_means_it() {
    let (root, mut jobs) = (tempfile::tempdir().unwrap(), Jobs::default());
    let [adapter, again, case] = ["adapter", "again", "case.safetensors"]
        .map(|part| move |folder: &Path, base: &str| folder.join(base).join(part));
    for (name, _, base) in MODELS {
        fs::create_dir(root.path().join(base)).unwrap();
        let (adapter, case) = (adapter(root.path(), base), case(root.path(), base));
        jobs.add("make", name, &fixture(base), Some(&adapter), &case);
    }
    jobs.all_pass();
    let mut jobs = Jobs::default();
    for (name, _, base) in MODELS {
        let (adapter, again, case) = (adapter(root.path(), base), again(root.path(), base), case(root.path(), base));
        let (read, due) = (PeftAdapter::read(&adapter).unwrap(), Case::read(&case));
        for how in [How::Attached, How::Merged] {
            let (logits, _) = logits_with(name, &fixture(base), &due, how, |_| Some(read.clone()));
            let error = difference(&logits, &due.logits);
            assert!(error < 1e-4, "{base} {how:?}: {error:e}");
        }
        // And back again: what we make of it is the same adapter to PEFT.
        sum::stack(&[read]).unwrap().write(&again).unwrap();
        jobs.add("check", name, &fixture(base), Some(&again), &case);
    }
    jobs.all_pass();
}

#[test]
#[ignore = "needs Python: cargo xtask test --only peft"]
fn planted_faults_do_not_pass() {
    let (root, mut jobs) = (tempfile::tempdir().unwrap(), Jobs::default());
    let (base, case) = (fixture("bert"), fixture("peft/bert.safetensors"));
    let good = PeftAdapter::read(fixture("peft/bert")).unwrap();
    let mut larger = good.clone();
    larger.layers[3].lora.scale *= 1.05;
    // A prefix that the model doesn't have, in one layer.
    let mut astray = good.clone();
    astray.layers[0].module = format!("bert.{}", astray.layers[0].module);
    for (name, adapter) in [("good", &good), ("larger", &larger), ("astray", &astray), ("wider", &good)] {
        let folder = root.path().join(name);
        adapter.write(&folder).unwrap();
        jobs.add("check", "bert", &base, Some(&folder), &case);
    }
    // PEFT is to adapt layers that the file has nothing for.
    let file = root.path().join("wider/adapter_config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json["target_modules"].as_array_mut().unwrap().push("value".into());
    fs::write(&file, json.to_string()).unwrap();
    let failures: Vec<_> = jobs.failures().into_iter().map(|(_, failure)| failure.unwrap_or_default()).collect();
    assert_eq!(failures[0], "");
    assert!(failures[1].contains("logits differ by"), "{failures:?}");
    assert!(!failures[2].is_empty(), "{failures:?}");
    assert!(failures[3].contains("missing adapter keys"), "{failures:?}");
}
