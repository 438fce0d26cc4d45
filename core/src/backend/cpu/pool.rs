//! Mean over the tokens of each sequence and its gradient.

use super::simd::vectorized;
use super::tensor::{CpuTensor, same};
use crate::Real;
use crate::backend::{View, ViewMut};

/// Rows of run `i` that count.
fn counted(i: usize, tokens: usize, lengths: Option<&[u32]>) -> usize {
    lengths.map_or(tokens, |l| tokens.min(l[i] as usize))
}

/// Row `i` of y = mean of the first `lengths[i]` (or all) rows of run `i` of x, 0 for none.
pub fn mean_pool<T: Real>(
    y: ViewMut<'_, CpuTensor<T>>,
    x: View<'_, CpuTensor<T>>,
    tokens: usize,
    lengths: Option<&[u32]>,
) {
    same("mean_pool", (y.rows * tokens, y.cols), (x.rows, x.cols));
    let cols = x.cols;
    let (rows, stride) = y.into_rows();
    vectorized(
        #[inline(always)]
        || {
            for (i, y) in rows.chunks_mut(stride).enumerate() {
                let y = &mut y[..cols];
                y.fill(T::zero());
                let count = counted(i, tokens, lengths);
                let inverse = T::of(1.0 / count.max(1) as f64);
                for t in 0..count {
                    y.iter_mut().zip(x.row(i * tokens + t)).for_each(|(y, &x)| *y += x);
                }
                y.iter_mut().for_each(|y| *y *= inverse);
            }
        },
    );
}

/// Every counted row of dx = its run's row of dy / count; the others 0.
pub fn mean_pool_backward<T: Real>(
    dx: ViewMut<'_, CpuTensor<T>>,
    dy: View<'_, CpuTensor<T>>,
    tokens: usize,
    lengths: Option<&[u32]>,
) {
    same("mean_pool_backward", (dx.rows, dx.cols), (dy.rows * tokens, dy.cols));
    let cols = dy.cols;
    let (rows, stride) = dx.into_rows();
    vectorized(
        #[inline(always)]
        || {
            for (i, dx) in rows.chunks_mut(stride).enumerate() {
                let count = counted(i / tokens, tokens, lengths);
                let inverse = if i % tokens < count { T::of(1.0 / count as f64) } else { T::zero() };
                dx[..cols].iter_mut().zip(dy.row(i / tokens)).for_each(|(x, &y)| *x = y * inverse);
            }
        },
    );
}
