//! Rows scaled to unit length and the gradient of that.

use super::simd::{sum, sum2, vectorized};
use super::tensor::{CpuTensor, same};
use crate::Real;
use crate::backend::{View, ViewMut};

/// `y = x/‖x‖` per row; a zero row stays zero. `norms` (n×1) keeps `‖x‖`.
pub fn l2_normalize<T: Real>(y: ViewMut<'_, CpuTensor<T>>, norms: &mut CpuTensor<T>, x: View<'_, CpuTensor<T>>) {
    same("l2_normalize", (y.rows, y.cols), (x.rows, x.cols));
    let cols = x.cols;
    let (rows, stride) = y.into_rows();
    vectorized(
        #[inline(always)]
        || {
            for (i, y) in rows.chunks_mut(stride).enumerate() {
                let norm = sum(x.row(i), |v| v * v).sqrt();
                let inverse = if norm > T::zero() { T::one() / norm } else { T::zero() };
                norms.data[i] = norm;
                y[..cols].iter_mut().zip(x.row(i)).for_each(|(y, &x)| *y = x * inverse);
            }
        },
    );
}

/// `dx = (dy − y·⟨y, dy⟩)/‖x‖` per row; 0 for a zero row.
pub fn l2_normalize_backward<T: Real>(
    dx: ViewMut<'_, CpuTensor<T>>,
    dy: View<'_, CpuTensor<T>>,
    y: View<'_, CpuTensor<T>>,
    norms: &CpuTensor<T>,
) {
    same("l2_normalize_backward", (dx.rows, dx.cols), (dy.rows, dy.cols));
    same("l2_normalize_backward", (y.rows, y.cols), (dy.rows, dy.cols));
    let cols = dy.cols;
    let (rows, stride) = dx.into_rows();
    vectorized(
        #[inline(always)]
        || {
            for (i, dx) in rows.chunks_mut(stride).enumerate() {
                let (dy, y, norm) = (dy.row(i), y.row(i), norms.data[i]);
                let inverse = if norm > T::zero() { T::one() / norm } else { T::zero() };
                let along = sum2(y, dy, |y, g| y * g);
                for j in 0..cols {
                    dx[j] = (dy[j] - y[j] * along) * inverse;
                }
            }
        },
    );
}
