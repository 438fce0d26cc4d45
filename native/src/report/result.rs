//! `result.json`: everything a run measured. The keys are explained in `docs/result-json.md`.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::formats::json;
use crate::model::Family;

/// What the file is.
pub const SCHEMA: &str = "eblora.result";
/// Version of the format; goes up when a key changes its meaning or goes away.
pub const VERSION: u32 = 2;

/// Why a result could not be read or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResultError {
    /// Not JSON, or a key that is missing or of the wrong type.
    #[error("{file}: not a result of eblora: at `{path}`: {reason}")]
    Json {
        /// The file.
        file: String,
        /// The key.
        path: String,
        /// What the parser says.
        reason: String,
    },
    /// Another file, or one of a later version.
    #[error("{file}: schema {schema:?} version {version}; this eblora reads {SCHEMA:?} version {VERSION}")]
    Schema {
        /// The file.
        file: String,
        /// Its schema.
        schema: String,
        /// Its version.
        version: u32,
    },
    /// Numbers that contradict each other, or are none.
    #[error("result: `{key}` {reason}")]
    Content {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of eblora that ran.
    pub eblora_version: String,
    /// Seed of the run.
    pub seed: u64,
    /// What computed: "cpu" or the name of a device.
    pub device: String,
    /// Threads.
    pub threads: usize,
    /// What the machine is: system, architecture, number of cores.
    pub platform: String,
    /// Settings that all methods share.
    pub config: RunConfig,
    /// Checksums of the base model and of each task's samples, by what they are of; empty in results of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// The tasks' names, in order.
    pub tasks: Vec<String>,
    /// One entry per method, in order.
    pub methods: Vec<MethodResult>,
}

/// Settings that all methods of a run share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The base model: "bundled" or its folder.
    pub base: String,
    /// What kind of model it is.
    pub family: Family,
    /// Steps per task.
    pub steps: usize,
    /// Samples per step.
    pub batch: usize,
    /// Where gradients are taken: "base" or "merged".
    pub gradient_at: String,
    /// What accuracies are measured on: "test" or "validation".
    pub split: String,
    /// Training samples of the largest task.
    pub train_samples: usize,
    /// Samples that accuracies are measured on, of the largest task.
    pub measured_samples: usize,
    /// The config as it was resolved, of a run that had one.
    pub resolved: Option<serde_json::Value>,
}

/// What one method did. Accuracies in per cent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodResult {
    /// What it is called in this run: its label, by default the method's name.
    pub name: String,
    /// The method by its name on the command line.
    pub method: String,
    /// All its settings, as text by name.
    pub settings: BTreeMap<String, String>,
    /// Its learning rates by name.
    pub learning_rates: BTreeMap<String, f64>,
    /// Parameters that are trained in each task.
    pub trainable_parameters: usize,
    /// Numbers that are kept at the end for later tasks: M or its complement, earlier factors, indices, samples; `null` in
    /// results of older versions.
    #[serde(default)]
    pub stored: Option<usize>,
    /// Accuracy of the untouched base on each task.
    pub zero_shot: Vec<f64>,
    /// `accuracy[i][j]`: after training task i, on task j; all T×T cells.
    pub accuracy: Vec<Vec<f64>>,
    /// The same where the model is told the task and chooses among its classes; `null` if not all of it was measured.
    #[serde(default)]
    pub masked_accuracy: Option<Vec<Vec<f64>>>,
    /// Mean accuracy on each task just after training it.
    pub mft: f64,
    /// Mean accuracy on all tasks at the end.
    pub mfn: f64,
    /// Mean over the stages of the mean over the tasks seen.
    pub maa: f64,
    /// Mean change of a task's accuracy from just trained to the end.
    pub bwt: f64,
    /// Forward transfer: mean over tasks 2… of the mean accuracy before training them.
    pub fwt_mtil: f64,
    /// Forward transfer: mean of the upper triangle.
    pub fwt_cells: f64,
    /// Singular values of the updates, several times during training, in order of task and step.
    pub spectra: Vec<Spectrum>,
    /// Growth of the gradient subspace; empty for methods without one.
    pub subspace: Vec<SubspaceSize>,
    /// The training loss, thinned.
    pub loss: Vec<LossPoint>,
    /// Largest |XᵀX − I| seen after any step; `null` where factors are not orthonormal by design.
    pub orthonormality_error: Option<f64>,
    /// Largest |MᵀV| seen after any step; `null` without a subspace.
    pub subspace_leak: Option<f64>,
    /// Wall-clock time, evaluation included.
    pub seconds: f64,
    /// Most resident memory while the method ran; `null` where it cannot be measured.
    pub peak_memory_bytes: Option<u64>,
}

/// Singular values of one adapter's update ΔW at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Index of the task in training.
    pub task: usize,
    /// Steps of that task done.
    pub step: usize,
    /// The linear: "layers.0.q".
    pub site: String,
    /// Singular values, largest first.
    pub sigma: Vec<f64>,
    /// σ₁²/Σσ².
    pub top_share: f64,
    /// exp of the entropy of the shares σ²/Σσ².
    pub effective_rank: f64,
    /// Variance of the singular values.
    pub variance: f64,
}

