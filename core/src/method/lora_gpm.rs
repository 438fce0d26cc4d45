//! LoRA+GPM: plain LoRA whose input side keeps off the gradient subspace of earlier tasks.
//!
//! Rule: `ΔW = (α/r)·B·A` with `A·M = 0`: A Kaiming-uniform and then projected off M, its gradient and AdamW's increment
//! projected too; B zero at the start and free. Shapes: A r×in, B out×r, M in×k. M grows by GPM from the task's mean
//! gradient, to a share ε of its energy (design section 2, step 4). Kept between tasks: the merged weights and M.
//! Memory: min(k, in − k)·in numbers a layer; a step changes AdamW's moments. Where M leaves no input direction the
//! layer is left out. Source: Gradient Projection Memory (arXiv 2103.09762) on the factors of LoRA (arXiv 2106.09685):
//! what EBLoRA's protection does without its balanced energy.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::memories::Memories;
use super::memory::{Values, all_taken};
use super::pair::{PairState, kaiming, step_all};
use super::{After, MemorySize, Method, MethodError, Needs, TaskStart, Violation, guard};
use crate::adapter::{AdapterGrads, Adapters, HostFactors};
use crate::backend::Backend;
use crate::model::Site;
use crate::optim::{AdamWConfig, Part};
use crate::random::Random;

/// Settings of [`LoraGpm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraGpmConfig {
    /// Rank r.
    pub rank: usize,
    /// α; the update is scaled by α/r.
    pub alpha: f64,
    /// Energy threshold ε of GPM.
    pub epsilon: f64,
    /// Most directions kept a layer.
    pub budget: Option<usize>,
    /// Peak learning rate of A and B.
    pub rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for LoraGpmConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            epsilon: 0.99,
            budget: None,
            rate: 1.22e-3,
            weight_decay: 0.0,
            adamw: AdamWConfig::default(),
        }
    }
}

/// The method.
pub struct LoraGpm<B: Backend> {
    config: LoraGpmConfig,
    layers: Vec<String>,
    memories: Memories<B::Scalar>,
    states: Vec<PairState<B>>,
    warnings: Vec<String>,
}

impl<B: Backend> LoraGpm<B> {
    /// The method with these settings.
    pub fn new(config: LoraGpmConfig) -> Self {
        Self {
            config,
            layers: Vec::new(),
            memories: Memories::new(config.budget),
            states: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Kaiming's A off M and B = 0, for every layer that has a direction left.
    fn initial_factors(&mut self, start: &TaskStart<'_, B>) -> Result<Vec<HostFactors<B::Scalar>>, MethodError> {
        let mut rng = Random::new(start.seed, &format!("lora-gpm/init/{}", start.task));
        let mut factors = kaiming(start.sites, self.config.rank, self.config.alpha, &mut rng)?;
        let scratch = &mut Vec::new();
        factors.retain_mut(|f| {
            let m = self.memories.subspace(f.site);
            m.project_off(f.v.as_mut(), scratch);
            let room = m.k() < m.dim();
            if !room {
                self.warnings
                    .push(format!("layer {}: earlier tasks leave no input direction free", self.layers[f.site]));
            }
            room
        });
        Ok(factors)
    }
}

impl<B: Backend> Method<B> for LoraGpm<B> {
    fn name(&self) -> &'static str {
        "lora-gpm"
    }

    fn needs(&self) -> Needs {
        Needs { gradients: true, ..Needs::default() }
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        if start.gradients.len() != start.sites.len() {
            return Err(MethodError::Order("LoRA+GPM needs a gradient for each adapted layer"));
        }
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        self.memories.begin(start.sites);
        let (factors, scale) = (self.initial_factors(&start)?, self.config.alpha / self.config.rank as f64);
        self.states.clear();
        self.memories.note(start.gradients); // which are now halved
        let adapters = Adapters::upload(backend, &factors, start.sites.len(), Some(scale))?;
        for stack in &adapters.stacks {
            let ((_, inp, r), count) = (stack.extents, stack.sites.len());
            let restriction = match self.memories.upload(backend, &stack.sites)? {
                Some(m) => Some((m, backend.scratch([count, inp, r])?)),
                None => None,
            };
            self.states.push(PairState::new(backend, self.config.adamw, stack)?.off(restriction));
        }
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
        let LoraGpmConfig { rate, weight_decay, .. } = self.config;
        step_all(backend, adapters, grads, &mut self.states, rate * factor, weight_decay);
        Ok(())
    }

    fn end_task(&mut self, _: &B, _: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        self.states.clear();
        self.memories.grow(self.config.epsilon, &self.layers)?;
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let LoraGpmConfig { rank, alpha, epsilon, budget, rate, weight_decay, adamw } = self.config;
        Vec::from([
            ("rank", rank.to_string()),
            ("alpha", alpha.to_string()),
            ("epsilon", epsilon.to_string()),
            ("budget", budget.map_or_else(|| "none".to_string(), |b| b.to_string())),
            ("lora rate", rate.to_string()),
            ("weight decay", weight_decay.to_string()),
            ("AdamW", format!("{adamw:?}")),
        ])
    }

    fn remembered(&self) -> Values<B::Scalar> {
        self.memories.remembered()
    }

    fn recall(&mut self, mut remembered: Values<B::Scalar>, sites: &[Site]) -> Result<(), MethodError> {
        self.memories.recall(&mut remembered, sites)?;
        Ok(all_taken(&remembered)?)
    }

    fn parts(&mut self) -> Vec<(String, Part<'_, B>)> {
        PairState::parts(&mut self.states)
    }

    fn memory(&self) -> Vec<MemorySize> {
        self.memories.sizes()
    }

    fn violation(&self, factors: &[HostFactors<B::Scalar>]) -> Option<Violation> {
        Some(self.memories.violation(factors))
    }

    fn warnings(&mut self) -> Vec<String> {
        core::mem::take(&mut self.warnings)
    }
}
