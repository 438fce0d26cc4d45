//! Copies, sums and scalings, and the reduction to one number.

use eblora_core::backend::{View, ViewMut};

use super::rows::{Rows, for_parts, for_shards, value_groups};
use crate::device::Device;
use crate::shaders::{add_rows as table_shader, copy as copy_shader, dot as dot_shader};
use crate::shaders::{
    fill as fill_shader, guard_finite as guard_shader, scale as scale_shader, scale_add as sum_shader,
};
use crate::tensor::GpuTensor;

type Src<'a> = View<'a, GpuTensor>;
type Dst<'a> = ViewMut<'a, GpuTensor>;

/// Checks the shapes of two operands.
#[track_caller]
pub fn same(op: &str, a: (usize, usize), b: (usize, usize)) {
    assert!(a == b, "{op}: shapes {}×{} and {}×{} differ", a.0, a.1, b.0, b.1);
}

/// `dst = src`.
pub fn copy(device: &Device, dst: Dst<'_>, src: Src<'_>) {
    same("copy", (dst.rows, dst.cols), (src.rows, src.cols));
    let (cols, x_row, y_row) = (dst.cols, src.stride as u32, dst.stride as u32);
    for_parts(dst.rows, [Rows::of(src), Rows::target(&dst)], &mut |_, rows, [x, y]| {
        let params = copy_shader::Params {
            len: (rows * cols) as u32,
            cols: cols as u32,
            x_offset: x.1,
            x_row,
            y_offset: y.1,
            y_row,
        };
        copy_shader::launch(device, copy_shader::Buffers { x: x.0, y: y.0 }, params, value_groups(rows * cols));
    });
}

/// Sets every value.
pub fn fill(device: &Device, dst: &GpuTensor, value: f64) {
    for_shards([dst], &mut |_, len, [y]| {
        let params = fill_shader::Params { len: len as u32, value: value as f32 };
        fill_shader::launch(device, fill_shader::Buffers { y: y.0 }, params, value_groups(len));
    });
}

/// `dst = alpha·dst`.
pub fn scale(device: &Device, dst: &GpuTensor, alpha: f64) {
    for_shards([dst], &mut |_, len, [y]| {
        let params = scale_shader::Params { len: len as u32, alpha: alpha as f32 };
        scale_shader::launch(device, scale_shader::Buffers { y: y.0 }, params, value_groups(len));
    });
}

/// `dst = alpha·dst + beta·src`.
pub fn scale_add(device: &Device, dst: &GpuTensor, alpha: f64, src: &GpuTensor, beta: f64) {
    for_shards([dst, src], &mut |_, len, [y, x]| {
        let params = sum_shader::Params { len: len as u32, alpha: alpha as f32, beta: beta as f32 };
        sum_shader::launch(device, sum_shader::Buffers { x: x.0, y: y.0 }, params, value_groups(len));
    });
}

/// Adds row `i mod period` of a table (period×d) to row i.
pub fn add_rows(device: &Device, dst: Dst<'_>, table: &GpuTensor) {
    use eblora_core::backend::Shaped;
    let [count, period, cols] = table.shape();
    assert!(count == 1 && cols == dst.cols, "add_rows: a table of {:?} for {} columns", table.shape(), dst.cols);
    let y_row = dst.stride as u32;
    // A table larger than a binding would have to be a vocabulary, which is gathered, not added.
    let table = &table.shards[0].buffer;
    for_parts(dst.rows, [Rows::target(&dst)], &mut |first, rows, [y]| {
        let params = table_shader::Params {
            len: (rows * cols) as u32,
            cols: cols as u32,
            period: period as u32,
            first: (first % period) as u32,
            y_offset: y.1,
            y_row,
        };
        table_shader::launch(device, table_shader::Buffers { table, y: y.0 }, params, value_groups(rows * cols));
    });
}

/// `dst[index] = Σ a∘b`.
pub fn dot(device: &Device, dst: &GpuTensor, index: usize, a: Src<'_>, b: Src<'_>) {
    same("dot", (a.rows, a.cols), (b.rows, b.cols));
    let (shard, index) = dst.locate(index);
    let y = &dst.shards[shard].buffer;
    let (a_row, b_row) = (a.stride as u32, b.stride as u32);
    if a.rows == 0 {
        return fill(device, dst, 0.0);
    }
    for_parts(a.rows, [Rows::of(a), Rows::of(b)], &mut |first, rows, [p, q]| {
        let params = dot_shader::Params {
            rows: rows as u32,
            cols: a.cols as u32,
            a_offset: p.1,
            a_row,
            b_offset: q.1,
            b_row,
            index: index as u32,
            accumulate: u32::from(first > 0),
        };
        dot_shader::launch(device, dot_shader::Buffers { a: p.0, b: q.0, y }, params, [1, 1, 1]);
    });
}

/// Notes a fault if a value of the stack is not finite.
pub fn guard_finite(device: &Device, stack: &GpuTensor) {
    use eblora_core::backend::Shaped;
    let [_, rows, cols] = stack.shape();
    let item = (rows * cols).max(1);
    for_shards([stack], &mut |first, len, [x]| {
        let params = guard_shader::Params { len: len as u32, item: item as u32, first: (first / item) as u32 };
        let buffers = guard_shader::Buffers { x: x.0, fault: &device.fault };
        guard_shader::launch(device, buffers, params, value_groups(len));
    });
}
