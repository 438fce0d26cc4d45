//! The whole job: tasks in, records out. Data flows one way, from samples through the model's passes and the method's
//! steps to the accuracy matrix; the trainer knows no file, no clock and no device by name.

mod batches;
mod gradient;
mod record;
mod trainer;

pub use batches::BatchOrder;
pub use gradient::{GradientKind, GradientPass};
pub use record::{MemoryPoint, RunRecord, SpectrumPoint};
pub use trainer::{GradientOrigin, Observer, Progress, Silent, TrainConfig, TrainError, Trainer};

use alloc::string::String;

/// One task: a name, what is trained on, and what is measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task<S> {
    /// Name in tables and reports.
    pub name: String,
    /// Training samples.
    pub train: S,
    /// Samples that accuracies are measured on: a test or a validation split.
    pub test: S,
}
