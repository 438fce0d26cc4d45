//! StelLA: low-rank adaptation with both subspaces on the Stiefel manifold and a free r×r matrix between them.
//!
//! Rule: `ΔW = (α/r)·U·S·Vᵀ` with `UᵀU = VᵀV = I`, all three trained: U and V by the projected Riemannian step (AdamW
//! inside, no gradient memory), S by AdamW. From the gradient of `Ũ = U·S` the chain rule gives `∂L/∂U = ∂L/∂Ũ·Sᵀ` and
//! `∂L/∂S = Uᵀ·∂L/∂Ũ`. U and V start random, S at 0. Shapes: U out×r, V in×r, S r×r. Kept between tasks: the merged
//! weights. Memory: none beside; a step changes U, S, their moments and V's. The adapter holds `U·S` and V, so that it is
//! exported as any LoRA: B = (α/r)·U·S, A = Vᵀ.
//! Source: arXiv 2510.01938, "StelLA: Subspace Learning in Low-rank Adaptation using Stiefel Manifold" (NeurIPS 2025),
//! here with the steps and retractions of this library.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use faer::Mat;

use super::memory::{Values, all_taken};
use super::{After, Method, MethodError, Needs, TaskStart, Violation, guard, named, step_error};
use crate::Real;
use crate::adapter::{AdapterError, AdapterGrads, AdapterStack, Adapters, HostFactors};
use crate::backend::{Backend, BackendError, Product};
use crate::linalg::{orthonormality_error, random_orthonormal};
use crate::model::Site;
use crate::optim::{AdamW, AdamWConfig, Ambient, Part, Riemannian, RiemannianConfig, StepConvention, descend};
use crate::random::Random;

/// Settings of [`Stella`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StellaConfig {
    /// Rank r.
    pub rank: usize,
    /// α; the update is scaled by α/r.
    pub alpha: f64,
    /// Step of U and V at the peak of the schedule, in `convention`.
    pub step: f64,
    /// What `step` means.
    pub convention: StepConvention,
    /// Peak learning rate of S.
    pub rate: f64,
    /// Decoupled weight decay of S. U and V have none: it would be radial, and projected away.
    pub weight_decay: f64,
    /// Tangent map and retraction.
    pub geometry: RiemannianConfig,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for StellaConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            step: 0.1,
            convention: StepConvention::Relative,
            rate: 4e-3,
            weight_decay: 0.0,
            geometry: RiemannianConfig::default(),
            adamw: AdamWConfig::default(),
        }
    }
}

/// What a stack has beside its adapters `U·S` and V.
struct StackState<B: Backend> {
    /// U, \[count, out, r\], and its gradient.
    u: B::Tensor,
    du: B::Tensor,
    /// S, \[count, r, r\], and its gradient.
    s: B::Tensor,
    ds: B::Tensor,
    step_u: Riemannian<B, AdamW<B>>,
    step_v: Riemannian<B, AdamW<B>>,
    step_s: AdamW<B>,
}

/// The method.
pub struct Stella<B: Backend> {
    config: StellaConfig,
    layers: Vec<String>,
    states: Vec<StackState<B>>,
    warnings: Vec<String>,
}

impl<B: Backend> Stella<B> {
    /// The method with these settings.
    pub fn new(config: StellaConfig) -> Self {
        Self { config, layers: Vec::new(), states: Vec::new(), warnings: Vec::new() }
    }

    /// Random U and V of every layer; U is to stand where `U·S` will.
    fn initial_factors(&mut self, start: &TaskStart<'_, B>) -> Result<Vec<HostFactors<B::Scalar>>, MethodError> {
        let mut rng = Random::new(start.seed, &format!("stella/init/{}", start.task));
        let mut factors = Vec::with_capacity(start.sites.len());
        for (index, site) in start.sites.iter().enumerate() {
            let rank = self.config.rank.min(site.out).min(site.inp);
            if rank < self.config.rank {
                self.warnings.push(format!("layer {}: its rank can be {rank} at most", site.name));
            }
            let mut orthonormal = |n| {
                random_orthonormal(n, rank, &mut rng).map_err(|source| MethodError::Adapter {
                    layer: site.name.clone(),
                    source: AdapterError::from(source),
                })
            };
            let (u, v) = (orthonormal(site.out)?, orthonormal(site.inp)?);
            factors.push(HostFactors { site: index, u, v, s: B::Scalar::of(1.0) });
        }
        Ok(factors)
    }

