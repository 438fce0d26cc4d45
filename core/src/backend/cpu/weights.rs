//! Frozen weights as stored, in 32 or 16 bits: products and row gathers that never hold a full copy in another precision.

use alloc::vec::Vec;

use super::matmul::matmul;
use super::tensor::{CpuTensor, same};
use crate::Real;
use crate::backend::{BackendError, Epilogue, Shaped, Stored, View, ViewMut};

/// Values of a 16-bit matrix that are unpacked at a time: they stay in the cache.
const PANEL: usize = 65_536;

/// A rows×cols matrix in host memory.
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
        };
        Ok(Self { shape, values })
    }

    /// Unpacks the values from `at` on into `dst`.
    fn unpack(&self, at: usize, dst: &mut [T]) {
        match &self.values {
            Values::Full(tensor) => dst.copy_from_slice(&tensor.data[at..at + dst.len()]),
            Values::Bf16(bits) => {
                let one = |&b: &u16| T::of(f64::from(f32::from_bits(u32::from(b) << 16)));
                dst.iter_mut().zip(&bits[at..]).for_each(|(d, b)| *d = one(b));
            }
            Values::F16(bits) => {
                let one = |&b: &u16| T::of(f64::from(half::f16::from_bits(b).to_f32()));
                dst.iter_mut().zip(&bits[at..]).for_each(|(d, b)| *d = one(b));
            }
        }
    }
}

impl<T> Shaped for CpuWeights<T> {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

/// [`matmul`] with weights as B: 16-bit ones go through a panel of rows at a time.
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
    let (stored, width) = if transposed { (cols, rows) } else { (rows, cols) };
    let height = (PANEL / width.max(1)).clamp(1, stored.max(1));
    let mut panel = CpuTensor { shape: [1, height, width], data: alloc::vec![T::zero(); height * width] };
    let ViewMut { tensor: out, offset: to, rows: m, cols: n, stride: ld } = dst;
    let mut first = 0;
    // Also once for no rows at all, for the epilogue's sake.
    while first < stored || first == 0 {
        let count = height.min(stored - first);
        for (i, row) in panel.data.chunks_exact_mut(width.max(1)).take(count).enumerate() {
            tensor.unpack(offset + (first + i) * stride, row);
        }
        let part = View { tensor: &panel, offset: 0, rows: count, cols: width, stride: width, transposed: false };
        if transposed {
            // Columns of the result: they have their own part of the bias.
            let bias =
                epilogue.bias.map(|b| CpuTensor { shape: [1, 1, count], data: b.data[first..first + count].to_vec() });
            let dst = ViewMut { tensor: &mut *out, offset: to + first, rows: m, cols: count, stride: ld };
            matmul(dst, a, part.t(), Epilogue { bias: bias.as_ref(), ..epilogue });
        } else {
            // A part of the sum.
            let skip = if a.transposed { first * a.stride } else { first };
            let a = View { offset: a.offset + skip, cols: count, ..a };
            let dst = ViewMut { tensor: &mut *out, offset: to, rows: m, cols: n, stride: ld };
            let later = Epilogue { bias: None, accumulate: true, ..epilogue };
            matmul(dst, a, part, if first == 0 { epilogue } else { later });
        }
        first += count.max(1);
    }
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
