//! Frozen weights as stored, in 32 or fewer bits: products and row gathers that never hold a full copy in another precision.

use alloc::sync::Arc;
use alloc::vec::Vec;

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::matmul::{Ends, TILE_COLUMNS, matmul};
use super::tensor::{CpuTensor, row_major_mut, same};
use super::threads::for_each_tile;
use crate::Real;
use crate::backend::{BackendError, Epilogue, Packed, Shaped, Stored, View, ViewMut};

/// Values that are unpacked at a time: they stay in the cache.
const PANEL: usize = 65_536;

/// A rows×cols matrix in host memory, or where its file is mapped.
#[derive(Clone, Debug)]
pub struct CpuWeights<T> {
    shape: [usize; 3],
    values: Values<T>,
}

#[derive(Clone, Debug)]
enum Values<T> {
    Full(CpuTensor<T>),
    Bf16(Vec<u16>),
    F16(Vec<u16>),
    Packed(Arc<dyn Packed>),
}

impl<T: Real> CpuWeights<T> {
    pub(super) fn new(rows: usize, cols: usize, stored: Stored<'_>) -> Result<Self, BackendError> {
        let (shape, expected, got) = ([1, rows, cols], rows * cols, stored.len());
        if got != expected {
            return Err(BackendError::Size { op: "upload_weights", expected, got });
        }
        let values = match stored {
            Stored::F32(values) => {
                Values::Full(CpuTensor { shape, data: values.iter().map(|&v| T::of(f64::from(v))).collect() })
            }
            Stored::Bf16(bits) => Values::Bf16(bits.to_vec()),
            Stored::F16(bits) => Values::F16(bits.to_vec()),
            Stored::Packed(packed) => Values::Packed(packed.clone()),
        };
        Ok(Self { shape, values })
    }

    /// Unpacks the values from `at` on into `dst`.
    fn unpack(&self, at: usize, dst: &mut [T]) {
        let stored = match &self.values {
            Values::Full(tensor) => return dst.copy_from_slice(&tensor.data[at..at + dst.len()]),
            Values::Bf16(bits) => Stored::Bf16(bits),
            Values::F16(bits) => Stored::F16(bits),
            Values::Packed(packed) => Stored::Packed(packed),
        };
        T::fill_from_f32(dst, |narrow| stored.unpack(at, narrow));
    }
}

impl<T> Shaped for CpuWeights<T> {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

/// [`matmul`] with weights as B: what is not in full precision goes through a panel at a time. The product's columns are
/// shared among the threads, so that each value is unpacked once.
pub fn matmul_weights<T: Real>(
    dst: ViewMut<'_, CpuTensor<T>>,
    a: View<'_, CpuTensor<T>>,
    weights: View<'_, CpuWeights<T>>,
    epilogue: Epilogue<'_, CpuTensor<T>>,
) {
    let View { tensor, offset, rows, cols, stride, transposed } = weights;
    if let Values::Full(tensor) = &tensor.values {
        return matmul(dst, a, View { tensor, offset, rows, cols, stride, transposed }, epilogue);
    }
    let (m, n, k) = (dst.rows, dst.cols, a.cols);
    same("matmul_weights", (m, n), (a.rows, cols));
    same("matmul_weights", (k, n), (rows, cols));
    let ends = Ends::of(epilogue, n);
    let a = a.matrix();
    let (values, ld) = dst.into_rows();
    let out = row_major_mut(values, m, n, ld.max(n));
    let width = if transposed { PANEL / k.max(1) / 16 * 16 } else { TILE_COLUMNS }.max(16);
    for_each_tile(out, (m, width), m * n * k, &|_, first, mut block: MatMut<'_, T>| {
        let count = block.ncols();
        ends.begin(block.as_mut(), first);
        if transposed {
            // Rows of the stored matrix are columns of the product.
            let panel = unpacked(tensor, (first..first + count).map(|i| offset + i * stride), k);
            let panel = MatRef::from_row_major_slice(&panel, count, k);
            faer_matmul(block.as_mut(), ends.accum, a, panel.transpose(), ends.scale, Par::Seq);
        } else {
            // Panels are parts of the sum.
            let height = (PANEL / count.max(1)).clamp(1, k.max(1));
            let mut done = 0;
            // Also once for no rows at all, for the epilogue's sake.
            while done < k || done == 0 {
                let part = height.min(k - done);
                let panel = unpacked(tensor, (done..done + part).map(|i| offset + i * stride + first), count);
                let panel = MatRef::from_row_major_slice(&panel, part, count);
                let accum = if done == 0 { ends.accum } else { Accum::Add };
                faer_matmul(block.as_mut(), accum, a.subcols(done, part), panel, ends.scale, Par::Seq);
                done += part.max(1);
            }
        }
        ends.finish(block, first);
    });
}

/// `len` values from each of these places on, one after the other.
fn unpacked<T: Real>(weights: &CpuWeights<T>, places: impl ExactSizeIterator<Item = usize>, len: usize) -> Vec<T> {
    let mut panel = alloc::vec![T::zero(); places.len() * len];
    for (at, row) in places.zip(panel.chunks_exact_mut(len.max(1))) {
        weights.unpack(at, row);
    }
    panel
}

/// Row i of `dst` (=|+=) row `ids[i]` of the table; an id beyond it gives zeros.
pub fn gather<T: Real>(dst: ViewMut<'_, CpuTensor<T>>, table: &CpuWeights<T>, ids: &[u32], accumulate: bool) {
    let [_, rows, cols] = table.shape;
    same("gather", (dst.rows, dst.cols), (dst.rows, cols));
    assert!(ids.len() >= dst.rows, "gather: {} ids for {} rows", ids.len(), dst.rows);
    let (out, stride) = dst.into_rows();
    let mut row = alloc::vec![T::zero(); cols];
    for (into, &id) in out.chunks_mut(stride).zip(ids) {
        if (id as usize) < rows {
            table.unpack(id as usize * cols, &mut row);
        } else {
            row.fill(T::zero());
        }
        if accumulate {
            into[..cols].iter_mut().zip(&row).for_each(|(y, &x)| *y += x);
        } else {
            into[..cols].copy_from_slice(&row);
        }
    }
}
