//! Continual adaptation methods, one file each, behind one trait.
//!
//! A method makes the adapters of a task, moves them by their gradients, and says what becomes of them afterwards. It
//! never sees the model or the data: the trainer hands it gradients. To add one, implement [`Method`] in a file here
//! (its state included: [`Method::settings`], [`Method::remembered`], [`Method::recall`], [`Method::parts`]) and add a line to the registry of the front that offers it. [`MatrixTrainer`] is EBLoRA for those who have one weight
//! matrix and gradients, and no model.

mod eblora;
mod frozen_a;
mod inflora;
mod keeplora;
mod lora_ft;
mod lora_gpm;
mod matrix;
mod memories;
pub mod memory;
mod o_lora;
mod osf;
mod pair;
mod sefe;
mod stella;

pub use eblora::{Eblora, EbloraConfig, Init};
pub use inflora::{InfLora, InfLoraConfig};
pub use keeplora::{KeepLora, KeepLoraConfig};
pub use lora_ft::{Continuation, LoraConfig, LoraFt};
pub use lora_gpm::{LoraGpm, LoraGpmConfig};
pub use matrix::MatrixTrainer;
pub use memory::{Value, ValueError, Values};
pub use o_lora::{OLora, OLoraConfig};
pub use osf::{Osf, OsfConfig};
pub use sefe::{Sefe, SefeConfig, largest_entries};
pub use stella::{Stella, StellaConfig};

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use faer::Mat;

use crate::adapter::{AdapterError, AdapterGrads, Adapters, HostFactors};
use crate::backend::{Backend, BackendError};
use crate::gpm::{GpmError, Gradient};
use crate::model::Site;
use crate::optim::Part;

/// What a method gets before a task.
pub struct TaskStart<'a, B: Backend> {
    /// 0-based number of the task.
    pub task: usize,
    /// Number of tasks in the run.
    pub tasks: usize,
    /// The model's adaptable layers.
    pub sites: &'a [Site],
    /// Number of the model's blocks, for the depth schedule.
    pub blocks: usize,
    /// The mean loss gradient of each site over a sample of the task's data, if the method asked for it.
    pub gradients: Vec<Gradient<B::Scalar>>,
    /// The covariance `XᵀX` (in×in, symmetric) of each site's inputs over that sample, up to a factor, if it was asked for.
    pub inputs: Vec<Gradient<B::Scalar>>,
    /// Each site's weight with everything merged so far, out×in, if it was asked for.
    pub weights: Vec<Mat<B::Scalar>>,
    /// The adapters of the last task, if they were kept.
    pub previous: Option<Adapters<B>>,
    /// Seed of the run; draw from it by streams of your own.
    pub seed: u64,
}

impl<'a, B: Backend> TaskStart<'a, B> {
    /// The start of a task (0-based) of so many, for a method that needs nothing else.
    ///
    /// ```
    /// use eblora_core::{backend::Cpu, method::TaskStart};
    /// let start = TaskStart::<Cpu<f32>> { blocks: 12, ..TaskStart::new([0, 3], &[], 1) };
    /// assert!(start.tasks == 3 && start.gradients.is_empty() && start.previous.is_none());
    /// ```
    pub fn new([task, tasks]: [usize; 2], sites: &'a [Site], seed: u64) -> Self {
        let (gradients, inputs, weights) = (Vec::new(), Vec::new(), Vec::new());
        Self { task, tasks, sites, blocks: 1, gradients, inputs, weights, previous: None, seed }
    }
}

/// What a method asks for before a task, beside the sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// [`TaskStart::gradients`]: a pass over a sample of the data.
    pub gradients: bool,
    /// [`TaskStart::inputs`]: another one.
    pub inputs: bool,
    /// [`TaskStart::weights`]: each adapted weight is read back.
    pub weights: bool,
    /// [`Method::trained`]: a pass at the task's end. Only of methods that merge ([`After::Merge`]).
    pub trained: bool,
}

/// What becomes of a task's adapters after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// `W ← W + s·U·Vᵀ`, and the adapters are gone.
    Merge,
    /// They stay beside the weights and come back in [`TaskStart::previous`].
    Keep,
}

/// Size of what a method remembers of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize {
    /// The layer's site.
    pub site: usize,
    /// Directions in M.
    pub k: usize,
    /// Input dimension: k ≤ dim.
    pub dim: usize,
    /// Numbers stored for it (the basis, or its complement).
    pub stored: usize,
}

/// How far factors are from where a method keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Violation {
    /// max |XᵀX − I| over the factors.
    pub orthonormality: f64,
    /// max |MᵀV|.
    pub overlap: f64,
}

