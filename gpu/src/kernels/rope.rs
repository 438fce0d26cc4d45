//! Rotary position embedding.

use eblora_core::backend::{RopeShape, Shaped, ViewMut};

use super::rows::{Rows, for_parts, value_groups};
use crate::device::Device;
use crate::shaders::rope::{Buffers, Params, launch};
use crate::tensor::GpuTensor;

/// Turns the pairs of every head by the angles of the row's position.
pub fn rope(device: &Device, x: ViewMut<'_, GpuTensor>, table: &GpuTensor, shape: RopeShape) {
    let RopeShape { heads, tokens, start, inverse } = shape;
    let half = x.cols / heads / 2;
    let [_, positions, width] = table.shape();
    assert!(
        x.cols == heads * 2 * half && width == 2 * half && positions >= start + tokens,
        "rope: {} columns, a table of {:?} and {shape:?}",
        x.cols,
        table.shape()
    );
    for_parts(x.rows, [Rows::target(&x)], &mut |first, rows, [into]| {
        let len = rows * heads * half;
        let params = Params {
            len: len as u32,
            pairs: (heads * half) as u32,
            half: half as u32,
            tokens: tokens as u32,
            start: start as u32,
            first: (first % tokens) as u32,
            sign: if inverse { -1.0 } else { 1.0 },
            x_offset: into.1,
            x_row: x.stride as u32,
        };
        launch(device, Buffers { table: &table.shards[0].buffer, x: into.0 }, params, value_groups(len));
    });
}
