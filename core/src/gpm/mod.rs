//! The gradient projection memory (GPM): per layer, an orthonormal basis `M` of the input directions that earlier tasks'
//! gradients used. New tasks keep `MᵀV = 0`, so their updates `s·U·Vᵀ` do not answer to those directions.
//!
//! [`Subspace`] stores `M`, [`Gradient`] is what a task contributes, [`update`] is the rule that lets `M` grow until it
//! holds a share ε of the gradient's energy, and [`GradientMemory`] adds a budget.

use thiserror::Error;

use crate::linalg::LinalgError;

mod budget;
mod complement;
mod gradient;
mod subspace;
mod update;

pub use budget::{GradientMemory, MemoryUpdate};
pub use gradient::Gradient;
pub use subspace::{Form, Subspace};
pub use update::{GpmUpdate, update};

/// What can go wrong in [`gpm`](self). The memory is unchanged whenever an error is returned.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum GpmError {
    /// The energy threshold is not in (0, 1].
    #[error("the energy threshold must be in (0, 1], got {0}")]
    Threshold(f64),
    /// Sizes that have to agree do not.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// What is counted.
        what: &'static str,
        /// The number needed.
        expected: usize,
        /// The number given.
        got: usize,
    },
    /// A basis that should be orthonormal is not.
    #[error("the basis is not orthonormal: max |MᵀM − I| = {error:e}, allowed {tolerance:e}")]
    NotOrthonormal {
        /// `max |MᵀM − I|`.
        error: f64,
        /// The largest error accepted.
        tolerance: f64,
    },
    /// The gradient holds NaN or infinity, or its energy overflows.
    #[error("the gradient's energy is not finite")]
    NonFinite,
    /// A decomposition failed.
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}
