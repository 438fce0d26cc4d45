//! Kernels that treat rows one by one, over tensors that may be sharded: the rows are halved until all operands of a part
//! lie in one buffer each.

use eblora_core::backend::{Shaped, View, ViewMut};

use crate::buffer::Buffer;
use crate::device::Device;
use crate::tensor::{GpuTensor, Shard};

/// Workgroups of a dimension within WebGPU's default limits.
pub const MOST_GROUPS: usize = 65_535;
/// Threads of an elementwise workgroup.
const THREADS: usize = 256;

/// An operand of which row i begins at `offset + i·step` and is `width` values long.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    shards: &'a [Shard],
    offset: usize,
    step: usize,
    width: usize,
}

/// A buffer and the index of the first value in it.
pub type Home<'a> = (&'a Buffer, u32);

impl<'a> Rows<'a> {
    /// The rows of a matrix.
    pub fn of(view: View<'a, GpuTensor>) -> Self {
        assert!(!view.transposed, "kernel: this operand can't be a transpose");
        Self { shards: &view.tensor.shards, offset: view.offset, step: view.stride, width: view.cols }
    }

    /// The rows of a matrix to write to.
    pub fn target(view: &'a ViewMut<'_, GpuTensor>) -> Self {
        Self { shards: &view.tensor.shards, offset: view.offset, step: view.stride, width: view.cols }
    }

    /// A tensor as rows of `width` values.
    pub fn packed(tensor: &'a GpuTensor, width: usize) -> Self {
        Self { shards: &tensor.shards, offset: 0, step: width, width }
    }

    /// `per` rows at a time.
    pub fn per(self, per: usize) -> Self {
        Self { step: self.step * per, width: self.step * per.saturating_sub(1) + self.width, ..self }
    }

    fn home(&self, first: usize, count: usize) -> Option<Home<'a>> {
        let start = self.offset + first * self.step;
        let end = start + (count - 1) * self.step + self.width;
        let shard = match self.shards {
            [only] => only,
            shards => &shards[shards.partition_point(|s| s.first <= start).saturating_sub(1)],
        };
        (end <= shard.first + shard.len || self.shards.len() == 1)
            .then(|| (&shard.buffer, (start - shard.first) as u32))
    }
}

/// Calls `f(first, count, homes)` for parts of `count` rows from the first on, with where each operand's part is.
///
/// # Panics
/// If one row lies in two shards.
pub fn for_parts<const N: usize>(rows: usize, operands: [Rows<'_>; N], f: &mut dyn FnMut(usize, usize, [Home<'_>; N])) {
    part(0, rows, &operands, f);
}

fn part<const N: usize>(
    first: usize,
    count: usize,
    operands: &[Rows<'_>; N],
    f: &mut dyn FnMut(usize, usize, [Home<'_>; N]),
) {
    if count == 0 {
        return;
    }
    let homes = operands.each_ref().map(|o| o.home(first, count));
    if homes.iter().all(Option::is_some) {
        return f(first, count, homes.map(|h| h.expect("just checked")));
    }
    assert!(count > 1, "a row of a view lies in two shards: allocate the tensor with the view's columns");
    part(first, count / 2, operands, f);
    part(first + count / 2, count - count / 2, operands, f);
}

/// Calls `f(first, len, homes)` for the parts of tensors of one shape.
pub fn for_shards<const N: usize>(tensors: [&GpuTensor; N], f: &mut dyn FnMut(usize, usize, [Home<'_>; N])) {
    let shape = tensors[0].shape();
    assert!(
        tensors.iter().all(|t| t.shape() == shape),
        "kernel: tensors of one shape are needed, not {shape:?} and another"
    );
    for i in 0..tensors[0].shards.len() {
        let shard = &tensors[0].shards[i];
        if shard.len > 0 {
            f(shard.first, shard.len, tensors.map(|t| (&t.shards[i].buffer, 0)));
        }
    }
}

/// Workgroups for `n` rows, folded into two dimensions.
pub fn row_groups(n: usize) -> [u32; 3] {
    let folds = n.div_ceil(MOST_GROUPS).max(1);
    [n.div_ceil(folds) as u32, folds as u32, 1]
}

/// Longest row that a subgroup goes through by itself: 32 values a lane where it has 32.
const SHORT_ROW: usize = 1024;
/// Threads of a workgroup that has a row each, or for each of its subgroups.
const ROW_THREADS: usize = 128;

/// Whether each subgroup takes a row of so many values, and the workgroups for `n` such rows.
pub fn row_span(device: &Device, n: usize, cols: usize) -> (bool, [u32; 3]) {
    if !device.subgroups() || cols > SHORT_ROW {
        return (false, row_groups(n));
    }
    // A workgroup has at least so many subgroups, whatever size the driver chooses.
    let least = (ROW_THREADS / (device.info().subgroup_max_size as usize).max(1)).max(1);
    (true, row_groups(n.div_ceil(least)))
}

/// Workgroups for `n` values, one thread each.
pub fn value_groups(n: usize) -> [u32; 3] {
    row_groups(n.div_ceil(THREADS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_groups_cover_every_row_within_the_limit() {
        for n in [0, 1, 65_535, 65_536, 131_071, 1 << 24] {
            let [x, y, z] = row_groups(n).map(|g| g as usize);
            assert!(x * y * z >= n && x * y * z < n + y.max(1) && x <= MOST_GROUPS && y <= MOST_GROUPS, "{n}: {x}x{y}");
        }
    }
}
