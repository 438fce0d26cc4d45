//! KeepLoRA: updates within what neither the pretrained weight nor earlier tasks use.
//!
//! Rule: `ΔW = (α/r)·B·A`, only B trained. A's rows are the r leading right singular vectors of `G·(I − M·Mᵀ)`, frozen; B
//! starts at 0. M begins as the leading right singular directions of the pretrained W that hold a share ε_w of its energy
//! (the part that carries general knowledge), and grows after each task by GPM from that task's mean gradient G, to a
//! share ε_f. Shapes: A r×in, B out×r, M in×k, G out×in. Kept between tasks: the merged weights and M. Memory:
//! min(k, in − k)·in numbers a layer; W is read back once, before the first task. A step changes B's AdamW moments.
//! Where M leaves fewer than r directions the rank shrinks with a warning.
//! Source: arXiv 2601.19659, "KeepLoRA: Continual Learning with Residual Gradient Adaptation"; here, as in the design
//! of this project, B starts at 0, and the directions of earlier tasks are those of their gradients.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::frozen_a::{FrozenA, Start};
use super::memory::{Values, all_taken};
use super::pair::PairState;
use super::{After, MemorySize, Method, MethodError, Needs, TaskStart, Violation};
use crate::adapter::{AdapterGrads, Adapters, HostFactors};
use crate::backend::Backend;
use crate::gpm::Gradient;
use crate::model::Site;
use crate::optim::{AdamWConfig, Part};
use crate::random::Random;

/// Settings of [`KeepLora`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeepLoraConfig {
    /// Rank r.
    pub rank: usize,
    /// α; the update is scaled by α/r.
    pub alpha: f64,
    /// Share ε_w of the pretrained weight's energy that is kept.
    pub weight_epsilon: f64,
    /// Share ε_f of each task's gradient energy that is kept.
    pub epsilon: f64,
    /// Peak learning rate of B.
    pub rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for KeepLoraConfig {
    fn default() -> Self {
        Self {
            rank: 32,
            alpha: 64.0,
            weight_epsilon: 0.6,
            epsilon: 0.99,
            rate: 1.22e-3,
            weight_decay: 0.0,
            adamw: AdamWConfig::default(),
        }
    }
}

/// The method.
pub struct KeepLora<B: Backend> {
    config: KeepLoraConfig,
    shared: FrozenA<B>,
}

impl<B: Backend> KeepLora<B> {
    /// The method with these settings.
    pub fn new(config: KeepLoraConfig) -> Self {
        Self { config, shared: FrozenA::new() }
    }
}

impl<B: Backend> Method<B> for KeepLora<B> {
    fn name(&self) -> &'static str {
        "keeplora"
    }

    fn needs(&self) -> Needs {
        Needs { gradients: true, weights: self.shared.memories.is_empty(), ..Needs::default() }
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        let first = self.shared.memories.is_empty();
        if start.gradients.len() != start.sites.len() || (first && start.weights.len() != start.sites.len()) {
            return Err(MethodError::Order(
                "KeepLoRA needs a gradient for each adapted layer, and at first its weight",
            ));
        }
        self.shared.name(start.sites);
        if first {
            let weights: Vec<_> = start.weights.into_iter().map(Gradient::Exact).collect();
            self.shared.memories.update(&weights, self.config.weight_epsilon, &self.shared.layers)?;
        }
        let mut rng = Random::new(start.seed, &format!("keeplora/init/{}", start.task));
        let KeepLoraConfig { rank, alpha, adamw, .. } = self.config;
        let numbers = Start { rank, length: 1.0, scale: alpha / rank as f64, adamw };
        self.shared.begin(backend, start.sites, start.gradients, &numbers, &mut rng)
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
        self.shared.end(self.config.epsilon)?;
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let KeepLoraConfig { rank, alpha, weight_epsilon, epsilon, rate, weight_decay, adamw } = self.config;
        Vec::from([
            ("rank", rank.to_string()),
            ("alpha", alpha.to_string()),
            ("epsilon of the weight", weight_epsilon.to_string()),
            ("epsilon", epsilon.to_string()),
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
