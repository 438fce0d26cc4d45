//! Tensors in host memory and their views as slices and faer matrices.

use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};
use faer::{MatMut, MatRef};

use crate::Real;
use crate::backend::{BackendError, Shaped, View, ViewMut};

/// A row-major stack of matrices in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuTensor<T> {
    pub(super) shape: [usize; 3],
    pub(super) data: Vec<T>,
}

impl<T> CpuTensor<T> {
    /// The values, row-major.
    pub fn values(&self) -> &[T] {
        &self.data
    }

    /// The values, row-major, to change.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T: Real> CpuTensor<T> {
    /// Of zeros; an error where there is no memory for them.
    pub(super) fn zeros(shape: [usize; 3]) -> Result<Self, BackendError> {
        let len = shape.iter().try_fold(1_usize, |len, &extent| len.checked_mul(extent));
        // What the system refuses to `vec!` would end the process; so it is asked first.
        let is_there = |&len: &usize| {
            let mut room = Vec::<T>::new();
            let answer = room.try_reserve_exact(len);
            core::hint::black_box(&room);
            answer.is_ok()
        };
        let Some(len) = len.filter(is_there) else {
            let message = format!("no memory for a tensor of {} x {} x {} numbers", shape[0], shape[1], shape[2]);
            return Err(BackendError::Device { device: "cpu".to_string(), message });
        };
        Ok(Self { shape, data: vec![T::default(); len] })
    }
}

impl<T> Shaped for CpuTensor<T> {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

/// Values that a rows×cols matrix with this row stride spans.
fn span(rows: usize, cols: usize, stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols }
}

impl<'a, T: Real> View<'a, CpuTensor<T>> {
    /// As a faer matrix.
    pub(super) fn matrix(self) -> MatRef<'a, T> {
        let (rows, cols) = if self.transposed { (self.cols, self.rows) } else { (self.rows, self.cols) };
        let stored = MatRef::from_row_major_slice_with_stride(
            &self.slice()[..span(rows, cols, self.stride)],
            rows,
            cols,
            self.stride.max(cols),
        );
        if self.transposed { stored.transpose() } else { stored }
    }

    /// Everything from the first value on.
    pub(super) fn slice(self) -> &'a [T] {
        &self.tensor.data[self.offset..]
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If the view is transposed: rows are not contiguous then.
    pub(super) fn row(self, i: usize) -> &'a [T] {
        assert!(!self.transposed, "kernel: this operand can't be a transpose");
        &self.tensor.data[self.offset + i * self.stride..][..self.cols]
    }
}

impl<'a, T: Real> ViewMut<'a, CpuTensor<T>> {
    /// The values from the first to the last that the view spans, with the row stride.
    pub(super) fn into_rows(self) -> (&'a mut [T], usize) {
        let len = span(self.rows, self.cols, self.stride);
        (&mut self.tensor.data[self.offset..self.offset + len], self.stride.max(1))
    }
}

/// A row-major matrix with a row stride.
///
/// Not `MatMut::from_row_major_slice_with_stride_mut`: in faer 0.24.4 that one swaps the two strides and so writes out of
/// bounds.
pub(super) fn row_major_mut<T>(values: &mut [T], rows: usize, cols: usize, stride: usize) -> MatMut<'_, T> {
    MatMut::from_column_major_slice_with_stride_mut(values, cols, rows, stride).transpose_mut()
}

/// Checks the shapes of two operands.
#[track_caller]
pub(super) fn same(op: &str, a: (usize, usize), b: (usize, usize)) {
    assert!(a == b, "{op}: shapes {}×{} and {}×{} differ", a.0, a.1, b.0, b.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_no_memory_is_an_error() {
        for shape in [[usize::MAX, 2, 1], [1, usize::MAX / 8, 4]] {
            let error = CpuTensor::<f32>::zeros(shape).unwrap_err().to_string();
            assert!(error.starts_with("cpu: no memory for a tensor of "), "{error}");
        }
        assert_eq!(CpuTensor::<f32>::zeros([2, 1, 2]).unwrap().data, [0.0; 4]);
    }

    #[test]
    fn strided_rows_write_their_own_places_only() {
        let mut values = [0.0_f32; 11];
        let mut m = row_major_mut(&mut values[..10], 3, 2, 4);
        for i in 0..3 {
            for j in 0..2 {
                m[(i, j)] = (10 * i + j + 1) as f32;
            }
        }
        assert_eq!(values, [1.0, 2.0, 0.0, 0.0, 11.0, 12.0, 0.0, 0.0, 21.0, 22.0, 0.0]);
    }
}
