use std::path::Path;

use super::{ConfigError, Override, RunConfig, TrainSection, template};
use crate::model::Family;
use crate::run::{MethodConfig, MethodName};

const FAMILIES: [Family; 3] = [Family::Vit, Family::Bert, Family::Llama];

fn parse(text: &str, overrides: &[&str]) -> Result<RunConfig, ConfigError> {
    let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().unwrap()).collect();
    RunConfig::parse(text, "run.toml", Path::new("/data"), &overrides)
}

const SMALL: &str =
    "[model]\nbase = \"m\"\n[[method]]\nname = \"ebo\"\n[[task]]\nname = \"a\"\ntrain = \"a.csv\"\ntest = \"b.csv\"\n";

fn message(text: &str, overrides: &[&str]) -> String {
    parse(text, overrides).unwrap_err().to_string()
}

#[test]
fn templates_are_configs_with_the_defaults() {
    for family in FAMILIES {
        let config = parse(&template(family), &[]).unwrap();
        assert_eq!(config.seeds, [0]);
        assert_eq!(config.train, TrainSection::default());
        assert_eq!(config.methods, [MethodName::LoraFt, MethodName::Eblora].map(MethodConfig::new));
        assert_eq!(config.tasks.len(), 2);
    }
}

/// What is commented out in a template is what happens without it, and no key is missing.
#[test]
fn commented_keys_are_the_defaults() {
    for family in FAMILIES {
        let text = template(family);
        let active: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
            .collect();
        let all = parse(&active, &[]).unwrap_or_else(|e| panic!("{e}\n{active}"));
        let plain = parse(&text, &[]).unwrap();
        assert_eq!(all.train.trainer(0).schedule, plain.train.trainer(0).schedule);
        let options = |train: &TrainSection| TrainSection {
            gradient_sketch: None,
            train_samples: None,
            test_samples: None,
            ..train.clone()
        };
        assert_eq!(options(&all.train), plain.train);
        for (all, plain) in all.methods.iter().zip(&plain.methods) {
            use eblora_core::backend::Cpu;
            let settings = |method: &MethodConfig| method.make::<Cpu<f32>>().settings();
            let all = MethodConfig { budget: None, ..all.clone() };
            assert_eq!(settings(&all), settings(plain));
            let written = toml::Table::try_from(&all).unwrap();
            let missing: Vec<_> =
                all.name.keys().iter().filter(|key| **key != "budget" && !written.contains_key(**key)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
        assert_eq!(all.model.family, Some(family));
        assert_eq!((all.model.max_tokens, all.model.temperature), (plain.model.max_tokens, plain.model.temperature));
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(SMALL, &["task.0.test=/else/b.csv"]).unwrap();
    assert_eq!((&*config.model.base, &*config.out), ("/data/m", "/data/eblora-run"));
    assert_eq!((&*config.tasks[0].train, &*config.tasks[0].test), ("/data/a.csv", "/else/b.csv"));
    assert!(!parse(SMALL, &["model.base=~/m"]).unwrap().model.base.contains('~'));
}

#[test]
fn the_resolved_config_is_the_config() {
    for family in FAMILIES {
        let config = parse(&template(family), &["train.steps=7", "method.1.epsilon=0.5"]).unwrap();
        assert_eq!(parse(&config.to_toml().unwrap(), &[]).unwrap(), config);
        assert_eq!((config.train.steps, config.methods[1].epsilon), (7, Some(0.5)));
    }
}

#[test]
fn each_fault_is_told_with_its_place() {
    let with = |line: &str| format!("{SMALL}{line}\n");
    assert_eq!(message("seeds = [0\n", &[]), "run.toml:1:11: unclosed array, expected `]`");
    assert!(
        message(&with("[train]\nstps = 5"), &[])
            .starts_with("run.toml:10:1: `train.stps`: unknown field `stps`, expected one of `steps`")
    );
    assert!(message(&format!("colour = 1\n{SMALL}"), &[]).starts_with("run.toml:1:1: `colour`: unknown field"));
    assert_eq!(
        message(&with("[train]\n  steps = \"many\""), &[]),
        "run.toml:10:3: `train.steps`: invalid type: string \"many\", expected a whole number, 0 or above"
    );
    assert!(
        message(&with("[train]\nsteps = -1"), &[])
            .contains("run.toml:10:1: `train.steps`: invalid value: integer `-1`")
    );
    assert!(message("[model]\nbase = \"m\"\n", &[]).contains("missing field `method`"));
    assert!(
        message(&SMALL.replace("ebo", "eblora2"), &[])
            .starts_with("run.toml:4:1: `method.0.name`: unknown variant `eblora2`, expected one of `lora-ft`")
    );
    assert_eq!(
        message(&with("[train]\nwarmup = 2"), &[]),
        "run.toml:10:1: `train.warmup`: 2 is not in the range 0 ≤ warmup ≤ 1"
    );
    let twice = format!("{SMALL}[[task]]\ntrain = \"x\"\ntest = \"x\"\nname = \"a\"\n");
    assert_eq!(message(&twice, &[]), "run.toml:12:1: `task.1.name`: `a` is there twice");
    let methods = format!("{SMALL}[[method]]\nname = \"ebo\"\n");
    assert!(
        message(&methods, &[]).starts_with("run.toml:10:1: `method.1.name`: `ebo` is there twice: give each a `label`")
    );
    assert!(
        message(&SMALL.replace("\"a\"", "\"../a\""), &[])
            .contains("run.toml:6:1: `task.0.name`: must be made of letters")
    );
    assert!(
        message(&format!("seeds = [1, 1]\n{SMALL}"), &[]).starts_with("run.toml:1:13: `seeds.1`: 1 is there twice")
    );
    assert!(
        message(&with("prompt = \"no place\""), &[])
            .contains("run.toml:9:1: `task.0.prompt`: does not contain `{text}`")
    );
    assert!(
        message(
            &SMALL.replace("\"m\"", "\"m\"\nfamily = \"bert\"").replace("test", "choices = [\"x\", \"y\"]\ntest"),
            &[]
        )
        .contains("is for language models only")
    );
    assert_eq!(
        message(&SMALL.replace("name = \"ebo\"", "name = \"ebo\"\nepsilon = 0.9"), &[]).split(':').next(),
        Some("run.toml")
    );
}

#[test]
fn faults_of_overrides_are_told_with_the_override() {
    assert_eq!(
        message(SMALL, &["train.steps=0"]),
        "\"train.steps=0\" on the command line: `train.steps`: 0 is not in the range 1.."
    );
    assert!(
        message(SMALL, &["train.stps=1"])
            .starts_with("\"train.stps=1\" on the command line: `train.stps`: unknown field `stps`")
    );
    assert!(message(SMALL, &["method.4.rank=1"]).contains("`method` has 1 entries"));
    assert!(message(SMALL, &["device="]).starts_with("\"device=\" on the command line: `device`: cpu, gpu"));
}

#[test]
fn files_that_are_none_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    assert!(RunConfig::read(&file, &[]).unwrap_err().to_string().contains("`eblora init` writes a config"));
    std::fs::write(&file, b"seeds = [0]\n# \xff\n").unwrap();
    assert!(RunConfig::read(&file, &[]).unwrap_err().to_string().ends_with("run.toml:2:3: not UTF-8"));
    std::fs::write(&file, SMALL).unwrap();
    let config = RunConfig::read(&file, &[]).unwrap();
    assert_eq!(Path::new(&config.model.base), std::path::absolute(folder.path()).unwrap().join("m"));
}
