//! Mean over the tokens of each sequence and its gradient.

use super::simd::vectorized;
use super::tensor::{CpuTensor, same};
use crate::Real;
use crate::backend::{View, ViewMut};

/// Row `i` of y = mean of rows `i·tokens .. (i + 1)·tokens` of x.
pub fn mean_pool<T: Real>(y: ViewMut<'_, CpuTensor<T>>, x: View<'_, CpuTensor<T>>, tokens: usize) {
    same("mean_pool", (y.rows * tokens, y.cols), (x.rows, x.cols));
    let (cols, inverse) = (x.cols, T::of(1.0 / tokens as f64));
    let (rows, stride) = y.into_rows();
    vectorized(
        #[inline(always)]
        || {
            for (i, y) in rows.chunks_mut(stride).enumerate() {
                let y = &mut y[..cols];
                y.fill(T::zero());
                for t in 0..tokens {
                    y.iter_mut().zip(x.row(i * tokens + t)).for_each(|(y, &x)| *y += x);
                }
                y.iter_mut().for_each(|y| *y *= inverse);
            }
        },
    );
}

/// Every row of dx = its sequence's row of dy / tokens.
pub fn mean_pool_backward<T: Real>(dx: ViewMut<'_, CpuTensor<T>>, dy: View<'_, CpuTensor<T>>, tokens: usize) {
    same("mean_pool_backward", (dx.rows, dx.cols), (dy.rows * tokens, dy.cols));
    let (cols, inverse) = (dy.cols, T::of(1.0 / tokens as f64));
    let (rows, stride) = dx.into_rows();
    vectorized(
        #[inline(always)]
        || {
            for (i, dx) in rows.chunks_mut(stride).enumerate() {
                dx[..cols].iter_mut().zip(dy.row(i / tokens)).for_each(|(x, &y)| *x = y * inverse);
            }
        },
    );
}
