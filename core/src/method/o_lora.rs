//! O-LoRA: each task's update in a subspace of inputs that is pushed to be orthogonal to those of earlier tasks.
//!
//! Rule: `ΔW = (α/r)·B·A` as in LoRA, with the loss plus `λ₁·Σ|A_old·Aᵀ|` (the entries' absolute values, over all layers)
//! plus `λ₂·(‖A‖_F + ‖B‖_F)`; A_old stacks the A of all earlier tasks. Shapes: A r×in, B out×r, A_old (t·r)×in. Kept
//! between tasks: the merged weights and A_old. Memory: t·r·in numbers a layer after t tasks; a step changes AdamW's
//! moments. The penalties' gradients are computed in the optimiser's step: they are no part of the loss reported.
//! Source: arXiv 2310.14152 and its released code. There the adapters of earlier tasks stay beside the weights, frozen,
//! and are summed in the forward pass; here they are merged, which is the same function (to rounding) at no cost a task,
//! and each task's own adapter stays in the record.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use faer::Mat;

use super::memory::{Value, Values, all_taken, take_matrix};
use super::pair::{PairState, fresh};
use super::{After, MemorySize, Method, MethodError, Needs, TaskStart, guard};
use crate::adapter::{AdapterGrads, AdapterStack, Adapters, HostFactors};
use crate::backend::{Backend, BackendError, Product};
use crate::model::Site;
use crate::optim::{AdamWConfig, Part};

/// Settings of [`OLora`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OLoraConfig {
    /// Rank r.
    pub rank: usize,
    /// α; the update is scaled by α/r.
    pub alpha: f64,
    /// λ₁, of the overlap with earlier tasks.
    pub overlap_penalty: f64,
    /// λ₂, of the factors' norms.
    pub norm_penalty: f64,
    /// Peak learning rate of A and B.
    pub rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for OLoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            overlap_penalty: 0.5,
            norm_penalty: 0.0,
            rate: 1.22e-3,
            weight_decay: 0.0,
            adamw: AdamWConfig::default(),
        }
    }
}

/// The A of earlier tasks of one stack, and the overlaps with them.
struct Overlap<B: Backend> {
    /// \[count, t·r, in\].
    old: B::Tensor,
    /// `A_old·Aᵀ`, then its signs: \[count, t·r, r\].
    signs: B::Tensor,
}

/// The method.
pub struct OLora<B: Backend> {
    config: OLoraConfig,
    layers: Vec<String>,
    /// A_oldᵀ of each site, in×(t·r).
    old: Vec<Mat<B::Scalar>>,
    overlaps: Vec<Option<Overlap<B>>>,
    states: Vec<PairState<B>>,
}

/// How A_oldᵀ of a site is called.
fn old_name(site: usize) -> String {
    format!("old{site}")
}

impl<B: Backend> OLora<B> {
    /// The method with these settings.
    pub fn new(config: OLoraConfig) -> Self {
        Self { config, layers: Vec::new(), old: Vec::new(), overlaps: Vec::new(), states: Vec::new() }
    }

    /// The earlier A of a stack on the device; `None` in the first task.
    fn overlap(&self, backend: &B, stack: &AdapterStack<B>) -> Result<Option<Overlap<B>>, BackendError> {
        let ((_, inp, r), count) = (stack.extents, stack.sites.len());
        let known = self.old[stack.sites[0]].ncols();
        if known == 0 {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(count * known * inp);
        for old in stack.sites.iter().map(|&site| &self.old[site]) {
            values.extend((0..known).flat_map(|k| (0..inp).map(move |j| old[(j, k)])));
        }
        let old = backend.upload([count, known, inp], &values)?;
        Ok(Some(Overlap { old, signs: backend.zeros([count, known, r])? }))
    }
}

impl<B: Backend> Method<B> for OLora<B> {
    fn name(&self) -> &'static str {
        "o-lora"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        if self.old.is_empty() {
            self.old = start.sites.iter().map(|s| Mat::zeros(s.inp, 0)).collect();
        }
        let OLoraConfig { rank, alpha, adamw, .. } = self.config;
        let adapters = fresh(backend, "o-lora", &start, rank, alpha)?;
        self.overlaps = adapters.stacks.iter().map(|stack| self.overlap(backend, stack)).collect::<Result<_, _>>()?;
        self.states = PairState::all(backend, adamw, &adapters)?;
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
        let OLoraConfig { overlap_penalty, norm_penalty, rate, weight_decay, .. } = self.config;
        let states = self.states.iter_mut().zip(&mut self.overlaps);
        for ((stack, grads), (state, overlap)) in adapters.stacks.iter_mut().zip(&mut grads.stacks).zip(states) {
            if let Some(Overlap { old, signs }) = overlap {
                backend.matmul_stack(signs, Product::Plain, [old, &stack.v], 1.0, false);
                backend.sign(signs);
                backend.matmul_stack(&mut grads.v, Product::LeftTransposed, [old, signs], overlap_penalty, true);
            }
            if norm_penalty > 0.0 {
                backend.norm_gradient(&mut grads.u, &stack.u, norm_penalty);
                backend.norm_gradient(&mut grads.v, &stack.v, norm_penalty);
            }
            state.step(backend, stack, grads, rate * factor, weight_decay);
        }
        Ok(())
    }

    fn end_task(&mut self, _: &B, learnt: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        self.states.clear();
        self.overlaps.clear();
        for f in learnt {
            let old = &mut self.old[f.site];
            let known = old.ncols();
            old.resize_with(f.v.nrows(), known + f.v.ncols(), |i, j| f.v[(i, j - known)]);
        }
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let OLoraConfig { rank, alpha, overlap_penalty, norm_penalty, rate, weight_decay, adamw } = self.config;
        Vec::from([
            ("rank", rank.to_string()),
            ("alpha", alpha.to_string()),
            ("overlap penalty", overlap_penalty.to_string()),
            ("norm penalty", norm_penalty.to_string()),
            ("lora rate", rate.to_string()),
            ("weight decay", weight_decay.to_string()),
            ("AdamW", format!("{adamw:?}")),
        ])
    }

    fn remembered(&self) -> Values<B::Scalar> {
        self.old.iter().enumerate().map(|(site, old)| (old_name(site), Value::matrix(old.as_ref()))).collect()
    }

    fn recall(&mut self, mut remembered: Values<B::Scalar>, sites: &[Site]) -> Result<(), MethodError> {
        let mut old = Vec::new();
        // Before the first task there is nothing.
        if !remembered.is_empty() {
            for (index, site) in sites.iter().enumerate() {
                old.push(take_matrix(&mut remembered, &old_name(index), site.inp)?);
            }
        }
        self.old = old;
        Ok(all_taken(&remembered)?)
    }

    fn parts(&mut self) -> Vec<(String, Part<'_, B>)> {
        PairState::parts(&mut self.states)
    }

    fn memory(&self) -> Vec<MemorySize> {
        let sizes = self.old.iter().enumerate().map(|(site, old)| {
            let (dim, k) = old.shape();
            MemorySize { site, k: k.min(dim), dim, stored: dim * k }
        });
        sizes.collect()
    }
}
