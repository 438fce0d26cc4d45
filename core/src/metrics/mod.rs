//! What a continual run is judged by, in plain `f64`.
//!
//! | file | question |
//! |---|---|
//! | [`accuracy`] | how well is each task done after each stage, and how much is forgotten or transferred? |
//! | [`spectrum`] | how evenly is the energy of an update spread over its singular directions? |
//! | [`interference`] | how far do two updates overlap, on the input and on the output side? |

use alloc::string::String;

pub mod accuracy;
pub mod interference;
pub mod spectrum;

pub use accuracy::{AccuracyMatrix, Nai};
pub use spectrum::Spectrum;

/// Why a metric cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// A row or table has the wrong number of entries.
    #[error("{what}: expected {expected} entries, got {got}")]
    Length {
        /// Which input.
        what: &'static str,
        /// How many entries it must have.
        expected: usize,
        /// How many it has.
        got: usize,
    },
    /// An entry is NaN or infinite.
    #[error("{what}: entry {index} is not finite")]
    NotFinite {
        /// Which input.
        what: &'static str,
        /// The entry's position.
        index: usize,
    },
    /// A singular value is below zero.
    #[error("singular value {index} is negative")]
    Negative {
        /// Its position.
        index: usize,
    },
    /// The matrix already has a row for each task.
    #[error("all {tasks} tasks already have their row")]
    Complete {
        /// The number of tasks.
        tasks: usize,
    },
    /// A metric needs a row that was not given.
    #[error("the {row} row is missing")]
    MissingRow {
        /// Which row.
        row: &'static str,
    },
    /// In no task is the individual model better than the zero-shot one by a point, so that the normalised improvement is
    /// undefined; the first task is named.
    #[error(
        "task {task}: the individual score is not a point above the zero-shot one, normalised improvement is undefined"
    )]
    NoHeadroom {
        /// The task, from 0.
        task: usize,
    },
    /// Two factors do not fit together.
    #[error("{what}: {left:?} does not fit {right:?}")]
    Shape {
        /// Which pair.
        what: &'static str,
        /// Rows and columns of the first.
        left: (usize, usize),
        /// Rows and columns of the second.
        right: (usize, usize),
    },
    /// A decomposition inside the metric failed.
    #[error("decomposition failed: {0}")]
    Decomposition(String),
}

/// The plain mean; `None` of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), x| (sum + x, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Fails on the first entry that is NaN or infinite.
pub(crate) fn finite(what: &'static str, values: &[f64]) -> Result<(), MetricError> {
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(MetricError::NotFinite { what, index }),
        None => Ok(()),
    }
}
