//! The demo: one model taken through a sequence of tasks by several methods with the same budget and data order.

pub mod config;
#[cfg(feature = "cli")]
mod run;

use thiserror::Error;

pub use config::{DemoConfig, GradientAt, Rates, Split};
#[cfg(feature = "cli")]
pub use run::{Outcome, run, run_saved};

use crate::run::MethodName;

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
    /// A run that nobody could ask to stop has stopped.
    #[error("{0} has stopped")]
    Stopped(String),
}
