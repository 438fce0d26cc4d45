//! AdamW on the factors A and B of LoRA's relatives, stack by stack.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{MethodError, TaskStart, named};
use crate::Real;
use crate::adapter::stack::StackGrads;
use crate::adapter::{AdapterGrads, AdapterStack, Adapters, HostFactors, LoraAdapter};
use crate::backend::{Backend, BackendError};
use crate::model::Site;
use crate::optim::{AdamW, AdamWConfig, Ambient, Part, descend};
use crate::random::Random;

/// What A is kept off: the subspaces of a stack, and working memory for them.
type Restriction<B> = (<B as Backend>::Subspaces, <B as Backend>::Scratch);

/// Optimiser state of one stack: of B, and of A unless it is frozen.
pub(super) struct PairState<B: Backend> {
    b: AdamW<B>,
    a: Option<AdamW<B>>,
    off: Option<Restriction<B>>,
}

impl<B: Backend> PairState<B> {
    /// Zero moments for a stack.
    pub fn new(backend: &B, config: AdamWConfig, stack: &AdapterStack<B>) -> Result<Self, BackendError> {
        let ((out, inp, r), count) = (stack.extents, stack.sites.len());
        let of = |n| AdamW::new(backend, config, [count, n, r]);
        let a = if stack.v_frozen { None } else { Some(of(inp)?) };
        Ok(Self { b: of(out)?, a, off: None })
    }

    /// Zero moments for all stacks.
    pub fn all(backend: &B, config: AdamWConfig, adapters: &Adapters<B>) -> Result<Vec<Self>, BackendError> {
        adapters.stacks.iter().map(|stack| Self::new(backend, config, stack)).collect()
    }

    /// The same with the gradient and the increment of A projected off these.
    pub fn off(mut self, restriction: Option<Restriction<B>>) -> Self {
        self.off = restriction;
        self
    }

    /// `X ← (1 − rate·decay)·X + Δ` for B, and for A unless it is frozen.
    pub fn step(&mut self, backend: &B, stack: &mut AdapterStack<B>, grads: &mut StackGrads<B>, rate: f64, decay: f64) {
        self.b.increment(backend, &mut grads.u, rate);
        descend(backend, &mut stack.u, &grads.u, rate * decay);
        let Some(adamw) = &mut self.a else { return };
        if let Some((m, scratch)) = &mut self.off {
            backend.project_off(&mut grads.v, m, scratch);
        }
        adamw.increment(backend, &mut grads.v, rate);
        if let Some((m, scratch)) = &mut self.off {
            backend.project_off(&mut grads.v, m, scratch);
        }
        descend(backend, &mut stack.v, &grads.v, rate * decay);
    }

    /// Everything that steps change in these, by names.
    pub fn parts(states: &mut [Self]) -> Vec<(String, Part<'_, B>)> {
        let parts = states.iter_mut().enumerate().flat_map(|(i, state)| {
            let a = state.a.as_mut().map(|a| a.parts()).unwrap_or_default();
            named(i, "b", state.b.parts()).chain(named(i, "a", a))
        });
        parts.collect()
    }
}

/// A step of all stacks, once their gradients are known to be finite.
pub(super) fn step_all<B: Backend>(
    backend: &B,
    adapters: &mut Adapters<B>,
    grads: &mut AdapterGrads<B>,
    states: &mut [PairState<B>],
    rate: f64,
    decay: f64,
) {
    for ((stack, grads), state) in adapters.stacks.iter_mut().zip(&mut grads.stacks).zip(states) {
        state.step(backend, stack, grads, rate, decay);
    }
}

/// Fresh adapters of a task of the method `name`, as plain LoRA has them: [`kaiming`], on the device.
pub(super) fn fresh<B: Backend>(
    backend: &B,
    name: &str,
    start: &TaskStart<'_, B>,
    rank: usize,
    alpha: f64,
) -> Result<Adapters<B>, MethodError> {
    let mut rng = Random::new(start.seed, &format!("{name}/init/{}", start.task));
    let factors = kaiming(start.sites, rank, alpha, &mut rng)?;
    Ok(Adapters::upload(backend, &factors, start.sites.len(), Some(alpha / rank as f64))?)
}

/// LoRA's start at every site: A (the transpose of V) Kaiming-uniform, B zero, scale α/r.
pub(super) fn kaiming<T: Real>(
    sites: &[Site],
    rank: usize,
    alpha: f64,
    rng: &mut Random,
) -> Result<Vec<HostFactors<T>>, MethodError> {
    let factors = sites.iter().enumerate().map(|(index, site)| {
        let lora = LoraAdapter::kaiming(site.out, site.inp, rank, alpha, rng)
            .map_err(|source| MethodError::Adapter { layer: site.name.clone(), source })?;
        Ok(HostFactors { site: index, u: lora.b, v: lora.a.transpose().to_owned(), s: lora.scale })
    });
    factors.collect()
}
