//! Rotary position embedding (Su et al. 2021), the two halves of a head paired as in Hugging Face's Llama.

use super::tensor::CpuTensor;
use crate::Real;
use crate::backend::{RopeShape, ViewMut};

/// Turns `(x[j], x[j + dh/2])` of every head by the angle `j` of the row's position; `table` (positions×dh) holds cosines
/// and then sines.
pub fn rope<T: Real>(x: ViewMut<'_, CpuTensor<T>>, table: &CpuTensor<T>, shape: RopeShape) {
    let RopeShape { heads, tokens, start, inverse } = shape;
    let dh = x.cols / heads;
    let half = dh / 2;
    assert!(
        x.cols == heads * 2 * half && table.shape[2] == dh && table.shape[1] >= start + tokens,
        "rope: {} columns, a table of {:?} and {shape:?}",
        x.cols,
        table.shape
    );
    let cols = x.cols;
    let (rows, stride) = x.into_rows();
    for (i, row) in rows.chunks_mut(stride).enumerate() {
        let (cos, sin) = table.data[(start + i % tokens) * dh..][..dh].split_at(half);
        for head in row[..cols].chunks_exact_mut(dh) {
            let (first, second) = head.split_at_mut(half);
            for j in 0..half {
                let (a, b, s) = (first[j], second[j], if inverse { -sin[j] } else { sin[j] });
                first[j] = a * cos[j] - b * s;
                second[j] = b * cos[j] + a * s;
            }
        }
    }
}
