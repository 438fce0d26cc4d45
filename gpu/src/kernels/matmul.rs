//! Products over tensors that may be sharded: a product is halved until each operand lies in one buffer.

use eblora_core::backend::{View, ViewMut};

use crate::buffer::Buffer;
use crate::device::Device;
use crate::shaders::matmul::{Buffers, Format, Params, Tile, launch};
use crate::tensor::{GpuTensor, GpuWeights, Shard};

/// Workgroups of a dimension within WebGPU's default limits.
const MOST_GROUPS: usize = 65_535;

/// A batch of equally shaped matrices in a tensor: item (o, i) starts at `offset + o·outer + i·inner`.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub shards: &'a [Shard],
    pub offset: usize,
    /// Distance of two stored rows.
    pub stride: usize,
    pub rows: usize,
    pub cols: usize,
    /// Whether the stored matrices are cols×rows.
    pub transposed: bool,
    pub outer: usize,
    pub inner: usize,
}

impl<'a> Batch<'a> {
    /// One matrix.
    pub fn view(view: View<'a, GpuTensor>) -> Self {
        Self::of(&view.tensor.shards, view.offset, view.rows, view.cols, view.stride, view.transposed)
    }

    /// One matrix of weights.
    pub fn weights(view: View<'a, GpuWeights>) -> Self {
        Self::of(&view.tensor.shards, view.offset, view.rows, view.cols, view.stride, view.transposed)
    }

    /// One matrix to write to.
    pub fn target(view: &'a ViewMut<'_, GpuTensor>) -> Self {
        Self::of(&view.tensor.shards, view.offset, view.rows, view.cols, view.stride, false)
    }

    /// The matrices of a stack.
    pub fn stack(tensor: &'a GpuTensor, rows: usize, cols: usize) -> Self {
        Self { inner: rows * cols, ..Self::of(&tensor.shards, 0, rows, cols, cols, false) }
    }

    fn of(shards: &'a [Shard], offset: usize, rows: usize, cols: usize, stride: usize, transposed: bool) -> Self {
        Self { shards, offset, stride, rows, cols, transposed, outer: 0, inner: 0 }
    }

    /// The transposes.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    /// Distances of two rows and two columns.
    fn strides(&self) -> (usize, usize) {
        if self.transposed { (1, self.stride) } else { (self.stride, 1) }
    }

    fn stored_rows(&self) -> usize {
        if self.transposed { self.cols } else { self.rows }
    }

    fn locate(&self, at: usize) -> usize {
        self.shards.partition_point(|s| s.first <= at).saturating_sub(1)
    }

    /// The shard that holds all of it, and where it starts there; `Err` is the first stored row in another shard.
    fn home(&self, [outer, inner]: [usize; 2]) -> Result<(&'a Buffer, usize), usize> {
        let first = if self.shards.len() == 1 { 0 } else { self.locate(self.offset) };
        let shard = &self.shards[first];
        let (rows, width) = (self.stored_rows(), if self.transposed { self.rows } else { self.cols });
        let items = outer.saturating_sub(1) * self.outer + inner.saturating_sub(1) * self.inner;
        let end = self.offset + items + rows.saturating_sub(1) * self.stride + width;
        if self.shards.len() == 1 || rows == 0 || width == 0 || end <= shard.first + shard.len {
            return Ok((&shard.buffer, self.offset - shard.first));
        }
        let row = (shard.first + shard.len - self.offset).div_ceil(self.stride.max(1));
        assert!(
            items > 0 || self.offset + (row - 1) * self.stride + width <= shard.first + shard.len,
            "a row of a view lies in two shards: allocate the tensor with the view's columns"
        );
        Err(row)
    }

    /// The part from stored row, or item, `at` on.
    fn skip(self, values: usize) -> Self {
        Self { offset: self.offset + values, ..self }
    }
}

