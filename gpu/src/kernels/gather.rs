//! Rows of a table by their numbers: token embeddings.

use eblora_core::backend::{Shaped, ViewMut};

use super::elementwise::same;
use super::rows::{Rows, for_parts, value_groups};
use crate::device::Device;
use crate::shaders::gather::{Buffers, Format, Params, launch};
use crate::shaders::matmul;
use crate::tensor::{GpuLabels, GpuTensor, GpuWeights};

/// Row i of `dst` becomes row `ids[i]` of the table, or that is added to it.
pub fn gather(device: &Device, dst: ViewMut<'_, GpuTensor>, table: &GpuWeights, ids: &GpuLabels, accumulate: bool) {
    let cols = table.shape()[2];
    same("gather", (dst.rows, dst.cols), (dst.rows, cols));
    assert!(ids.capacity >= dst.rows, "gather: {} ids for {} rows", ids.capacity, dst.rows);
    let format = match table.format {
        matmul::Format::F32 => Format::F32,
        matmul::Format::Bf16 => Format::Bf16,
        matmul::Format::F16 => Format::F16,
    };
    for_parts(dst.rows, [Rows::target(&dst)], &mut |first, rows, [into]| {
        for (i, shard) in table.shards.iter().enumerate() {
            let params = Params {
                len: (rows * cols) as u32,
                cols: cols as u32,
                first: first as u32,
                part: (shard.first / cols.max(1)) as u32,
                rows: (shard.len / cols.max(1)) as u32,
                accumulate: u32::from(accumulate),
                // What another part of the table gave stays.
                keep: u32::from(accumulate || i > 0),
                y_offset: into.1,
                y_row: dst.stride as u32,
            };
            let buffers = Buffers { ids: &ids.buffer, table: &shard.buffer, y: into.0 };
            launch(device, format, buffers, params, value_groups(rows * cols));
        }
    });
}
