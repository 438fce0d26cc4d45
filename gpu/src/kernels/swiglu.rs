//! The gated activation of Llama's MLP and its gradients.

use eblora_core::backend::{View, ViewMut};

use super::elementwise::same;
use super::rows::{Rows, for_parts, value_groups};
use crate::device::Device;
use crate::shaders::{swiglu as forward, swiglu_backward as backward};
use crate::tensor::GpuTensor;

/// `y = silu(gate)∘up`.
pub fn swiglu(device: &Device, y: ViewMut<'_, GpuTensor>, gate: View<'_, GpuTensor>, up: View<'_, GpuTensor>) {
    same("swiglu", (y.rows, y.cols), (gate.rows, gate.cols));
    same("swiglu", (up.rows, up.cols), (gate.rows, gate.cols));
    let operands = [Rows::of(gate), Rows::of(up), Rows::target(&y)];
    for_parts(gate.rows, operands, &mut |_, rows, [g, u, into]| {
        let len = rows * gate.cols;
        let params = forward::Params {
            len: len as u32,
            cols: gate.cols as u32,
            gate_offset: g.1,
            gate_row: gate.stride as u32,
            up_offset: u.1,
            up_row: up.stride as u32,
            y_offset: into.1,
            y_row: y.stride as u32,
        };
        forward::launch(device, forward::Buffers { gate: g.0, up: u.0, y: into.0 }, params, value_groups(len));
    });
}

/// Gradients into `[d_gate, d_up]`.
pub fn swiglu_backward(
    device: &Device,
    [d_gate, d_up]: [ViewMut<'_, GpuTensor>; 2],
    dy: View<'_, GpuTensor>,
    gate: View<'_, GpuTensor>,
    up: View<'_, GpuTensor>,
) {
    for (rows, cols) in [(d_gate.rows, d_gate.cols), (d_up.rows, d_up.cols), (dy.rows, dy.cols), (up.rows, up.cols)] {
        same("swiglu_backward", (rows, cols), (gate.rows, gate.cols));
    }
    let operands = [Rows::of(dy), Rows::of(gate), Rows::of(up), Rows::target(&d_gate), Rows::target(&d_up)];
    for_parts(gate.rows, operands, &mut |_, rows, [grad, g, u, to_gate, to_up]| {
        let len = rows * gate.cols;
        let params = backward::Params {
            len: len as u32,
            cols: gate.cols as u32,
            dy_offset: grad.1,
            dy_row: dy.stride as u32,
            gate_offset: g.1,
            gate_row: gate.stride as u32,
            up_offset: u.1,
            up_row: up.stride as u32,
            d_gate_offset: to_gate.1,
            d_gate_row: d_gate.stride as u32,
            d_up_offset: to_up.1,
            d_up_row: d_up.stride as u32,
        };
        let buffers = backward::Buffers { dy: grad.0, gate: g.0, up: u.0, d_gate: to_gate.0, d_up: to_up.0 };
        backward::launch(device, buffers, params, value_groups(len));
    });
}
