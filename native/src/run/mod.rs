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
pub use train::{Trained, check_device, train};
#[cfg(feature = "cli")]
pub use trained::{Labels, Learnt};

/// More threads than this are a typing error.
pub const MOST_THREADS: usize = 256;
/// More steps of a task than this are a typing error.
pub const MOST_STEPS: usize = 10_000_000;
/// More samples of a step than this are a typing error.
pub const MOST_SAMPLES: usize = 1 << 16;
/// More tokens of a sample than this are a typing error.
pub const MOST_TOKENS: usize = 1 << 20;

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
    #[error("{place}: {tokens} tokens, more than the {most} of `model.max_tokens`; raise it, or {remedy}")]
    TooLong {
        /// The text.
        place: String,
        /// Its tokens.
        tokens: usize,
        /// The most.
        most: usize,
        /// What else can be done.
        remedy: &'static str,
    },
    /// A text that the tokenizer can't take.
    #[error("{place}: {file} can't make tokens of the text: {reason}; is it whole, and that of this model?")]
    Tokenize {
        /// The text.
        place: String,
        /// The tokenizer's file.
        file: String,
        /// What the tokenizer says.
        reason: String,
    },
    /// A text that a tokenizer makes nothing of.
    #[error("{place}: the tokenizer makes no token of the text: nothing in it is a word to the model; change it")]
    NoTokens {
        /// The text.
        place: String,
    },
    /// A token that is not in the model's vocabulary.
    #[error(
        "{place}: token {id} of {file}, but the model's vocabulary ends with {last}: is it another model's tokenizer?"
    )]
    Vocabulary {
        /// The text.
        place: String,
        /// The tokenizer's file.
        file: String,
        /// The token.
        id: u32,
        /// The largest token.
        last: usize,
    },
    /// A label or a choice without text.
    #[error("task {task}: `{key}` is empty; write a text there, or remove it")]
    EmptyText {
        /// The task.
        task: String,
        /// The key in the task's config.
        key: String,
    },
    /// Two labels that the model can't tell apart.
    #[error(
        "the labels {first:?} and {second:?} have the same tokens, so that nothing can tell them apart: give them \
         other texts in `label_texts`, or set `model.head = \"linear\"`"
    )]
    SameLabels {
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// Two labels of a task that stand for one class of the model.
    #[error(
        "task {task}: the labels {first:?} and {second:?} both mean the class {class:?} of the model; write in \
         `label_texts` which class each label means"
    )]
    OneClass {
        /// The task.
        task: String,
        /// One label.
        first: String,
        /// The other one.
        second: String,
        /// The class.
        class: String,
    },
    /// Classes that only samples have which are left out of training.
    #[error(
        "task {task}: the first {most} training samples (`train.train_samples`) have none of the label {label}, which \
         is measured; raise it, or leave it out"
    )]
    NotAmongFirst {
        /// The task.
        task: String,
        /// The samples that are trained on.
        most: usize,
        /// The label, in quotes; of several, the first.
        label: String,
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
    #[error(
        "{}: {} in this run: choose by --method among {known}", .folder.display(),
        .wanted.as_ref().map_or("there are several methods".to_owned(), |wanted| format!("there is no method {wanted:?}"))
    )]
    WhichMethod {
        /// The run.
        folder: PathBuf,
        /// What was asked for, if anything was.
        wanted: Option<String>,
        /// What there is.
        known: String,
    },
    /// A folder of several seeds' runs, where one is needed.
    #[error("{} holds the runs of several seeds: name one of its folders: {known}", .folder.display())]
    WhichSeed {
        /// The folder.
        folder: PathBuf,
        /// Names of the seeds' folders.
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
    /// A folder with something of the user's where the run would put its own.
    #[error("{} is there and no run of eblora wrote it: choose another `out`, or move it away", .file.display())]
    NotOurs {
        /// What is in the way.
        file: PathBuf,
    },
    /// A folder with a run of one seed where several would each have a folder, or the other way round.
    #[error("{} holds {what}: choose another `out`", .folder.display())]
    OtherSeeds {
        /// The folder.
        folder: PathBuf,
        /// What it holds.
        what: &'static str,
    },
    /// A folder with a run of another base model, or of other data.
    #[error(
        "{} holds a run with another {what}: choose another `out`, or discard it with --restart", .folder.display()
    )]
    OtherData {
        /// The folder.
        folder: PathBuf,
        /// What is not the same.
        what: String,
    },
    /// Another process trains into the folder.
    #[error("another eblora trains into {} at this moment: wait for its end, or choose another `out`", .folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The data's labels are not those that the run has learnt.
    #[error("{}: the data's labels are {now}, but the run learnt {learnt}: measure it on the data of its time", .folder.display())]
    OtherLabels {
        /// The run.
        folder: PathBuf,
        /// The labels of the run.
        learnt: String,
        /// Those that the data have now.
        now: String,
    },
    /// A run that has no result yet.
    #[error("{} holds a run that has not finished: `eblora train` with --resume goes on with it", .folder.display())]
    NotFinished {
        /// The folder.
        folder: PathBuf,
    },
    /// A measurement that makes no sense.
    #[error(transparent)]
    Metric(#[from] MetricError),
}
