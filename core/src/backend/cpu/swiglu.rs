//! The gated activation of Llama's MLP (Shazeer 2020) and its gradients.

use super::activation::sigmoid;
use super::simd::vectorized;
use super::tensor::{CpuTensor, same};
use super::threads::{block_rows, for_each_block, for_each_block2};
use crate::Real;
use crate::backend::{View, ViewMut};

const BLOCK_WORK: usize = 16_384;

/// `y = silu(gate)∘up`.
pub fn swiglu<T: Real>(y: ViewMut<'_, CpuTensor<T>>, gate: View<'_, CpuTensor<T>>, up: View<'_, CpuTensor<T>>) {
    same("swiglu", (y.rows, y.cols), (gate.rows, gate.cols));
    same("swiglu", (up.rows, up.cols), (gate.rows, gate.cols));
    let (n, cols) = (gate.rows, gate.cols);
    let (rows, stride) = y.into_rows();
    let per_block = block_rows(n, cols, BLOCK_WORK, 1);
    for_each_block(rows, per_block * stride, n * cols * 16, |b, ys| {
        vectorized(
            #[inline(always)]
            || {
                for (i, y) in ys.chunks_mut(stride).enumerate() {
                    let (gate, up) = (gate.row(b * per_block + i), up.row(b * per_block + i));
                    for j in 0..cols {
                        y[j] = gate[j] * sigmoid(gate[j]) * up[j];
                    }
                }
            },
        );
    });
}

/// `d_gate = dy∘up∘silu'(gate)`, `d_up = dy∘silu(gate)`.
pub fn swiglu_backward<T: Real>(
    [d_gate, d_up]: [ViewMut<'_, CpuTensor<T>>; 2],
    dy: View<'_, CpuTensor<T>>,
    gate: View<'_, CpuTensor<T>>,
    up: View<'_, CpuTensor<T>>,
) {
    for (rows, cols) in [(d_gate.rows, d_gate.cols), (d_up.rows, d_up.cols), (dy.rows, dy.cols), (up.rows, up.cols)] {
        same("swiglu_backward", (rows, cols), (gate.rows, gate.cols));
    }
    let (n, cols) = (gate.rows, gate.cols);
    let ((d_gate, gate_stride), (d_up, up_stride)) = (d_gate.into_rows(), d_up.into_rows());
    let per_block = block_rows(n, cols, BLOCK_WORK, 1);
    for_each_block2(
        (d_gate, per_block * gate_stride),
        (d_up, per_block * up_stride),
        n * cols * 20,
        |b, d_gates, d_ups| {
            vectorized(
                #[inline(always)]
                || {
                    for (i, (d_gate, d_up)) in
                        d_gates.chunks_mut(gate_stride).zip(d_ups.chunks_mut(up_stride)).enumerate()
                    {
                        let row = b * per_block + i;
                        let (dy, gate, up) = (dy.row(row), gate.row(row), up.row(row));
                        for j in 0..cols {
                            let s = sigmoid(gate[j]);
                            d_up[j] = dy[j] * gate[j] * s;
                            d_gate[j] = dy[j] * up[j] * s * (T::one() + gate[j] * (T::one() - s));
                        }
                    }
                },
            );
        },
    );
}
