//! Optimisers over stacks of matrices on any backend: AdamW in the ambient space, and the projected Riemannian step
//! (design section 2, step 3) around any such optimiser.

mod adamw;
mod part;
mod riemannian;
mod schedule;

pub use adamw::{AdamW, AdamWConfig};
pub use part::Part;
pub use riemannian::{Riemannian, RiemannianConfig, StepConvention};
pub use schedule::{Decay, Schedule};

use alloc::vec::Vec;

use crate::backend::Backend;

/// An optimiser in the ambient space: turns a gradient into an increment and keeps its own state for it.
pub trait Ambient<B: Backend> {
    /// Replaces `grad` by the increment `Δ` at learning rate `rate`.
    fn increment(&mut self, backend: &B, grad: &mut B::Tensor, rate: f64);
    /// Everything that steps change in it, by names of its own.
    fn parts(&mut self) -> Vec<(&'static str, Part<'_, B>)>;
}

/// Plain gradient descent, `Δ = −rate·g`: the simplest [`Ambient`] optimiser, and the one whose steps are easy to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sgd;

impl<B: Backend> Ambient<B> for Sgd {
    fn increment(&mut self, backend: &B, grad: &mut B::Tensor, rate: f64) {
        backend.scale(grad, -rate);
    }

    fn parts(&mut self) -> Vec<(&'static str, Part<'_, B>)> {
        Vec::new()
    }
}

/// Adds an increment with decoupled weight decay: `x ← (1 − decay)·x + Δ`.
pub fn descend<B: Backend>(backend: &B, x: &mut B::Tensor, increment: &B::Tensor, decay: f64) {
    backend.scale_add(x, 1.0 - decay, increment, 1.0);
}
