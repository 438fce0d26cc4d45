//! The config of a run: one TOML file that says everything, beside the data and the model.
//!
//! Paths in it are relative to the file's own folder; `~/` is the user's home.

mod applies;
mod check;
mod overrides;
mod place;
mod read;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use eblora_core::optim::{Decay, Schedule};
use eblora_core::train::{GradientKind, TrainConfig};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use overrides::Override;
pub use template::{template, template_of};

use crate::demo::{GradientAt, Split};
use crate::model::Family;
use crate::run::{MOST_THREADS, MethodConfig};

/// Why a config can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {file}: {source}; `eblora init` writes a config to begin with")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{place}: {reason}")]
    Wrong {
        /// File, line and column, or the override on the command line.
        place: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Seeds of data order, sketches and initialisation: one run for each.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
    /// Where to compute, as for `--device`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Threads; default: as many as the machine has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Folder of the run.
    #[serde(default = "default_out")]
    pub out: String,
    /// The base model.
    pub model: ModelConfig,
    /// The budget.
    #[serde(default)]
    pub train: TrainSection,
    /// The methods, in the order of the report.
    #[serde(rename = "method")]
    pub methods: Vec<MethodConfig>,
    /// The tasks, in the order of training.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskConfig>,
}

impl RunConfig {
    /// Threads, set or as many as the machine has.
    ///
    /// ```
    /// use eblora::{config::{RunConfig, template}, model::Family};
    /// let config = RunConfig::parse(&template(Family::Vit), "run.toml", ".".as_ref(), &["threads=3".parse()?])?;
    /// assert_eq!(config.threads(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        self.threads.unwrap_or_else(all)
    }
}

fn default_seeds() -> Vec<u64> {
    vec![0]
}
fn default_device() -> String {
    "cpu".to_owned()
}
fn default_out() -> String {
    "eblora-run".to_owned()
}

/// The base model and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A Hugging Face folder, a GGUF file of a Llama, or `hf:owner/name` on a hub ([`crate::hub`]).
    pub base: String,
    /// What it is; default: what its config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// The linear layers that carry adapters, by names or their last parts; default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// The blocks that carry adapters, from 0; default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
    /// Most tokens of a text or of a prompt with its answer.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
    /// What to do with a text that is longer.
    #[serde(default)]
    pub too_long: TooLong,
    /// What tells an encoder's labels apart.
    #[serde(default)]
    pub head: HeadKind,
    /// Divisor of the cosines between a text and the labels' texts, or of a linear head's scores.
    #[serde(default = "default_temperature")]
    pub temperature: f64,
    /// How prompts are written.
    #[serde(default)]
    pub chat: Chat,
    /// Whether a Llama's training keeps the residual stream alone, and computes the blocks' inner activations again in the
    /// backward pass: far less memory where sequences are long, a quarter more time, the same numbers.
    #[serde(default)]
    pub gradient_checkpointing: bool,
}

fn default_max_tokens() -> usize {
    128
}
fn default_temperature() -> f64 {
    0.07
}

/// What tells an encoder's labels apart: a frozen head that all tasks share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// The texts of the labels: a text's score is the cosine of its embedding and the label's.
    #[default]
    Labels,
    /// Rows of a linear layer, orthogonal to each other: for labels whose texts say nothing.
    Linear,
}

/// What to do with a text that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// It is an error, before anything is trained.
    #[default]
    Refuse,
    /// It loses its end; a note says how many did.
    Truncate,
}

/// How prompts are written for a language model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chat {
    /// As they are.
    #[default]
    None,
    /// ChatML as SmolLM2-Instruct has it.
    Smollm2,
    /// As Vicuna and LLaVA-1.5.
    VicunaV1,
}

/// Budget, schedule and what is recorded: the same for every method and task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Steps of each task.
    pub steps: usize,
    /// Samples of each step.
    pub batch: usize,
    /// Share of the steps over which the rates rise.
    pub warmup: f64,
    /// How the rates fall then.
    pub decay: DecayName,
    /// Where gradients for initialisation and subspace are taken.
    pub gradient_at: GradientAt,
    /// Share of a task's training samples that they are averaged over.
    pub gradient_share: f64,
    /// Directions that a two-sided sketch of the gradient recovers; without it, the gradient is kept whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_sketch: Option<usize>,
    /// What accuracies are measured on.
    pub split: Split,
    /// Train on the first so many samples of each task only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_samples: Option<usize>,
    /// Measure on the first so many samples of each task only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_samples: Option<usize>,
    /// Spectra recorded in each task.
    pub snapshots: usize,
    /// Steps between two checkpoints within a task; 0: only at its end.
    pub checkpoint_every: usize,
}

impl Default for TrainSection {
    fn default() -> Self {
        let core = TrainConfig::default();
        Self {
            steps: 100,
            batch: 16,
            warmup: core.schedule.warmup,
            decay: DecayName::Cosine,
            gradient_at: GradientAt::default(),
            gradient_share: core.gradient_share,
            gradient_sketch: None,
            split: Split::default(),
            train_samples: None,
            test_samples: None,
            snapshots: core.snapshots,
            checkpoint_every: 50,
        }
    }
}

impl TrainSection {
    /// These settings for the trainer.
    ///
    /// ```
    /// use eblora::config::TrainSection;
    /// let core = TrainSection { steps: 7, ..TrainSection::default() }.trainer(3);
    /// assert_eq!((core.steps, core.seed), (7, 3));
    /// ```
    pub fn trainer(&self, seed: u64) -> TrainConfig {
        TrainConfig {
            steps: self.steps,
            batch: self.batch,
            schedule: Schedule { warmup: self.warmup, decay: self.decay.into() },
            seed,
            gradient_origin: self.gradient_at.into(),
            gradient_share: self.gradient_share,
            gradient_kind: match self.gradient_sketch {
                Some(rank) => GradientKind::Sketch { rank },
                None => GradientKind::Exact,
            },
            snapshots: self.snapshots,
            checkpoint_every: self.checkpoint_every,
            ..TrainConfig::default()
        }
    }
}

/// [`Decay`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayName {
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
    /// None.
    Constant,
}

impl From<DecayName> for Decay {
    fn from(name: DecayName) -> Self {
        match name {
            DecayName::Cosine => Self::Cosine,
            DecayName::Linear => Self::Linear,
            DecayName::Constant => Self::Constant,
        }
    }
}

/// One task: where its samples are, and how they are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Its name in reports and folders.
    pub name: String,
    /// Training samples: a `.jsonl`, `.json`, `.csv` or `.tsv` file, a folder of images by class, or an idx or npy file of
    /// images.
    pub train: String,
    /// Labels of the training samples, where they are in a file of their own (idx, npy).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_labels: Option<String>,
    /// Samples that accuracies are reported on.
    pub test: String,
    /// Their labels, where they are in a file of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_labels: Option<String>,
    /// Samples that choices are made on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
    /// Their labels, where they are in a file of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_labels: Option<String>,
    /// Field of the text.
    #[serde(default = "default_text")]
    pub text: String,
    /// Field of the label.
    #[serde(default = "default_label")]
    pub label: String,
    /// Stands before each text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// What the labels in the files are called: a label text or an answer, or a label of the model's own head.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label_texts: BTreeMap<String, String>,
    /// Makes a prompt of a text, in the place of `{text}`; the answer is the label. Without it, files hold prompts and
    /// answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Answers to choose from, by their likelihood; default: the labels' texts where there is a `prompt`, else none: then
    /// an answer counts that greedy decoding would give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<String>>,
}

fn default_text() -> String {
    "text".to_owned()
}
fn default_label() -> String {
    "label".to_owned()
}
