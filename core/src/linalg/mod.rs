//! Dense linear algebra on small and tall matrices: products, Gram matrices, symmetric eigen, inverse square root,
//! singular value decompositions, orthonormal bases.
//!
//! Every function takes faer views of any strides (ours are usually row-major) and is generic over [`Real`](crate::Real).
//! What runs inside a training step (`*_into`, [`EigenScratch`]) takes its scratch space from the caller.

use thiserror::Error;

mod eigen;
mod gemm;
mod gram;
mod inverse_sqrt;
mod orthonormal;
pub mod sketch;
mod svd;

pub use eigen::{EigenScratch, SymmetricEigen, symmetric_eigen, symmetric_eigen_into};
pub use gemm::{multiply, multiply_add};
pub use gram::{frobenius_sq, gram, gram_into, is_finite, max_abs, orthonormality_error};
pub use inverse_sqrt::{InverseSqrt, inverse_sqrt, inverse_sqrt_into};
pub use orthonormal::{complete, orthonormalize_against, random_orthonormal};
pub(crate) use orthonormal::{complete_by, orthonormalize_by};
pub use svd::{Svd, randomized_svd, thin_svd, truncated_svd};

/// What can go wrong in [`linalg`](self); each error names the operation it came from.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LinalgError {
    /// A matrix has the wrong shape.
    #[error("{op}: expected a {}x{} matrix, got {}x{}", expected.0, expected.1, got.0, got.1)]
    Shape {
        /// The operation.
        op: &'static str,
        /// The rows and columns it needs.
        expected: (usize, usize),
        /// The rows and columns it got.
        got: (usize, usize),
    },
    /// An input holds NaN or infinity.
    #[error("{op}: the input holds NaN or infinity")]
    NonFinite {
        /// The operation.
        op: &'static str,
    },
    /// Neither the first solver nor its fallback converged.
    #[error("{op}: the solver and its fallback did not converge")]
    NoConvergence {
        /// The operation.
        op: &'static str,
    },
    /// The matrix has no inverse in this precision.
    #[error("{op}: the matrix is singular (condition number {condition:e})")]
    Singular {
        /// The operation.
        op: &'static str,
        /// Largest over smallest eigenvalue; infinite when the smallest is not positive.
        condition: f64,
    },
}
