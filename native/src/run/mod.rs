//! Runs: a base model taken through tasks by methods with the same budget and data order, saved while it goes on.
//!
//! [`engine`] is the one loop that the demo and `eblora train` share; a [`Subject`] is what it runs on, a [`MethodConfig`]
//! what it runs.

mod answer;
#[cfg(feature = "cli")]
pub mod engine;
#[cfg(feature = "cli")]
pub mod folder;
#[cfg(feature = "cli")]
mod job;
#[cfg(feature = "cli")]
mod load;
mod method;
#[cfg(feature = "cli")]
pub mod metrics;
#[cfg(feature = "cli")]
mod outcome;
#[cfg(feature = "cli")]
mod prompts;
#[cfg(feature = "cli")]
mod saved;
mod setting;
pub mod subject;
#[cfg(feature = "cli")]
mod texts;
#[cfg(feature = "cli")]
mod train;
#[cfg(feature = "cli")]
mod trained;
#[cfg(feature = "cli")]
mod watcher;

use std::path::PathBuf;

use eblora_core::method::MethodError;
use eblora_core::metrics::MetricError;
use eblora_core::model::ModelError;
use eblora_core::train::{StateError, TrainError};
use thiserror::Error;

pub use answer::{Answer, ranked};
#[cfg(feature = "cli")]
pub use engine::{MethodRun, Plan, Ran};
#[cfg(feature = "cli")]
pub(crate) use job::{Job, on_device};
#[cfg(feature = "cli")]
pub use load::{AnySubject, Loaded, load};
#[cfg(feature = "cli")]
pub(crate) use method::{FILE_NAME_RULE, is_file_name};
pub use method::{MethodConfig, MethodName};
#[cfg(feature = "cli")]
pub use outcome::method_result;
#[cfg(feature = "cli")]
pub use saved::{Saving, Start, clear as clear_checkpoints, folder as checkpoint_folder};
pub use setting::{BetweenTasks, Convention, Initial, Tangent, WayBack};
pub use subject::Subject;
#[cfg(feature = "cli")]
pub use train::{Trained, train};
#[cfg(feature = "cli")]
pub use trained::{Labels, Learnt};

/// More threads than this are a typing error.
pub const MOST_THREADS: usize = 256;

/// Why a run could not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The thread pool could not be made.
    #[cfg(feature = "cli")]
    #[error("cannot start {threads} threads: {source}; choose fewer with --threads")]
    Threads {
        /// Threads wanted.
        threads: usize,
        /// What the system says.
        source: rayon::ThreadPoolBuildError,
    },
    /// The base's weights and extents do not fit together.
    #[error("the base {base}: {source}")]
    Model {
        /// The base.
        base: String,
        /// Why.
        source: ModelError,
    },
    /// A method could not take a step.
    #[error("{method}: {source}")]
    Method {
        /// The method.
        method: String,
        /// Why and where.
        source: MethodError,
    },
    /// A method could not go on.
    #[error("{method}: {source}")]
    Train {
        /// The method.
        method: String,
        /// Why and where.
        source: Box<TrainError>,
    },
    /// Checkpoints of a run that has not finished, and nobody said what to do with them.
    #[error(
        "{} holds the checkpoints of a run that did not finish (of {method}, for one): go on with it with --resume, \
         discard it with --restart, or choose another --out", .folder.display()
    )]
    Unfinished {
        /// The folder of the checkpoints.
        folder: PathBuf,
        /// A method that has some.
        method: String,
    },
    /// The checkpoint is of another run.
    #[error(
        "{method}: the checkpoint can't be used: {source}; --resume needs the settings that it was made with, and \
         --restart discards it"
    )]
    Foreign {
        /// The method.
        method: String,
        /// What differs.
        source: StateError,
    },
    /// The base model is not there.
    #[error("cannot read {}: {source}; a Hugging Face folder or a GGUF file is expected as the base", .file.display())]
    Base {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The base is a model that is not known.
    #[error("{}: {reason}; models of type vit, bert and llama are known", .file.display())]
    Kind {
        /// Its config.
        file: PathBuf,
        /// What it says.
        reason: String,
    },
    /// Images without labels.
    #[error(
        "{}: no folder of images by class and no file of records: an idx or npy file needs one of labels beside it \
         (`train_labels`, `test_labels`, `validation_labels`)", .file.display()
    )]
    NoLabels {
        /// The file.
        file: PathBuf,
    },
    /// A task without the split that is asked for.
    #[error("task {task} has no `validation`, which `train.split = \"validation\"` needs")]
    NoValidation {
        /// The task.
        task: String,
    },
    /// A text with more tokens than a run takes.
    #[error(
        "{place}: {tokens} tokens, more than the {most} of `model.max_tokens`; raise it, or set `model.too_long = \"truncate\"`"
    )]
    TooLong {
        /// The text.
        place: String,
        /// Its tokens.
        tokens: usize,
        /// The most.
        most: usize,
    },
    /// A label that the config does not name.
    #[error("{place}: label {label:?} has no text in the task's `label_texts`, which have {known}")]
    LabelText {
        /// The sample.
        place: String,
        /// Its label.
        label: String,
        /// The labels that have one.
        known: String,
    },
    /// An answer that is none of the choices.
    #[error("{place}: the answer {answer:?} is none of the task's choices: {known}")]
    Choice {
        /// The sample.
        place: String,
        /// Its answer.
        answer: String,
        /// The choices.
        known: String,
    },
    /// Two choices that the model can't tell apart.
    #[error("the choice {choice:?} has the same tokens as another one")]
    SameTokens {
        /// The second of them.
        choice: String,
    },
    /// A sample that can't be used.
    #[error("{place}: {source}")]
    Sample {
        /// The sample.
        place: String,
        /// Why.
        source: ModelError,
    },
    /// The names of a run's labels can't be used.
    #[error("{}: not the labels of a run: {reason}", .file.display())]
    Labels {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is not clear which method of a run is meant.
    #[error("{}: no method {wanted:?} in this run: choose by --method among {known}", .folder.display())]
    WhichMethod {
        /// The run.
        folder: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// A task that the run doesn't have.
    #[error("no task {wanted:?} in this run: there are {known}")]
    WhichTask {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// Nothing to answer to.
    #[error("{place} is empty")]
    NoText {
        /// Which one.
        place: String,
    },
    /// Something of a run can't be read.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file or folder.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A folder without a run.
    #[error("{} holds no run of `eblora train`: neither config.toml nor a folder seed-N with one", .folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder with a run that has finished, and nobody said what to do with it.
    #[error(
        "{} holds a run that has finished: --restart discards it, --resume keeps it and trains the methods that it lacks, or \
         choose another `out`",
        .folder.display()
    )]
    Finished {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder with a run of another config.
    #[error(
        "{} holds a run whose config differs at `{key}`: choose another `out`, or discard it with --restart",
        .folder.display()
    )]
    OtherConfig {
        /// The folder.
        folder: PathBuf,
        /// The first key that differs.
        key: String,
    },
    /// A measurement that makes no sense.
    #[error(transparent)]
    Metric(#[from] MetricError),
}
