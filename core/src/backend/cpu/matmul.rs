//! `dst = scale·A·B (+ bias) (+ dst)`: faer's matmul over blocks of output rows.

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, Par};

use super::tensor::{CpuTensor, block_matrix};
use super::threads::{block_rows, for_each_block};
use crate::Real;
use crate::backend::{Epilogue, Scale, View, ViewMut};

/// Scalar multiplications of one block: small enough to share.
const BLOCK_WORK: usize = 1_200_000;
/// Rows of a block, at least: enough that packing B again for each block doesn't matter.
const BLOCK_ROWS: usize = 64;

/// The kernel; shapes: dst m×n, a m×k, b k×n.
pub fn matmul<T: Real>(
    dst: ViewMut<'_, CpuTensor<T>>,
    a: View<'_, CpuTensor<T>>,
    b: View<'_, CpuTensor<T>>,
    epilogue: Epilogue<'_, CpuTensor<T>>,
) {
    let (m, n, k) = (dst.rows, dst.cols, a.cols);
    assert!(
        a.rows == m && b.rows == k && b.cols == n,
        "matmul: {}×{} by {}×{} into {m}×{n}",
        a.rows,
        a.cols,
        b.rows,
        b.cols
    );
    let scale = match epilogue.scale {
        Scale::Value(x) => T::of(x),
        Scale::Item(tensor, i) => tensor.data[i],
    };
    let bias = epilogue.bias.map(|t| &t.data[..n]);
    let accumulate = epilogue.accumulate;
    let (a, b) = (a.matrix(), b.matrix());
    let (rows, stride) = dst.into_rows();
    let per_block = block_rows(m, n * k, BLOCK_WORK, 16).max(BLOCK_ROWS.min(m));
    for_each_block(rows, per_block * stride, m * n * k, |i, block| {
        if let (Some(bias), false) = (bias, accumulate) {
            block.chunks_mut(stride).for_each(|row| row[..n].copy_from_slice(bias));
        }
        let mut out = block_matrix(block, n, stride);
        let a = a.subrows(i * per_block, out.nrows());
        let accum = if accumulate || bias.is_some() { Accum::Add } else { Accum::Replace };
        faer_matmul(out.as_mut(), accum, a, b, scale, Par::Seq);
        if let (Some(bias), true) = (bias, accumulate) {
            block.chunks_mut(stride).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b));
        }
    });
}