impl Spectrum {
    /// The shares σ²/Σσ²; `None` for an update that is still zero.
    pub fn shares(&self) -> Option<Vec<f64>> {
        let energy: f64 = self.sigma.iter().map(|s| s * s).sum();
        (energy > 0.0).then(|| self.sigma.iter().map(|s| s * s / energy).collect())
    }
}

/// Size of the gradient subspace M of one linear after one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubspaceSize {
    /// Index of the task just added.
    pub task: usize,
    /// The linear.
    pub site: String,
    /// Columns of M.
    pub k: usize,
    /// Rows of M: the linear's input size.
    pub dim: usize,
}

/// The loss at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Index of the task.
    pub task: usize,
    /// Steps of that task done.
    pub step: usize,
    /// Mean loss of the steps since the last point.
    pub loss: f64,
}

impl RunResult {
    /// The result of these methods, computed by this eblora on this machine.
    pub fn new(
        seed: u64,
        device: String,
        threads: usize,
        config: RunConfig,
        tasks: Vec<String>,
        methods: Vec<MethodResult>,
    ) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            version: VERSION,
            eblora_version: env!("CARGO_PKG_VERSION").to_owned(),
            seed,
            device,
            threads,
            platform: platform(),
            config,
            facts: BTreeMap::new(),
            tasks,
            methods,
        }
    }

    /// Parses and checks a `result.json`; `file` names it in errors.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self, ResultError> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
            version: u32,
        }
        let head: Head = parse(bytes, file)?;
        if (head.schema.as_str(), head.version) != (SCHEMA, VERSION) {
            return Err(ResultError::Schema { file: file.to_owned(), schema: head.schema, version: head.version });
        }
        let result: Self = parse(bytes, file)?;
        result.check()?;
        Ok(result)
    }

    /// The file's content, after a check.
    pub fn to_json(&self) -> Result<String, ResultError> {
        self.check()?;
        let broken = |e: serde_json::Error| content("json", e.to_string());
        Ok(serde_json::to_string(self).map_err(broken)? + "\n")
    }

    /// Checks that all numbers are finite and all tables have the size of the task list.
    pub fn check(&self) -> Result<(), ResultError> {
        if self.tasks.is_empty() {
            return Err(content("tasks", "is empty".to_owned()));
        }
        self.methods.iter().try_for_each(|method| method.check(self.tasks.len()))
    }
}

impl MethodResult {
    fn check(&self, tasks: usize) -> Result<(), ResultError> {
        let key = |part: &str| format!("{}.{part}", self.name);
        let sized = |part: &str, found: usize| {
            if found == tasks { Ok(()) } else { Err(content(&key(part), format!("has {found} entries, not {tasks}"))) }
        };
        let percents = |part: &str, row: &[f64]| {
            sized(part, row.len())?;
            match row.iter().find(|a| !(0.0..=100.0).contains(*a)) {
                Some(bad) => Err(content(&key(part), format!("holds {bad}, which is no percentage"))),
                None => Ok(()),
            }
        };
        percents("zero_shot", &self.zero_shot)?;
        sized("accuracy", self.accuracy.len())?;
        self.accuracy.iter().try_for_each(|row| percents("accuracy", row))?;
        if let Some(masked) = &self.masked_accuracy {
            sized("masked_accuracy", masked.len())?;
            masked.iter().try_for_each(|row| percents("masked_accuracy", row))?;
        }
        let mut numbers = vec![
            ("mft", self.mft),
            ("mfn", self.mfn),
            ("maa", self.maa),
            ("bwt", self.bwt),
            ("fwt_mtil", self.fwt_mtil),
            ("fwt_cells", self.fwt_cells),
            ("seconds", self.seconds),
        ];
        numbers.extend(self.learning_rates.values().map(|&rate| ("learning_rates", rate)));
        numbers.extend(self.orthonormality_error.map(|e| ("orthonormality_error", e)));
        numbers.extend(self.subspace_leak.map(|e| ("subspace_leak", e)));
        numbers.extend(self.loss.iter().map(|point| ("loss", point.loss)));
        for s in &self.spectra {
            numbers
                .extend(s.sigma.iter().chain([&s.top_share, &s.effective_rank, &s.variance]).map(|&v| ("spectra", v)));
        }
        if let Some((part, bad)) = numbers.iter().find(|(_, v)| !v.is_finite()) {
            return Err(content(&key(part), format!("is {bad}, which JSON cannot hold")));
        }
        let places = self.spectra.iter().map(|s| ("spectra", s.task));
        let places = places.chain(self.subspace.iter().map(|s| ("subspace", s.task)));
        let mut places = places.chain(self.loss.iter().map(|p| ("loss", p.task)));
        match places.find(|(_, task)| *task >= tasks) {
            Some((part, task)) => Err(content(&key(part), format!("names task {task} of {tasks}"))),
            None => Ok(()),
        }
    }

