//! The eigendecompositions of a stack of symmetric matrices.

use faer::MatRef;

use super::tensor::CpuTensor;
use crate::Real;
use crate::backend::BackendError;
use crate::linalg::{EigenScratch, LinalgError, symmetric_eigen_into};
use crate::manifold::ManifoldError;

/// `A = V·Λ·Vᵀ` for every matrix; values descending.
pub fn symmetric_eigen<T: Real>(
    values: &mut CpuTensor<T>,
    vectors: &mut CpuTensor<T>,
    a: &CpuTensor<T>,
) -> Result<(), BackendError> {
    let [count, r, cols] = a.shape;
    let fits = r == cols && vectors.shape == a.shape && values.data.len() == count * r;
    assert!(fits, "symmetric_eigen: {:?} into {:?} and {:?}", a.shape, values.shape, vectors.shape);
    let mut scratch = EigenScratch::new(r);
    for item in 0..count {
        let matrix = MatRef::from_row_major_slice(&a.data[item * r * r..][..r * r], r, r);
        symmetric_eigen_into(matrix, &mut scratch).map_err(|e| match e {
            LinalgError::NonFinite { .. } => BackendError::NonFinite { item },
            other => BackendError::Manifold { item, source: ManifoldError::from(other) },
        })?;
        values.data[item * r..][..r].copy_from_slice(scratch.values());
        for i in 0..r {
            for j in 0..r {
                vectors.data[(item * r + i) * r + j] = scratch.vectors()[(i, j)];
            }
        }
    }
    Ok(())
}
