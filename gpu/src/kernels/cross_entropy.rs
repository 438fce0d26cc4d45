//! Softmax cross-entropy, forward and backward.

use eblora_core::backend::{View, ViewMut};

use super::elementwise::same;
use super::rows::{Rows, for_parts, row_span};
use crate::device::Device;
use crate::shaders::{count_labels, cross_entropy as rowwise, mean_loss};
use crate::tensor::{GpuLabels, GpuTensor};

/// Mean loss of the rows whose label counts into `loss[index]`, its gradient into `d_logits`.
pub fn cross_entropy(
    device: &Device,
    loss: &GpuTensor,
    index: usize,
    d_logits: ViewMut<'_, GpuTensor>,
    logits: View<'_, GpuTensor>,
    labels: &GpuLabels,
) {
    same("cross_entropy", (d_logits.rows, d_logits.cols), (logits.rows, logits.cols));
    let n = logits.rows;
    assert!(labels.capacity >= n, "cross_entropy: {} labels for {n} rows", labels.capacity);
    let counting = count_labels::Params { rows: n as u32 };
    let buffers = count_labels::Buffers { labels: &labels.buffer, counted: &labels.counted };
    count_labels::launch(device, buffers, counting, [1, 1, 1]);
    for_parts(n, [Rows::of(logits), Rows::target(&d_logits)], &mut |first, rows, [z, d]| {
        let params = rowwise::Params {
            rows: rows as u32,
            cols: logits.cols as u32,
            z_offset: z.1,
            z_row: logits.stride as u32,
            d_offset: d.1,
            d_row: d_logits.stride as u32,
            first: first as u32,
        };
        let buffers = rowwise::Buffers {
            logits: z.0,
            labels: &labels.buffer,
            counted: &labels.counted,
            d_logits: d.0,
            losses: &labels.losses,
        };
        let (short, groups) = row_span(device, rows, logits.cols);
        rowwise::launch(device, rowwise::Span::ALL[usize::from(short)], buffers, params, groups);
    });
    let (shard, index) = loss.locate(index);
    let buffers =
        mean_loss::Buffers { losses: &labels.losses, counted: &labels.counted, y: &loss.shards[shard].buffer };
    mean_loss::launch(device, buffers, mean_loss::Params { rows: n as u32, index: index as u32 }, [1, 1, 1]);
}