    /// The last spectra recorded in the last task, one per site.
    pub fn final_spectra(&self) -> Vec<&Spectrum> {
        let last = self.spectra.iter().map(|s| (s.task, s.step)).max();
        self.spectra.iter().filter(|s| Some((s.task, s.step)) == last).collect()
    }

    /// Mean over the sites of top share and effective rank, from [`Self::final_spectra`].
    pub fn final_balance(&self) -> Option<(f64, f64)> {
        let spectra = self.final_spectra();
        let mean = |f: fn(&Spectrum) -> f64| spectra.iter().map(|s| f(s)).sum::<f64>() / spectra.len() as f64;
        (!spectra.is_empty()).then(|| (mean(|s| s.top_share), mean(|s| s.effective_rank)))
    }

    /// [`Self::mfn`] where the model is told the task, if that was measured.
    pub fn masked_mfn(&self) -> Option<f64> {
        let last = self.masked_accuracy.as_ref()?.last()?;
        Some(last.iter().sum::<f64>() / last.len() as f64)
    }

    /// Mean accuracy over the tasks seen, after each task.
    pub fn mean_of_seen(&self) -> Vec<f64> {
        let mean = |(i, row): (usize, &Vec<f64>)| row[..=i].iter().sum::<f64>() / (i + 1) as f64;
        self.accuracy.iter().enumerate().map(mean).collect()
    }
}

/// Of this machine.
fn platform() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} {}, {cores} cores", std::env::consts::OS, std::env::consts::ARCH)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T, ResultError> {
    json::parse(bytes).map_err(|(path, reason)| ResultError::Json { file: file.to_owned(), path, reason })
}

fn content(key: &str, reason: String) -> ResultError {
    ResultError::Content { key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn json_round_trips_to_the_bit() {
        let result = example::result();
        let json = result.to_json().unwrap();
        assert_eq!(RunResult::from_json(json.as_bytes(), "result.json").unwrap(), result);
    }

    #[test]
    fn the_document_explains_every_key() {
        let doc = include_str!("../../../docs/result-json.md");
        fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    for (key, inner) in map {
                        found.push(key.clone());
                        if !["learning_rates", "settings", "resolved", "facts"].contains(&key.as_str()) {
                            keys(inner, found);
                        }
                    }
                }
                serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        keys(&serde_json::to_value(example::result()).unwrap(), &mut found);
        found.sort();
        found.dedup();
        assert!(found.len() > 30);
        for key in found {
            assert!(doc.contains(&format!("`{key}`")), "docs/result-json.md does not explain `{key}`");
        }
    }

    #[test]
    fn wrong_content_is_named() {
        let message = |change: fn(&mut RunResult)| {
            let mut result = example::result();
            change(&mut result);
            result.to_json().unwrap_err().to_string()
        };
        assert_eq!(message(|r| r.methods[0].zero_shot.truncate(2)), "result: `lora-ft.zero_shot` has 2 entries, not 5");
        assert!(message(|r| r.methods[1].accuracy[2][0] = 101.0).contains("`ebo.accuracy` holds 101"));
        assert!(
            message(|r| r.methods[0].masked_accuracy = Some(Vec::new())).contains("`lora-ft.masked_accuracy` has 0")
        );
        assert!(message(|r| r.methods[2].bwt = f64::NAN).contains("`eblora.bwt` is NaN"));
        assert!(message(|r| r.methods[2].spectra[0].task = 5).contains("names task 5 of 5"));
        assert!(message(|r| r.tasks.clear()).contains("`tasks` is empty"));
    }

    #[test]
    fn foreign_files_are_told_apart() {
        let message = |json: &str| RunResult::from_json(json.as_bytes(), "f").unwrap_err().to_string();
        assert!(message(r#"{"schema":"eblora.result","version":3}"#).contains("version 3; this eblora reads"));
        assert!(message(r#"{"schema":"eblora.result","version":2}"#).contains("missing field"));
        assert!(message("{").contains("not a result of eblora"));
    }

    #[test]
    fn results_from_before_masked_accuracies_are_still_read() {
        let mut json = serde_json::to_value(example::result()).unwrap();
        for method in json["methods"].as_array_mut().unwrap() {
            method.as_object_mut().unwrap().remove("masked_accuracy").unwrap();
        }
        let read = RunResult::from_json(json.to_string().as_bytes(), "f").unwrap();
        assert!(read.methods.iter().all(|method| method.masked_mfn().is_none()));
        assert_eq!(read.methods[0].accuracy, example::result().methods[0].accuracy);
    }

    #[test]
    fn balance_is_that_of_the_last_record() {
        let eblora = &example::result().methods[2];
        let (top, rank) = eblora.final_balance().unwrap();
        assert!((top - 0.125).abs() < 1e-9 && (rank - 8.0).abs() < 1e-9);
        assert_eq!(eblora.final_spectra().len(), 24);
        assert_eq!(eblora.mean_of_seen()[0], eblora.accuracy[0][0]);
    }
}
