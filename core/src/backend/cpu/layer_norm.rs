//! Layer norm of each row and its input gradient.

use super::simd::{sum, sum2, sum3, vectorized};
use super::tensor::{CpuTensor, same};
use super::threads::{block_rows, for_each_block, for_each_block2};
use crate::Real;
use crate::backend::{View, ViewMut};

const BLOCK_WORK: usize = 65_536;

/// `y = γ∘(x − mean)·rstd + β` for each of the n rows of x (n×d); `stats` (n×2) keeps mean and rstd.
pub fn layer_norm<T: Real>(
    y: ViewMut<'_, CpuTensor<T>>,
    stats: &mut CpuTensor<T>,
    x: View<'_, CpuTensor<T>>,
    gamma: &CpuTensor<T>,
    beta: &CpuTensor<T>,
    epsilon: f64,
) {
    same("layer_norm", (y.rows, y.cols), (x.rows, x.cols));
    let (n, d) = (x.rows, x.cols);
    let (gamma, beta, epsilon, inverse_d) = (&gamma.data[..d], &beta.data[..d], T::of(epsilon), T::of(1.0 / d as f64));
    let (rows, stride) = y.into_rows();
    let per_block = block_rows(n, d, BLOCK_WORK, 1);
    for_each_block2(
        (rows, per_block * stride),
        (&mut stats.data[..2 * n], 2 * per_block),
        n * d * 4,
        |b, ys, stats| {
            vectorized(
                #[inline(always)]
                || {
                    for (i, (y, stats)) in ys.chunks_mut(stride).zip(stats.chunks_exact_mut(2)).enumerate() {
                        let x = x.row(b * per_block + i);
                        let mean = sum(x, |v| v) * inverse_d;
                        let variance = sum(x, |v| (v - mean) * (v - mean)) * inverse_d;
                        let rstd = T::one() / (variance + epsilon).sqrt();
                        for j in 0..d {
                            y[j] = (x[j] - mean) * rstd * gamma[j] + beta[j];
                        }
                        stats[0] = mean;
                        stats[1] = rstd;
                    }
                },
            );
        },
    );
}

/// `dx += rstd·(g − mean(g) − x̂·mean(g∘x̂))` with `g = γ∘dy` and `x̂` the normalised row.
pub fn layer_norm_backward<T: Real>(
    dx: ViewMut<'_, CpuTensor<T>>,
    dy: View<'_, CpuTensor<T>>,
    x: View<'_, CpuTensor<T>>,
    stats: &CpuTensor<T>,
    gamma: &CpuTensor<T>,
) {
    same("layer_norm_backward", (dx.rows, dx.cols), (x.rows, x.cols));
    same("layer_norm_backward", (dy.rows, dy.cols), (x.rows, x.cols));
    let (n, d) = (x.rows, x.cols);
    let (gamma, inverse_d) = (&gamma.data[..d], T::of(1.0 / d as f64));
    let (rows, stride) = dx.into_rows();
    let per_block = block_rows(n, d, BLOCK_WORK, 1);
    for_each_block(rows, per_block * stride, n * d * 6, |b, dxs| {
        vectorized(
            #[inline(always)]
            || {
                for (i, dx) in dxs.chunks_mut(stride).enumerate() {
                    let row = b * per_block + i;
                    let (x, dy) = (x.row(row), dy.row(row));
                    let (mean, rstd) = (stats.data[2 * row], stats.data[2 * row + 1]);
                    let mean_g = sum2(dy, gamma, |g, w| g * w) * inverse_d;
                    // Centred before it is summed: rstd·(Σ g·x − mean·Σ g) would cancel.
                    let mean_gx = sum3(dy, gamma, x, |g, w, x| g * w * (x - mean)) * rstd * inverse_d;
                    for j in 0..d {
                        let x_hat = (x[j] - mean) * rstd;
                        dx[j] += rstd * (dy[j] * gamma[j] - mean_g - x_hat * mean_gx);
                    }
                }
            },
        );
    });
}
