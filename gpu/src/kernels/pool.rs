//! Mean over the tokens of each sequence and its gradient; rows scaled to unit length.

use eblora_core::backend::{View, ViewMut};

use super::elementwise::same;
use super::rows::{Rows, for_parts, value_groups};
use crate::device::Device;
use crate::shaders::{mean_pool as forward, mean_pool_backward as backward};
use crate::tensor::{GpuLabels, GpuTensor};

/// Row i of y = mean of the first `lengths[i]` (or all) rows of run i of x.
pub fn mean_pool(
    device: &Device,
    y: ViewMut<'_, GpuTensor>,
    x: View<'_, GpuTensor>,
    tokens: usize,
    lengths: Option<&GpuLabels>,
) {
    same("mean_pool", (y.rows * tokens, y.cols), (x.rows, x.cols));
    for_parts(y.rows, [Rows::of(x).per(tokens), Rows::target(&y)], &mut |first, rows, [from, into]| {
        let len = rows * x.cols;
        let params = forward::Params {
            len: len as u32,
            cols: x.cols as u32,
            tokens: tokens as u32,
            first: first as u32,
            masked: u32::from(lengths.is_some()),
            x_offset: from.1,
            x_row: x.stride as u32,
            y_offset: into.1,
            y_row: y.stride as u32,
        };
        let lengths = lengths.map_or(&device.nothing, |l| &l.buffer);
        forward::launch(device, forward::Buffers { lengths, x: from.0, y: into.0 }, params, value_groups(len));
    });
}

/// Every counted row of dx = its run's row of `dy / count`.
pub fn mean_pool_backward(
    device: &Device,
    dx: ViewMut<'_, GpuTensor>,
    dy: View<'_, GpuTensor>,
    tokens: usize,
    lengths: Option<&GpuLabels>,
) {
    same("mean_pool_backward", (dx.rows, dx.cols), (dy.rows * tokens, dy.cols));
    for_parts(dy.rows, [Rows::of(dy), Rows::target(&dx).per(tokens)], &mut |first, runs, [from, into]| {
        let len = runs * tokens * dy.cols;
        let params = backward::Params {
            len: len as u32,
            cols: dy.cols as u32,
            tokens: tokens as u32,
            first: first as u32,
            masked: u32::from(lengths.is_some()),
            dy_offset: from.1,
            dy_row: dy.stride as u32,
            dx_offset: into.1,
            dx_row: dx.stride as u32,
        };
        let lengths = lengths.map_or(&device.nothing, |l| &l.buffer);
        backward::launch(device, backward::Buffers { lengths, dy: from.0, dx: into.0 }, params, value_groups(len));
    });
}
