//! What a run is about: a base model and its tasks, for any backend.

#[cfg(feature = "cli")]
mod bert;
#[cfg(feature = "cli")]
pub mod llama;
pub mod vit;

use std::borrow::Cow;

use eblora_core::backend::Backend;
use eblora_core::model::{Model, ModelError, Samples};
use eblora_core::train::{Fact, Task};

#[cfg(feature = "cli")]
pub use bert::{BertSubject, TextHead};
#[cfg(feature = "cli")]
pub use llama::LlamaSubject;
pub use vit::VitSubject;

use crate::model::Family;

/// A base model with the tasks that it is to learn.
pub trait Subject {
    /// The tasks' samples.
    type Samples: Samples;
    /// The model on a device.
    type Model<B: Backend<Scalar = f32>>: Model<B, Samples = Self::Samples>;

    /// What kind of model it is.
    fn family(&self) -> Family;
    /// Where the base comes from, for messages and reports.
    fn base(&self) -> &str;
    /// The base model anew, nothing merged into it.
    ///
    /// # Errors
    /// When its parts don't fit together, or the device is out of memory.
    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Self::Model<B>, ModelError>;
    /// The tasks, in order.
    fn tasks(&self) -> Vec<Task<'_, Self::Samples>>;
    /// What a resumed run must have in common with the run before, beside its settings: the base, the contents of the tasks.
    fn facts(&self) -> Vec<Fact>;
}

/// A task's samples under its name.
#[derive(Clone, Debug)]
pub struct Named<'a, S: Clone> {
    /// The task's name.
    pub name: String,
    /// What is trained on.
    pub train: Cow<'a, S>,
    /// What is measured on.
    pub test: Cow<'a, S>,
}

impl<S: Clone> Named<'_, S> {
    fn task(&self) -> Task<'_, S> {
        Task { name: &self.name, train: &self.train, test: &self.test }
    }
}
