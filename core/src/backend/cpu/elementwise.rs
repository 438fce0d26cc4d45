//! Copies, sums and scalings of whole buffers, and the reduction to one number.

use super::simd::{sum, sum2, vectorized};
use super::tensor::{CpuTensor, same};
use crate::Real;
use crate::backend::{View, ViewMut};

/// `dst = src`.
pub fn copy<T: Real>(dst: ViewMut<'_, CpuTensor<T>>, src: View<'_, CpuTensor<T>>) {
    same("copy", (dst.rows, dst.cols), (src.rows, src.cols));
    let cols = dst.cols;
    let (rows, stride) = dst.into_rows();
    if stride == cols && src.stride == cols && !src.transposed {
        let len = rows.len();
        rows.copy_from_slice(&src.slice()[..len]);
        return;
    }
    for (i, row) in rows.chunks_mut(stride).enumerate() {
        row[..cols].copy_from_slice(src.row(i));
    }
}

/// `dst = alpha·dst + beta·src`.
pub fn scale_add<T: Real>(dst: &mut CpuTensor<T>, alpha: f64, src: &CpuTensor<T>, beta: f64) {
    assert!(dst.shape == src.shape, "scale_add: shapes {:?} and {:?} differ", dst.shape, src.shape);
    let (alpha, beta) = (T::of(alpha), T::of(beta));
    vectorized(
        #[inline(always)]
        || dst.data.iter_mut().zip(&src.data).for_each(|(y, &x)| *y = alpha * *y + beta * x),
    );
}

/// `dst = alpha·dst`.
pub fn scale<T: Real>(dst: &mut CpuTensor<T>, alpha: f64) {
    let alpha = T::of(alpha);
    vectorized(
        #[inline(always)]
        || dst.data.iter_mut().for_each(|y| *y *= alpha),
    );
}

/// Index of the first value that is NaN or infinite.
pub fn first_non_finite<T: Real>(values: &[T]) -> Option<usize> {
    // x·0 is 0 for finite x and NaN otherwise, and so is the sum: one branch-free pass for the usual case.
    let clean = vectorized(
        #[inline(always)]
        || sum(values, |x| x * T::zero()),
    ) == T::zero();
    if clean { None } else { values.iter().position(|x| !x.is_finite()) }
}

/// Adds row `i mod period` of `table` to row `i` of `dst`.
pub fn add_rows<T: Real>(dst: ViewMut<'_, CpuTensor<T>>, table: &CpuTensor<T>) {
    let [count, period, cols] = table.shape;
    assert!(count == 1 && cols == dst.cols, "add_rows: a table of {:?} for {} columns", table.shape, dst.cols);
    let (rows, stride) = dst.into_rows();
    vectorized(
        #[inline(always)]
        || {
            for (i, row) in rows.chunks_mut(stride).enumerate() {
                let add = &table.data[(i % period) * cols..][..cols];
                row.iter_mut().zip(add).for_each(|(y, &x)| *y += x);
            }
        },
    );
}

/// `dst[index] = Σ a∘b`.
pub fn dot<T: Real>(dst: &mut CpuTensor<T>, index: usize, a: View<'_, CpuTensor<T>>, b: View<'_, CpuTensor<T>>) {
    same("dot", (a.rows, a.cols), (b.rows, b.cols));
    let product = |x: T, y: T| x * y;
    let (rows, cols) = (a.rows, a.cols);
    dst.data[index] = vectorized(
        #[inline(always)]
        || {
            if a.stride == cols && b.stride == cols {
                sum2(&a.slice()[..rows * cols], &b.slice()[..rows * cols], product)
            } else {
                (0..rows).map(|i| sum2(a.row(i), b.row(i), product)).sum()
            }
        },
    );
}