    /// Takes U out of a fresh stack and leaves `U·S = 0` in its place.
    fn stack_state(&self, backend: &B, stack: &mut AdapterStack<B>) -> Result<StackState<B>, BackendError> {
        let ((out, inp, r), count) = (stack.extents, stack.sites.len());
        let riemannian = |n| {
            let adamw = AdamW::new(backend, self.config.adamw, [count, n, r])?;
            Riemannian::new(backend, self.config.geometry, adamw, [count, n, r])
        };
        Ok(StackState {
            u: core::mem::replace(&mut stack.u, backend.zeros([count, out, r])?),
            du: backend.zeros([count, out, r])?,
            s: backend.zeros([count, r, r])?,
            ds: backend.zeros([count, r, r])?,
            step_u: riemannian(out)?,
            step_v: riemannian(inp)?,
            step_s: AdamW::new(backend, self.config.adamw, [count, r, r])?,
        })
    }
}

impl<B: Backend> Method<B> for Stella<B> {
    fn name(&self) -> &'static str {
        "stella"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        let scale = self.config.alpha / self.config.rank as f64;
        let factors = self.initial_factors(&start)?;
        let mut adapters = Adapters::upload(backend, &factors, start.sites.len(), Some(scale))?;
        self.states.clear();
        for stack in &mut adapters.stacks {
            let state = self.stack_state(backend, stack)?;
            self.states.push(state);
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
        let StellaConfig { convention, step, rate, weight_decay, .. } = self.config;
        for ((stack, grads), state) in adapters.stacks.iter_mut().zip(&mut grads.stacks).zip(&mut self.states) {
            let (out, inp, r) = stack.extents;
            let named = |factor, e| step_error(&self.layers, &stack.sites, factor, e);
            let StackState { u, du, s, ds, step_u, step_v, step_s } = state;
            backend.matmul_stack(ds, Product::LeftTransposed, [u, &grads.u], 1.0, false);
            backend.matmul_stack(du, Product::RightTransposed, [&grads.u, s], 1.0, false);
            step_u.step(backend, u, du, None, factor * convention.rate(step, out, r)).map_err(|e| named("U", e))?;
            let of_v = factor * convention.rate(step, inp, r);
            step_v.step(backend, &mut stack.v, &mut grads.v, None, of_v).map_err(|e| named("V", e))?;
            step_s.increment(backend, ds, factor * rate);
            descend(backend, s, ds, factor * rate * weight_decay);
            backend.matmul_stack(&mut stack.u, Product::Plain, [u, s], 1.0, false);
        }
        Ok(())
    }

    fn end_task(&mut self, _: &B, _: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        self.states.clear();
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let StellaConfig { rank, alpha, step, convention, rate, weight_decay, geometry, adamw } = self.config;
        Vec::from([
            ("rank", rank.to_string()),
            ("alpha", alpha.to_string()),
            ("step", format!("{step} ({convention:?})")),
            ("s rate", rate.to_string()),
            ("weight decay", weight_decay.to_string()),
            ("geometry", format!("{geometry:?}")),
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
        let parts = self.states.iter_mut().enumerate().flat_map(|(i, state)| {
            let StackState { u, s, step_u, step_v, step_s, .. } = state;
            let own = Vec::from([("u", Part::Tensor(u)), ("s", Part::Tensor(s))]);
            let steps = named(i, "u", step_u.parts()).chain(named(i, "v", step_v.parts()));
            named(i, "factors", own).chain(steps).chain(named(i, "s", step_s.parts()))
        });
        parts.collect()
    }

    fn trainable_parameters(&self, adapters: &Adapters<B>) -> usize {
        let s = |stack: &AdapterStack<B>| stack.sites.len() * stack.extents.2 * stack.extents.2;
        adapters.trainable_parameters() + adapters.stacks.iter().map(s).sum::<usize>()
    }

    /// Of V: U is no part of the adapter.
    fn violation(&self, factors: &[HostFactors<B::Scalar>]) -> Option<Violation> {
        let off = |v: &Mat<B::Scalar>| orthonormality_error(v.as_ref()).f64();
        let orthonormality = factors.iter().map(|f| off(&f.v)).fold(0.0, f64::max);
        Some(Violation { orthonormality, ..Violation::default() })
    }

    fn warnings(&mut self) -> Vec<String> {
        core::mem::take(&mut self.warnings)
    }
}