/// What is done beside the product: see `shaders/matmul.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    pub alpha: f64,
    /// σ of item i is value `offset + i·step` of a tensor.
    pub scales: Option<(&'a GpuTensor, usize, usize)>,
    /// 0: overwrite, 1: add, 2: β is the value behind σ.
    pub accumulate: u32,
    pub bias: Option<(&'a GpuTensor, usize)>,
}

impl Default for Finish<'_> {
    fn default() -> Self {
        Self { alpha: 1.0, scales: None, accumulate: 0, bias: None }
    }
}

/// `D = A·B` for `[outer, inner]` items.
pub fn matmul(
    device: &Device,
    format: Format,
    d: Batch<'_>,
    [a, b]: [Batch<'_>; 2],
    [outer, inner]: [usize; 2],
    finish: Finish<'_>,
) {
    let (m, n, k) = (d.rows, d.cols, a.cols);
    assert!(
        a.rows == m && b.rows == k && b.cols == n,
        "matmul: {}×{} by {}×{} into {m}×{n}",
        a.rows,
        a.cols,
        b.rows,
        b.cols
    );
    if m == 0 || n == 0 || outer * inner == 0 {
        return;
    }
    let items = [outer, inner];
    let homes = [d.home(items), a.home(items), b.home(items)];
    if let [Ok(d_home), Ok(a_home), Ok(b_home)] = homes
        && outer * inner <= MOST_GROUPS
    {
        return one(device, format, (d, d_home), [(a, a_home), (b, b_home)], items, finish);
    }
    let part = |d, a, b, items, finish| matmul(device, format, d, [a, b], items, finish);
    if outer * inner > 1 {
        // Halve the batch: the outer items while there are several.
        let (half, rest, by) = if outer > 1 {
            ([outer / 2, inner], [outer - outer / 2, inner], [outer / 2, 0])
        } else {
            ([1, inner / 2], [1, inner - inner / 2], [0, inner / 2])
        };
        let skip = |x: Batch<'_>| by[0] * x.outer + by[1] * x.inner;
        let scales = finish.scales.map(|(t, offset, step)| (t, offset + half[0] * half[1] * step, step));
        part(d, a, b, half, finish);
        return part(d.skip(skip(d)), a.skip(skip(a)), b.skip(skip(b)), rest, Finish { scales, ..finish });
    }
    // One item: cut the axis of the operand that lies in two shards.
    let (axis, at) = match homes {
        [Err(row), ..] => ('m', row),
        [_, Err(row), _] => (if a.transposed { 'k' } else { 'm' }, row),
        [.., Err(row)] => (if b.transposed { 'n' } else { 'k' }, row),
        _ => return,
    };
    match axis {
        'm' => {
            let rest = m - at;
            part(Batch { rows: at, ..d }, Batch { rows: at, ..a }, b, items, finish);
            let a = Batch { rows: rest, ..a.skip(at * a.strides().0) };
            part(Batch { rows: rest, ..d.skip(at * d.stride) }, a, b, items, finish);
        }
        'n' => {
            let rest = n - at;
            part(Batch { cols: at, ..d }, a, Batch { cols: at, ..b }, items, finish);
            let b = Batch { cols: rest, ..b.skip(at * b.strides().1) };
            let bias = finish.bias.map(|(t, offset)| (t, offset + at));
            part(Batch { cols: rest, ..d.skip(at) }, a, b, items, Finish { bias, ..finish });
        }
        _ => {
            let rest = k - at;
            part(d, Batch { cols: at, ..a }, Batch { rows: at, ..b }, items, finish);
            let a = Batch { cols: rest, ..a.skip(at * a.strides().1) };
            let b = Batch { rows: rest, ..b.skip(at * b.strides().0) };
            part(d, a, b, items, Finish { accumulate: 1, bias: None, ..finish });
        }
    }
}

/// The tile that wastes least and still gives every core something to do.
fn tile(m: usize, n: usize, items: usize) -> Tile {
    let groups = |t: Tile| m.div_ceil(t.bm() as usize) * n.div_ceil(t.bn() as usize) * items;
    if n <= 16 {
        Tile::Tall
    } else if m <= 16 {
        Tile::Flat
    } else if m >= 96 && n >= 96 && groups(Tile::Large) >= 96 {
        Tile::Large
    } else {
        Tile::Medium
    }
}

/// The same among the tiles called lanes, by the work of their subgroups: a load is about thirty multiplications on
/// llvmpipe.
fn tile_of_lanes(m: usize, n: usize) -> Tile {
    let cost = |tile: Tile| {
        let (tm, tn) = (tile.tm() as usize, tile.tn() as usize);
        m.div_ceil(8 * tm) * n.div_ceil(8 * tn) * (30 * (tm + tn) + 8 * tm * tn)
    };
    [Tile::LanesWide, Tile::LanesTall, Tile::LanesFlat].into_iter().min_by_key(|&t| cost(t)).unwrap_or(Tile::LanesWide)
}

type Home<'a> = (&'a Buffer, usize);

