//! Rows scaled to unit length and the gradient of that.

use eblora_core::backend::{View, ViewMut};

use super::elementwise::same;
use super::rows::{Rows, for_parts, row_span};
use crate::device::Device;
use crate::shaders::{l2_normalize as forward, l2_normalize_backward as backward};
use crate::tensor::GpuTensor;

/// `y = x/‖x‖` per row; `norms` (n×1) keeps `‖x‖`.
pub fn l2_normalize(device: &Device, y: ViewMut<'_, GpuTensor>, norms: &GpuTensor, x: View<'_, GpuTensor>) {
    same("l2_normalize", (y.rows, y.cols), (x.rows, x.cols));
    let operands = [Rows::of(x), Rows::target(&y), Rows::packed(norms, 1)];
    for_parts(x.rows, operands, &mut |_, rows, [from, into, norms]| {
        let params = forward::Params {
            rows: rows as u32,
            cols: x.cols as u32,
            x_offset: from.1,
            x_row: x.stride as u32,
            y_offset: into.1,
            y_row: y.stride as u32,
            norms_offset: norms.1,
        };
        let buffers = forward::Buffers { x: from.0, y: into.0, norms: norms.0 };
        let (short, groups) = row_span(device, rows, x.cols);
        forward::launch(device, forward::Span::ALL[usize::from(short)], buffers, params, groups);
    });
}

/// `dx = (dy − y·⟨y, dy⟩)/‖x‖` per row.
pub fn l2_normalize_backward(
    device: &Device,
    dx: ViewMut<'_, GpuTensor>,
    dy: View<'_, GpuTensor>,
    y: View<'_, GpuTensor>,
    norms: &GpuTensor,
) {
    same("l2_normalize_backward", (dx.rows, dx.cols), (dy.rows, dy.cols));
    same("l2_normalize_backward", (y.rows, y.cols), (dy.rows, dy.cols));
    let operands = [Rows::of(dy), Rows::of(y), Rows::packed(norms, 1), Rows::target(&dx)];
    for_parts(dy.rows, operands, &mut |_, rows, [grad, from, norms, into]| {
        let params = backward::Params {
            rows: rows as u32,
            cols: dy.cols as u32,
            dy_offset: grad.1,
            dy_row: dy.stride as u32,
            y_offset: from.1,
            y_row: y.stride as u32,
            dx_offset: into.1,
            dx_row: dx.stride as u32,
            norms_offset: norms.1,
        };
        let buffers = backward::Buffers { dy: grad.0, y: from.0, norms: norms.0, dx: into.0 };
        let (short, groups) = row_span(device, rows, y.cols);
        backward::launch(device, backward::Span::ALL[usize::from(short)], buffers, params, groups);
    });
}
