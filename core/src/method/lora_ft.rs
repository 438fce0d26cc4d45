//! LoRA-FT: sequential fine-tuning with plain LoRA (Hu et al. 2022), the baseline that forgets.
//!
//! Rule: `ΔW = (α/r)·B·A`, A Kaiming-uniform, B zero, AdamW on both. Shapes: A r×in, B out×r. Kept between tasks: the
//! merged weights, or the adapter itself; nothing where each task is to start from the base model. Memory: none beside; a
//! step changes AdamW's moments. Source: PEFT's `LoraLayer`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::memory::{Values, all_taken};
use super::pair::{PairState, fresh, step_all};
use super::{After, Method, MethodError, Needs, TaskStart, guard};
use crate::adapter::{AdapterGrads, Adapters, HostFactors};
use crate::backend::Backend;
use crate::model::Site;
use crate::optim::{AdamWConfig, Part};

/// What becomes of the adapter between tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Continuation {
    /// Merged into the weights; the next task starts a fresh one.
    #[default]
    Merge,
    /// One adapter is trained on through all tasks.
    Continue,
    /// Each task starts from the base model anew, with an adapter of its own: what it could be at best, without the others.
    Individual,
}

/// Settings of [`LoraFt`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank r.
    pub rank: usize,
    /// α; the update is scaled by α/r.
    pub alpha: f64,
    /// Peak learning rate of A and B.
    pub rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Between tasks.
    pub continuation: Continuation,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            rate: 1.22e-3,
            weight_decay: 0.0,
            continuation: Continuation::default(),
            adamw: AdamWConfig::default(),
        }
    }
}

/// The method.
pub struct LoraFt<B: Backend> {
    config: LoraConfig,
    layers: Vec<String>,
    states: Vec<PairState<B>>,
}

impl<B: Backend> LoraFt<B> {
    /// The method with these settings.
    pub fn new(config: LoraConfig) -> Self {
        Self { config, layers: Vec::new(), states: Vec::new() }
    }
}

impl<B: Backend> Method<B> for LoraFt<B> {
    fn name(&self) -> &'static str {
        "lora-ft"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn begin_task(&mut self, backend: &B, mut start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        let going_on = self.config.continuation == Continuation::Continue;
        // The adapters of an individual task go where they came from: beside the weights, which stay the base's.
        let adapters = match start.previous.take().filter(|_| going_on) {
            Some(kept) => kept,
            None => fresh(backend, "lora-ft", &start, self.config.rank, self.config.alpha)?,
        };
        self.states = PairState::all(backend, self.config.adamw, &adapters)?;
        Ok(adapters)
    }

    fn step(
        &mut self,
        backend: &B,
        adapters: &mut Adapters<B>,
        grads: &mut AdapterGrads<B>,
        factor: f64,
    ) -> Result<(), MethodError> {
        guard(backend, adapters, grads, &self.layers)?;
        let LoraConfig { rate, weight_decay, .. } = self.config;
        step_all(backend, adapters, grads, &mut self.states, rate * factor, weight_decay);
        Ok(())
    }

    fn end_task(&mut self, _: &B, _: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        self.states.clear();
        Ok(match self.config.continuation {
            Continuation::Merge => After::Merge,
            Continuation::Continue | Continuation::Individual => After::Keep,
        })
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let LoraConfig { rank, alpha, rate, weight_decay, continuation, adamw } = self.config;
        Vec::from([
            ("rank", rank.to_string()),
            ("alpha", alpha.to_string()),
            ("lora rate", rate.to_string()),
            ("weight decay", weight_decay.to_string()),
            ("continuation", format!("{continuation:?}")),
            ("AdamW", format!("{adamw:?}")),
        ])
    }

    fn remembered(&self) -> Values<B::Scalar> {
        Values::new()
    }

    fn recall(&mut self, remembered: Values<B::Scalar>, _: &[Site]) -> Result<(), MethodError> {
        Ok(all_taken(&remembered)?)
    }

    fn parts(&mut self) -> Vec<(String, Part<'_, B>)> {
        PairState::parts(&mut self.states)
    }
}
