//! What can go wrong in a run.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::error::Error;

use super::{GradientError, StateError};
use crate::adapter::AdapterError;
use crate::backend::BackendError;
use crate::method::MethodError;
use crate::metrics::MetricError;
use crate::model::ModelError;

/// Why a run stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Nothing to train on.
    #[error("task {task}: {what}")]
    Task {
        /// Name of the task.
        task: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// In the course of a task.
    #[error("task {task}, step {step}: {source}")]
    Method {
        /// Name of the task.
        task: String,
        /// Steps taken in it.
        step: usize,
        /// Why.
        source: Box<MethodError>,
    },
    /// The model could not take the data.
    #[error("task {task}: {source}")]
    Model {
        /// Name of the task.
        task: String,
        /// Why.
        source: ModelError,
    },
    /// The gradient pass failed.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// A spectrum could not be computed.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The accuracies don't make a matrix.
    #[error(transparent)]
    Metrics(#[from] MetricError),
    /// The run can't go on from the state given.
    #[error("the saved state can't be used: {0}")]
    State(#[from] StateError),
    /// A state could not be saved; those saved before are as they were.
    #[error("task {}, step {step}: the run's state could not be saved: {source}", .task + 1)]
    Save {
        /// 0-based task at hand.
        task: usize,
        /// Steps taken in it.
        step: usize,
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
