//! RMS norm of each row and its input gradient.

use eblora_core::backend::{View, ViewMut};

use super::elementwise::same;
use super::rows::{Rows, for_parts, row_span};
use crate::device::Device;
use crate::shaders::{rms_norm as forward, rms_norm_backward as backward};
use crate::tensor::GpuTensor;

/// `y = γ∘x·rstd`; `stats` (n×1) keeps rstd.
pub fn rms_norm(
    device: &Device,
    y: ViewMut<'_, GpuTensor>,
    stats: &GpuTensor,
    x: View<'_, GpuTensor>,
    gamma: &GpuTensor,
    epsilon: f64,
) {
    same("rms_norm", (y.rows, y.cols), (x.rows, x.cols));
    let operands = [Rows::of(x), Rows::target(&y), Rows::packed(stats, 1)];
    for_parts(x.rows, operands, &mut |_, rows, [from, into, stats]| {
        let params = forward::Params {
            rows: rows as u32,
            cols: x.cols as u32,
            x_offset: from.1,
            x_row: x.stride as u32,
            y_offset: into.1,
            y_row: y.stride as u32,
            stats_offset: stats.1,
            epsilon: epsilon as f32,
        };
        let buffers = forward::Buffers { x: from.0, gamma: &gamma.shards[0].buffer, y: into.0, stats: stats.0 };
        let (short, groups) = row_span(device, rows, x.cols);
        forward::launch(device, forward::Span::ALL[usize::from(short)], buffers, params, groups);
    });
}

/// Adds the input gradient to `dx`.
pub fn rms_norm_backward(
    device: &Device,
    dx: ViewMut<'_, GpuTensor>,
    dy: View<'_, GpuTensor>,
    x: View<'_, GpuTensor>,
    stats: &GpuTensor,
    gamma: &GpuTensor,
) {
    same("rms_norm_backward", (dx.rows, dx.cols), (x.rows, x.cols));
    same("rms_norm_backward", (dy.rows, dy.cols), (x.rows, x.cols));
    let operands = [Rows::of(dy), Rows::of(x), Rows::packed(stats, 1), Rows::target(&dx)];
    for_parts(x.rows, operands, &mut |_, rows, [grad, from, stats, into]| {
        let params = backward::Params {
            rows: rows as u32,
            cols: x.cols as u32,
            dy_offset: grad.1,
            dy_row: dy.stride as u32,
            x_offset: from.1,
            x_row: x.stride as u32,
            dx_offset: into.1,
            dx_row: dx.stride as u32,
            stats_offset: stats.1,
        };
        let gamma = &gamma.shards[0].buffer;
        let buffers = backward::Buffers { dy: grad.0, x: from.0, stats: stats.0, gamma, dx: into.0 };
        let (short, groups) = row_span(device, rows, x.cols);
        backward::launch(device, backward::Span::ALL[usize::from(short)], buffers, params, groups);
    });
}
