//! RMS norm of each row and its input gradient (Zhang & Sennrich 2019).

use super::simd::{sum, sum3, vectorized};
use super::tensor::{CpuTensor, same};
use super::threads::{block_rows, for_each_block, for_each_block2};
use crate::Real;
use crate::backend::{View, ViewMut};

const BLOCK_WORK: usize = 65_536;

/// `y = γ∘x·rstd` with `rstd = 1/√(mean(x²) + ε)` for each of the n rows of x (n×d); `stats` (n×1) keeps rstd.
pub fn rms_norm<T: Real>(
    y: ViewMut<'_, CpuTensor<T>>,
    stats: &mut CpuTensor<T>,
    x: View<'_, CpuTensor<T>>,
    gamma: &CpuTensor<T>,
    epsilon: f64,
) {
    same("rms_norm", (y.rows, y.cols), (x.rows, x.cols));
    let (n, d) = (x.rows, x.cols);
    let (gamma, epsilon, inverse_d) = (&gamma.data[..d], T::of(epsilon), T::of(1.0 / d as f64));
    let (rows, stride) = y.into_rows();
    let per_block = block_rows(n, d, BLOCK_WORK, 1);
    for_each_block2((rows, per_block * stride), (&mut stats.data[..n], per_block), n * d * 3, |b, ys, stats| {
        vectorized(
            #[inline(always)]
            || {
                for (i, (y, rstd)) in ys.chunks_mut(stride).zip(stats).enumerate() {
                    let x = x.row(b * per_block + i);
                    *rstd = T::one() / (sum(x, |v| v * v) * inverse_d + epsilon).sqrt();
                    for j in 0..d {
                        y[j] = x[j] * *rstd * gamma[j];
                    }
                }
            },
        );
    });
}

/// `dx += rstd·(g − x̂·mean(g∘x̂))` with `g = γ∘dy` and `x̂ = x·rstd`.
pub fn rms_norm_backward<T: Real>(
    dx: ViewMut<'_, CpuTensor<T>>,
    dy: View<'_, CpuTensor<T>>,
    x: View<'_, CpuTensor<T>>,
    stats: &CpuTensor<T>,
    gamma: &CpuTensor<T>,
) {
    same("rms_norm_backward", (dx.rows, dx.cols), (x.rows, x.cols));
    same("rms_norm_backward", (dy.rows, dy.cols), (x.rows, x.cols));
    let (n, d) = (x.rows, x.cols);
    let (gamma, inverse_d) = (&gamma.data[..d], T::of(1.0 / d as f64));
    let (rows, stride) = dx.into_rows();
    let per_block = block_rows(n, d, BLOCK_WORK, 1);
    for_each_block(rows, per_block * stride, n * d * 5, |b, dxs| {
        vectorized(
            #[inline(always)]
            || {
                for (i, dx) in dxs.chunks_mut(stride).enumerate() {
                    let row = b * per_block + i;
                    let (x, dy, rstd) = (x.row(row), dy.row(row), stats.data[row]);
                    let along = sum3(dy, gamma, x, |g, w, x| g * w * x) * rstd * inverse_d;
                    for j in 0..d {
                        dx[j] += rstd * (dy[j] * gamma[j] - x[j] * rstd * along);
                    }
                }
            },
        );
    });
}
