//! The demo: one model taken through a sequence of tasks by several methods with the same budget and data order.

pub mod config;
mod methods;
mod run;
mod saved;

use std::path::PathBuf;

use eblora_core::metrics::MetricError;
use eblora_core::model::ModelError;
use eblora_core::train::{StateError, TrainError};
use thiserror::Error;

pub use config::{DemoConfig, GradientAt, MethodName, Rates, Split};
pub use methods::method;
pub use run::{Outcome, run, run_saved};
pub use saved::{Saving, Start, clear as clear_checkpoints, folder as checkpoint_folder};

/// Why the demo could not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A method is named twice.
    #[error("the method {0} is named twice")]
    MethodTwice(MethodName),
    /// Nothing to run.
    #[error("no method is named")]
    NoMethod,
    /// A setting outside its range.
    #[error("{setting} {value} is not in the range {range}")]
    Range {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: String,
    },
    /// The rank is larger than a weight.
    #[error("rank {rank} is more than `{site}` ({rows}×{cols}) of the base has; choose at most {}", rows.min(cols))]
    Rank {
        /// The rank.
        rank: usize,
        /// The linear.
        site: String,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// The base takes images of another size.
    #[error("the base {base} takes images of {takes}, but those of task {task} are {has}; choose another base")]
    Images {
        /// The base.
        base: String,
        /// Channels × height × width that it takes.
        takes: String,
        /// The task.
        task: String,
        /// Channels × height × width that this has.
        has: String,
    },
    /// The base has too few labels.
    #[error("the base {base} has {has} labels, but task {task} needs {needs}; choose a base with one label space")]
    Labels {
        /// The base.
        base: String,
        /// Labels of its head.
        has: usize,
        /// The task.
        task: String,
        /// Labels that it needs.
        needs: usize,
    },
    /// The demo's output cannot be read back.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread pool could not be made.
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
    /// A method could not go on.
    #[error("{method}: {source}")]
    Train {
        /// The method.
        method: MethodName,
        /// Why and where.
        source: Box<TrainError>,
    },
    /// Checkpoints of a run that has not finished, and nobody said what to do with them.
    #[error(
        "{} holds the checkpoints of a run that did not finish (of {method}, for one): go on with it with --resume,          discard it with --restart, or choose another --out", .folder.display()
    )]
    Unfinished {
        /// The folder of the checkpoints.
        folder: PathBuf,
        /// A method that has some.
        method: MethodName,
    },
    /// The checkpoint is of another run.
    #[error(
        "{method}: the checkpoint can't be used: {source}; --resume needs the settings that it was made with, and \
         --restart discards it"
    )]
    Foreign {
        /// The method.
        method: MethodName,
        /// What differs.
        source: StateError,
    },
    /// A run that nobody could ask to stop has stopped.
    #[error("{0} has stopped")]
    Stopped(MethodName),
    /// A measurement that makes no sense.
    #[error(transparent)]
    Metric(#[from] MetricError),
}