fn one(
    device: &Device,
    format: Format,
    (d, (d_buffer, d_offset)): (Batch<'_>, Home<'_>),
    [(a, (a_buffer, a_offset)), (b, (b_buffer, b_offset))]: [(Batch<'_>, Home<'_>); 2],
    [outer, inner]: [usize; 2],
    finish: Finish<'_>,
) {
    let (m, n, items) = (d.rows, d.cols, outer * inner);
    let tile = if device.lanes() { tile_of_lanes(m, n) } else { tile(m, n, items) };
    let ((a_row, a_col), (b_row, b_col)) = (a.strides(), b.strides());
    let scales = finish.scales.map_or((&device.nothing, 0, 0), |(t, o, step)| (&t.shards[0].buffer, o, step));
    let bias = finish.bias.map_or((&device.nothing, 0), |(t, o)| (&t.shards[0].buffer, o));
    let params = Params {
        m: m as u32,
        n: n as u32,
        k: a.cols as u32,
        a_offset: a_offset as u32,
        a_row: a_row as u32,
        a_col: a_col as u32,
        a_outer: a.outer as u32,
        a_inner: a.inner as u32,
        b_offset: b_offset as u32,
        b_row: b_row as u32,
        b_col: b_col as u32,
        b_outer: b.outer as u32,
        b_inner: b.inner as u32,
        d_offset: d_offset as u32,
        d_row: d.stride as u32,
        d_outer: d.outer as u32,
        d_inner: d.inner as u32,
        inner: inner as u32,
        alpha: finish.alpha as f32,
        scaled: u32::from(finish.scales.is_some()),
        scale_offset: scales.1 as u32,
        scale_step: scales.2 as u32,
        accumulate: finish.accumulate,
        bias: u32::from(finish.bias.is_some()),
        bias_offset: bias.1 as u32,
    };
    let buffers = Buffers { a: a_buffer, b: b_buffer, scales: scales.0, biases: bias.0, d: d_buffer };
    let groups = [n.div_ceil(tile.bn() as usize) as u32, m.div_ceil(tile.bm() as usize) as u32, items as u32];
    launch(device, tile, format, buffers, params, groups);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skinny_products_get_skinny_tiles() {
        assert_eq!(tile(4096, 16, 1), Tile::Tall);
        assert_eq!(tile(8, 4096, 1), Tile::Flat);
        assert_eq!(tile(2048, 2048, 1), Tile::Large);
        assert_eq!(tile(256, 256, 1), Tile::Medium);
        assert_eq!(tile_of_lanes(512, 96), Tile::LanesWide);
        assert_eq!(tile_of_lanes(512, 8), Tile::LanesTall);
        assert_eq!(tile_of_lanes(8, 512), Tile::LanesFlat);
    }
}
