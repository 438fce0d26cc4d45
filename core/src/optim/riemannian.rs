//! The projected Riemannian step on the (restricted) Stiefel manifold, generic over the inner optimiser.

use alloc::vec::Vec;

use super::{Ambient, Part};
use crate::backend::{Backend, BackendError};
use crate::manifold::{Retraction, TangentMap};

/// How a step size of U and V is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StepConvention {
    /// The relative Frobenius step θ = ‖Δ‖/‖X‖: per-entry rate θ/√n for an n×r factor, whatever its width and rank.
    #[default]
    Relative,
    /// The per-entry rate itself.
    Raw,
    /// A raw rate times √(4096/r), as the authors' code.
    Authors,
}

impl StepConvention {
    /// The per-entry rate of an n×r factor for the stated step.
    ///
    /// ```
    /// use eblora_core::optim::StepConvention;
    /// assert_eq!(StepConvention::Relative.rate(0.1, 100, 8), 0.01);
    /// assert_eq!(StepConvention::Authors.rate(2e-4, 100, 16), 2e-4 * 16.0);
    /// ```
    pub fn rate(self, step: f64, n: usize, r: usize) -> f64 {
        match self {
            Self::Relative => step / libm::sqrt(n as f64),
            Self::Raw => step,
            Self::Authors => step * libm::sqrt(4096.0 / r as f64),
        }
    }
}

/// The geometry of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RiemannianConfig {
    /// Projection to the tangent space.
    pub tangent: TangentMap,
    /// The way back to the manifold.
    pub retraction: Retraction,
    /// Every how many steps `X + Δ` is itself projected off M, which only removes rounding drift; 0: never.
    pub drift_period: u32,
}

impl Default for RiemannianConfig {
    fn default() -> Self {
        Self { tangent: TangentMap::Euclidean, retraction: Retraction::Whitening, drift_period: 1 }
    }
}

/// The step of one stack of factors X: project the gradient, let the inner optimiser make an increment of it, project
/// that, add it, retract.
pub struct Riemannian<B: Backend, O> {
    config: RiemannianConfig,
    inner: O,
    scratch: B::Scratch,
    steps: u32,
}

impl<B: Backend, O: Ambient<B>> Riemannian<B, O> {
    /// For a stack of this shape, around an inner optimiser for it.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(backend: &B, config: RiemannianConfig, inner: O, shape: [usize; 3]) -> Result<Self, BackendError> {
        Ok(Self { config, inner, scratch: backend.scratch(shape)?, steps: 0 })
    }

    /// `X ← R(X + P(Δ(P(g))))` with P the projection off M (where given) and then to the tangent space at X.
    ///
    /// `grad` is used up as working memory: X⁺ is made in it, and the two are swapped at the end.
    ///
    /// # Errors
    /// When a factor can't be retracted; `x` is then unchanged, the whole stack of it. The inner optimiser has seen the
    /// gradient.
    pub fn step(
        &mut self,
        backend: &B,
        x: &mut B::Tensor,
        grad: &mut B::Tensor,
        subspaces: Option<&B::Subspaces>,
        rate: f64,
    ) -> Result<(), BackendError> {
        self.project(backend, x, grad, subspaces);
        self.inner.increment(backend, grad, rate);
        self.project(backend, x, grad, subspaces);
        backend.scale_add(grad, 1.0, x, 1.0);
        self.steps += 1;
        if let Some(m) = subspaces
            && self.config.drift_period > 0
            && self.steps.is_multiple_of(self.config.drift_period)
        {
            backend.project_off(grad, m, &mut self.scratch);
        }
        backend.retract(self.config.retraction, grad, &mut self.scratch)?;
        core::mem::swap(x, grad);
        Ok(())
    }

    /// Everything that steps change in it: the inner optimiser's parts and the count of steps.
    pub fn parts(&mut self) -> Vec<(&'static str, Part<'_, B>)> {
        let mut parts = self.inner.parts();
        parts.push(("steps", Part::Count(&mut self.steps)));
        parts
    }

    fn project(&mut self, backend: &B, x: &B::Tensor, delta: &mut B::Tensor, subspaces: Option<&B::Subspaces>) {
        if let Some(m) = subspaces {
            backend.project_off(delta, m, &mut self.scratch);
        }
        backend.project_tangent(self.config.tangent, x, delta, &mut self.scratch);
    }
}
