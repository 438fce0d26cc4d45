//! GELU, exact or by tanh, SiLU, and their derivatives.

use eblora_core::backend::{View, ViewMut};

use super::elementwise::same;
use super::rows::{Rows, for_parts, value_groups};
use crate::device::Device;
use crate::shaders::{activation as forward, activation_backward as backward};
use crate::tensor::GpuTensor;

/// `y = f(x)`.
pub fn activation(device: &Device, kind: u32, y: ViewMut<'_, GpuTensor>, x: View<'_, GpuTensor>) {
    same("activation", (y.rows, y.cols), (x.rows, x.cols));
    for_parts(x.rows, [Rows::of(x), Rows::target(&y)], &mut |_, rows, [from, into]| {
        let len = rows * x.cols;
        let params = forward::Params {
            len: len as u32,
            cols: x.cols as u32,
            kind,
            x_offset: from.1,
            x_row: x.stride as u32,
            y_offset: into.1,
            y_row: y.stride as u32,
        };
        forward::launch(device, forward::Buffers { x: from.0, y: into.0 }, params, value_groups(len));
    });
}

/// `dx = dx∘f'(x)`, in place.
pub fn activation_backward(device: &Device, kind: u32, dx: ViewMut<'_, GpuTensor>, x: View<'_, GpuTensor>) {
    same("activation_backward", (dx.rows, dx.cols), (x.rows, x.cols));
    for_parts(x.rows, [Rows::of(x), Rows::target(&dx)], &mut |_, rows, [from, into]| {
        let len = rows * x.cols;
        let params = backward::Params {
            len: len as u32,
            cols: x.cols as u32,
            kind,
            x_offset: from.1,
            x_row: x.stride as u32,
            dx_offset: into.1,
            dx_row: dx.stride as u32,
        };
        backward::launch(device, backward::Buffers { x: from.0, dx: into.0 }, params, value_groups(len));
    });
}
