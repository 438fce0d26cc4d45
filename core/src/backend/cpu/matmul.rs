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

/// What an epilogue comes to, for products that come in parts.
pub(super) struct Ends<'a, T> {
    pub scale: T,
    /// The bias, where it is what the product is added to.
    pub before: Option<&'a [T]>,
    /// The bias, where it is added to what is there already.
    pub after: Option<&'a [T]>,
    /// Whether the product, or its first part, is added.
    pub accum: Accum,
}

impl<'a, T: Real> Ends<'a, T> {
    /// For `n` columns.
    pub fn of(epilogue: Epilogue<'a, CpuTensor<T>>, n: usize) -> Self {
        let Epilogue { scale, bias, accumulate } = epilogue;
        let scale = match scale {
            Scale::Value(x) => T::of(x),
            Scale::Item(tensor, i) => tensor.data[i],
        };
        let bias = bias.map(|t| &t.data[..n]);
        let accum = if accumulate || bias.is_some() { Accum::Add } else { Accum::Replace };
        Self { scale, before: bias.filter(|_| !accumulate), after: bias.filter(|_| accumulate), accum }
    }
}

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
    let Ends { scale, before, after, accum } = Ends::of(epilogue, n);
    let (a, b) = (a.matrix(), b.matrix());
    let (rows, stride) = dst.into_rows();
    let per_block = block_rows(m, n * k, BLOCK_WORK, 16).max(BLOCK_ROWS.min(m));
    for_each_block(rows, per_block * stride, m * n * k, |i, block| {
        if let Some(bias) = before {
            block.chunks_mut(stride).for_each(|row| row[..n].copy_from_slice(bias));
        }
        let mut out = block_matrix(block, n, stride);
        let a = a.subrows(i * per_block, out.nrows());
        faer_matmul(out.as_mut(), accum, a, b, scale, Par::Seq);
        if let Some(bias) = after {
            block.chunks_mut(stride).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b));
        }
    });
}
