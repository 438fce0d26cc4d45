//! The whole job: tasks in, records out. Data flows one way, from samples through the model's passes and the method's
//! steps to the accuracy matrix; the trainer knows no file, no clock and no device by name. Its [`state`] is plain data,
//! from which a run goes on.

mod audit;
mod batches;
mod config;
mod error;
mod gradient;
mod measure;
mod parts;
mod progress;
mod record;
mod regime;
mod retask;
mod sitting;
pub mod state;
mod trainer;

pub use batches::BatchOrder;
pub use config::{GradientOrigin, TrainConfig};
pub use error::TrainError;
pub use gradient::{GradientError, GradientKind, GradientPass, Mean};
pub use progress::{Moment, Observer, Pause, Progress, Silent};
pub use record::{MemoryPoint, RunRecord, SpectrumPoint};
pub use regime::Regime;
pub use state::{Checkpoints, Fact, LearntTask, Outcome, RunState, StateError, TaskState};
pub use trainer::Trainer;

/// One task: a name, what is trained on, and what is measured on.
#[derive(Debug)]
pub struct Task<'a, S> {
    /// Name in messages.
    pub name: &'a str,
    /// Training samples.
    pub train: &'a S,
    /// Samples that accuracies are measured on: a test or a validation split.
    pub test: &'a S,
}

impl<S> Clone for Task<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Task<'_, S> {}
