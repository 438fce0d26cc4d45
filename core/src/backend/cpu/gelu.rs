//! The exact (erf) GELU and its derivative.

use super::simd::vectorized;
use super::tensor::{CpuTensor, same};
use super::threads::{block_rows, for_each_block};
use crate::Real;
use crate::backend::{View, ViewMut};

const BLOCK_ROWS_WORK: usize = 16_384;

fn each_row<T: Real>(
    op: &str,
    dst: ViewMut<'_, CpuTensor<T>>,
    x: View<'_, CpuTensor<T>>,
    f: impl Fn(T, T) -> T + Sync + Send,
) {
    same(op, (dst.rows, dst.cols), (x.rows, x.cols));
    let cols = x.cols;
    let work = x.rows * cols * 16;
    let per_block = block_rows(x.rows, cols, BLOCK_ROWS_WORK, 1);
    let (rows, stride) = dst.into_rows();
    for_each_block(rows, per_block * stride, work, |b, block| {
        vectorized(|| {
            for (i, row) in block.chunks_mut(stride).enumerate() {
                let x = x.row(b * per_block + i);
                row[..cols].iter_mut().zip(x).for_each(|(y, &x)| *y = f(*y, x));
            }
        });
    });
}

/// `y = x·Φ(x)`.
pub fn gelu<T: Real>(y: ViewMut<'_, CpuTensor<T>>, x: View<'_, CpuTensor<T>>) {
    each_row(
        "gelu",
        y,
        x,
        #[inline(always)]
        |_, x| x * x.normal_kernel().0,
    );
}

/// `dx = dx∘(Φ(x) + x·φ(x))`.
pub fn gelu_backward<T: Real>(dx: ViewMut<'_, CpuTensor<T>>, x: View<'_, CpuTensor<T>>) {
    each_row(
        "gelu_backward",
        dx,
        x,
        #[inline(always)]
        |dy, x| {
            let (cdf, pdf) = x.normal_kernel();
            dy * (cdf + x * pdf)
        },
    );
}
