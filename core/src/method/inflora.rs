//! InfLoRA: updates along the inputs of the new task that are orthogonal to those of earlier ones.
//!
//! Rule: `ΔW = B·A`, only B trained. With `C = XᵀX` the covariance of a layer's inputs over a sample of the task, A's rows
//! are the r leading eigenvectors of C with the space M of earlier inputs projected out, divided by √3, and frozen; B
//! starts at 0. M grows after each task by the rule of GPM applied to C itself (so energies are squared eigenvalues), to
//! the share `(lame − lamb)·t/T + lamb` in task t = 0 … T − 1; M or its complement is stored, whichever is smaller
//! (DualGPM). Shapes: A r×in, B out×r, C in×in, M in×k. Kept between tasks: the merged weights and M. Memory:
//! min(k, in − k)·in numbers a layer; a step changes B's AdamW moments. Where M leaves fewer than r directions the rank
//! shrinks with a warning.
//! Source: arXiv 2404.00228 and its released code. That takes C once more after the task for the memory, and stops one
//! direction short of the share in the first task; here C from before the task serves both, and all tasks have one rule.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::frozen_a::{FrozenA, Start};
use super::memory::{Values, all_taken};
use super::pair::PairState;
use super::{After, MemorySize, Method, MethodError, Needs, TaskStart, Violation};
use crate::adapter::{AdapterGrads, Adapters, HostFactors};
use crate::backend::Backend;
use crate::model::Site;
use crate::optim::{AdamWConfig, Part};
use crate::random::Random;

/// Settings of [`InfLora`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InfLoraConfig {
    /// Rank r.
    pub rank: usize,
    /// Share of the covariance's energy that is kept of the first task.
    pub lamb: f64,
    /// What that share grows towards over the tasks.
    pub lame: f64,
    /// Peak learning rate of B.
    pub rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for InfLoraConfig {
    fn default() -> Self {
        Self { rank: 8, lamb: 0.98, lame: 1.0, rate: 1.22e-3, weight_decay: 0.0, adamw: AdamWConfig::default() }
    }
}

impl InfLoraConfig {
    /// The share of the covariance's energy that is kept of a task (from 0) of so many.
    ///
    /// ```
    /// use eblora_core::method::InfLoraConfig;
    /// let config = InfLoraConfig { lamb: 0.9, lame: 1.0, ..InfLoraConfig::default() };
    /// assert_eq!([0, 1].map(|task| config.threshold(task, 2)), [0.9, 0.95]);
    /// ```
    pub fn threshold(&self, task: usize, tasks: usize) -> f64 {
        (self.lame - self.lamb) * task as f64 / tasks.max(1) as f64 + self.lamb
    }
}

/// The method.
pub struct InfLora<B: Backend> {
    config: InfLoraConfig,
    threshold: f64,
    shared: FrozenA<B>,
}

impl<B: Backend> InfLora<B> {
    /// The method with these settings.
    pub fn new(config: InfLoraConfig) -> Self {
        Self { config, threshold: config.lamb, shared: FrozenA::new() }
    }
}

impl<B: Backend> Method<B> for InfLora<B> {
    fn name(&self) -> &'static str {
        "inflora"
    }

    fn needs(&self) -> Needs {
        Needs { inputs: true, ..Needs::default() }
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        if start.inputs.len() != start.sites.len() {
            return Err(MethodError::Order("InfLoRA needs the covariance of each adapted layer's inputs"));
        }
        self.threshold = self.config.threshold(start.task, start.tasks);
        self.shared.name(start.sites);
        let mut rng = Random::new(start.seed, &format!("inflora/init/{}", start.task));
        let InfLoraConfig { rank, adamw, .. } = self.config;
        let numbers = Start { rank, length: 1.0 / libm::sqrt(3.0), scale: 1.0, adamw };
        self.shared.begin(backend, start.sites, start.inputs, &numbers, &mut rng)
    }

    fn step(
        &mut self,
        backend: &B,
        adapters: &mut Adapters<B>,
        grads: &mut AdapterGrads<B>,
        factor: f64,
    ) -> Result<(), MethodError> {
        self.shared.step(backend, adapters, grads, self.config.rate * factor, self.config.weight_decay)
    }

    fn end_task(&mut self, _: &B, _: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        self.shared.end(self.threshold)?;
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let InfLoraConfig { rank, lamb, lame, rate, weight_decay, adamw } = self.config;
        Vec::from([
            ("rank", rank.to_string()),
            ("lamb", lamb.to_string()),
            ("lame", lame.to_string()),
            ("lora rate", rate.to_string()),
            ("weight decay", weight_decay.to_string()),
            ("AdamW", format!("{adamw:?}")),
        ])
    }

    fn remembered(&self) -> Values<B::Scalar> {
        self.shared.memories.remembered()
    }

    fn recall(&mut self, mut remembered: Values<B::Scalar>, sites: &[Site]) -> Result<(), MethodError> {
        self.shared.memories.recall(&mut remembered, sites)?;
        Ok(all_taken(&remembered)?)
    }

    fn parts(&mut self) -> Vec<(String, Part<'_, B>)> {
        PairState::parts(&mut self.shared.states)
    }

    fn memory(&self) -> Vec<MemorySize> {
        self.shared.memories.sizes()
    }

    fn violation(&self, factors: &[HostFactors<B::Scalar>]) -> Option<Violation> {
        Some(self.shared.memories.violation(factors))
    }

    fn warnings(&mut self) -> Vec<String> {
        core::mem::take(&mut self.shared.warnings)
    }
}