/// Why a method could not go on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// A gradient that is not finite: nothing was changed. Or, which guards against it make unlikely, a factor that
    /// can't be retracted: that factor's stack is as it was, others may have moved.
    #[error("layer {layer}: {factor}: {source} (is the learning rate too high?)")]
    Step {
        /// Name of the layer.
        layer: String,
        /// What was wrong there: the gradient or the retraction of which factor.
        factor: &'static str,
        /// Why.
        source: BackendError,
    },
    /// An adapter could not be made.
    #[error("layer {layer}: {source}")]
    Adapter {
        /// Name of the layer.
        layer: String,
        /// Why.
        source: AdapterError,
    },
    /// The gradient memory could not be updated; it is as it was.
    #[error("layer {layer}: {source}")]
    Memory {
        /// Name of the layer.
        layer: String,
        /// Why.
        source: GpmError,
    },
    /// The trainer gave no gradients to a method that needs them, or a step came before its task.
    #[error("{0}")]
    Order(&'static str),
    /// What should be remembered is not what this method remembers.
    #[error("the method's memory: {0}")]
    Recall(#[from] ValueError),
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A continual adaptation method.
pub trait Method<B: Backend> {
    /// Its name in tables and on the command line.
    fn name(&self) -> &'static str;
    /// What the next [`Method::begin_task`] is to be given.
    fn needs(&self) -> Needs;
    /// Makes the adapters of a task.
    ///
    /// # Errors
    /// When they can't be made.
    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError>;
    /// One optimiser step; `factor` is the learning-rate schedule's. Uses up `grads` as working memory.
    ///
    /// # Errors
    /// When a gradient is not finite: then nothing was changed.
    fn step(
        &mut self,
        backend: &B,
        adapters: &mut Adapters<B>,
        grads: &mut AdapterGrads<B>,
        factor: f64,
    ) -> Result<(), MethodError>;
    /// Is given, right before [`Method::end_task`], the mean gradients of the task's loss at the weights with the task's
    /// update merged: a matrix per site, if [`Needs::trained`] says so.
    fn trained(&mut self, gradients: Vec<Gradient<B::Scalar>>) {
        let _ = gradients;
    }
    /// Learns what is to be remembered of the task, which ended with these factors.
    ///
    /// # Errors
    /// When the memory can't be updated.
    fn end_task(&mut self, backend: &B, learnt: &[HostFactors<B::Scalar>]) -> Result<After, MethodError>;
    /// Every setting that its results depend on, by name: a run goes on only where all of them are as they were.
    fn settings(&self) -> Vec<(&'static str, String)>;
    /// What it has learnt from the tasks that have ended, as plain data. In the course of a task: what it knew before that
    /// task began.
    fn remembered(&self) -> Values<B::Scalar>;
    /// Makes a method that was just made one that has learnt what [`Method::remembered`] gave, bit for bit.
    ///
    /// # Errors
    /// When this is not what such a method remembers of these sites.
    fn recall(&mut self, remembered: Values<B::Scalar>, sites: &[Site]) -> Result<(), MethodError>;
    /// Everything that [`Method::step`] changes beside the adapters, each under a name of its own. A run that is resumed
    /// in mid-task calls [`Method::begin_task`] as the first time, with the same gradients, and then overwrites the
    /// adapters and these parts.
    fn parts(&mut self) -> Vec<(String, Part<'_, B>)>;
    /// Numbers that its steps train, by default those of the adapters.
    fn trainable_parameters(&self, adapters: &Adapters<B>) -> usize {
        adapters.trainable_parameters()
    }
    /// What is remembered, layer by layer.
    fn memory(&self) -> Vec<MemorySize> {
        Vec::new()
    }
    /// How far these factors are from the method's manifold; `None` for a method without one.
    fn violation(&self, factors: &[HostFactors<B::Scalar>]) -> Option<Violation> {
        let _ = factors;
        None
    }
    /// Takes the warnings since the last call: ranks that shrank, layers left out.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The parts of one factor's optimiser, named after stack and factor.
fn named<'a, B: Backend>(
    stack: usize,
    factor: &'a str,
    parts: Vec<(&'static str, Part<'a, B>)>,
) -> impl Iterator<Item = (String, Part<'a, B>)> {
    parts.into_iter().map(move |(name, part)| (format!("stack{stack}.{factor}.{name}"), part))
}

/// Refuses gradients that are not finite before anything is changed.
fn guard<B: Backend>(
    backend: &B,
    adapters: &Adapters<B>,
    grads: &AdapterGrads<B>,
    layers: &[String],
) -> Result<(), MethodError> {
    for (stack, grads) in adapters.stacks.iter().zip(&grads.stacks) {
        let tensors =
            [("gradient of U", Some(&grads.u)), ("gradient of V", Some(&grads.v)), ("gradient of s", grads.s.as_ref())];
        for (factor, tensor) in tensors {
            let Some(tensor) = tensor else { continue };
            backend.guard_finite(tensor).map_err(|source| step_error(layers, &stack.sites, factor, source))?;
        }
    }
    Ok(())
}

/// Names the layer that a batched kernel complained of.
fn step_error(layers: &[String], sites: &[usize], factor: &'static str, source: BackendError) -> MethodError {
    match &source {
        BackendError::NonFinite { item } | BackendError::Manifold { item, .. } => {
            MethodError::Step { layer: layers[sites[*item]].clone(), factor, source }
        }
        _ => source.into(),
    }
}
