//! The manifolds of the factors `U` and `V`: Stiefel, `{X : XᵀX = I}`, and its part orthogonal to a gradient memory `M`.
//!
//! A step projects a gradient to the tangent space ([`project_tangent`], [`RestrictedStiefel::project`]), lets any
//! optimiser make an increment `Δ` of it, projects that too, and puts `X + Δ` back by a retraction ([`retract`],
//! [`RestrictedStiefel::retract`]). These run every step and allocate nothing but what [`StiefelScratch`] holds, unless
//! their documentation says so.

use thiserror::Error;

use crate::linalg::LinalgError;

mod restricted;
mod retraction;
mod stiefel;

pub use restricted::{RestrictedStiefel, feasible_rank};
pub use retraction::{Retraction, RetractionInfo, retract};
pub use stiefel::{StiefelScratch, TangentMap, inner_product, project_tangent, random_point, tangency_error};

/// What can go wrong in [`manifold`](self).
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ManifoldError {
    /// The manifold has no point: more orthonormal columns are asked for than directions are left.
    #[error("no {rank} orthonormal columns of length {dim} are orthogonal to {k} directions")]
    Infeasible {
        /// Length of the columns.
        dim: usize,
        /// Directions taken by `M`.
        k: usize,
        /// Columns asked for.
        rank: usize,
    },
    /// The matrix to retract holds NaN or infinity.
    #[error("retraction: the matrix holds NaN or infinity")]
    NonFinite,
    /// The columns of the matrix to retract are zero or linearly dependent: the nearest point is not unique.
    #[error("retraction: the columns are linearly dependent (condition number {condition:e})")]
    RankDeficient {
        /// The condition number, as far as it can be told; infinite for a zero matrix.
        condition: f64,
    },
    /// A decomposition failed.
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}
