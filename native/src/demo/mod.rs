//! The demo: one model taken through a sequence of tasks by several methods with the same budget and data order.

pub mod config;

use std::path::PathBuf;

use thiserror::Error;

pub use config::{DemoConfig, GradientAt, MethodName, Rates, Split};

use crate::Error;
use crate::data::mix::Task;
use crate::model::vit_folder::VitFolder;
use crate::progress::ProgressSink;
use crate::report::result::DemoResult;

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
    /// This build has no trainer.
    #[error("training is not yet wired into this build")]
    NotWired,
}

/// Runs every method of `config` over `tasks`, starting from the model in `folder`.
///
/// Checks the settings first ([`DemoConfig::check`]). All accuracies are in per cent, on the split of `config`.
pub fn run(
    config: &DemoConfig,
    tasks: &[Task],
    folder: &VitFolder,
    _progress: &mut dyn ProgressSink,
) -> Result<DemoResult, Error> {
    config.check(tasks, folder)?;
    Err(DemoError::NotWired.into())
}
