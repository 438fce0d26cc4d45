//! LoRA-FT: sequential fine-tuning with plain LoRA (Hu et al. 2022), the baseline that forgets.
//!
//! Rule: `ΔW = (α/r)·B·A`, A Kaiming-uniform, B zero, AdamW on both. Shapes: A r×in, B out×r. Kept between tasks: the
//! merged weights, or the adapter itself. Memory: none beside; a step changes AdamW's moments. Source: PEFT's `LoraLayer`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::memory::{Values, all_taken};
use super::{After, Method, MethodError, TaskStart, guard, named};
use crate::adapter::{AdapterGrads, Adapters, HostFactors, LoraAdapter};
use crate::backend::Backend;
use crate::model::Site;
use crate::optim::{AdamW, AdamWConfig, Ambient, Part, descend};
use crate::random::Random;

/// What becomes of the adapter between tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Continuation {
    /// Merged into the weights; the next task starts a fresh one.
    #[default]
    Merge,
    /// One adapter is trained on through all tasks.
    Continue,
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

/// Optimiser state of one stack.
struct StackState<B: Backend> {
    u: AdamW<B>,
    v: AdamW<B>,
}

/// The method.
pub struct LoraFt<B: Backend> {
    config: LoraConfig,
    layers: Vec<String>,
    states: Vec<StackState<B>>,
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

    fn needs_gradients(&self) -> bool {
        false
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        let adapters = match start.previous {
            Some(kept) => kept,
            None => {
                let mut rng = Random::new(start.seed, &format!("lora-ft/init/{}", start.task));
                let factors = start.sites.iter().enumerate().map(|(index, site)| {
                    let LoraConfig { rank, alpha, .. } = self.config;
                    let lora = LoraAdapter::kaiming(site.out, site.inp, rank, alpha, &mut rng)
                        .map_err(|source| MethodError::Adapter { layer: site.name.clone(), source })?;
                    Ok(HostFactors { site: index, u: lora.b, v: lora.a.transpose().to_owned(), s: lora.scale })
                });
                let factors: Vec<_> = factors.collect::<Result<_, MethodError>>()?;
                let scale = self.config.alpha / self.config.rank as f64;
                Adapters::upload(backend, &factors, start.sites.len(), Some(scale))?
            }
        };
        let state = |stack: &crate::adapter::AdapterStack<B>| {
            let ((out, inp, r), count) = (stack.extents, stack.sites.len());
            Ok(StackState {
                u: AdamW::new(backend, self.config.adamw, [count, out, r])?,
                v: AdamW::new(backend, self.config.adamw, [count, inp, r])?,
            })
        };
        self.states = adapters.stacks.iter().map(state).collect::<Result<_, MethodError>>()?;
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
        let rate = self.config.rate * factor;
        let decay = rate * self.config.weight_decay;
        for ((stack, grads), state) in adapters.stacks.iter_mut().zip(&mut grads.stacks).zip(&mut self.states) {
            for (x, grad, adamw) in
                [(&mut stack.u, &mut grads.u, &mut state.u), (&mut stack.v, &mut grads.v, &mut state.v)]
            {
                adamw.increment(backend, grad, rate);
                descend(backend, x, grad, decay);
            }
        }
        Ok(())
    }

    fn end_task(&mut self, _: &B) -> Result<After, MethodError> {
        Ok(match self.config.continuation {
            Continuation::Merge => After::Merge,
            Continuation::Continue => After::Keep,
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
        let states = self.states.iter_mut().enumerate();
        let parts = states.flat_map(|(i, state)| named(i, "b", state.u.parts()).chain(named(i, "a", state.v.parts())));
        parts.collect()
    }
}
