//! The gradients of a penalty on chosen entries of `U·Vᵀ`.

use eblora_core::backend::{Entries, Shaped};

use super::rows::value_groups;
use crate::backend::Gpu;
use crate::buffer::Buffer;
use crate::device::Device;
use crate::shaders::{entries_gradient as lines_shader, entries_signs as signs_shader};
use crate::tensor::GpuTensor;

/// The buffer of a tensor that is not cut.
fn whole(tensor: &GpuTensor) -> &Buffer {
    assert!(tensor.shards.len() == 1, "entries_gradient: factors of {:?} are beyond one binding", tensor.shape());
    &tensor.shards[0].buffer
}

/// Adds the gradients of `Σ weight·|(U·Vᵀ)_ij|` over the entries to `[dU, dV]`.
pub fn entries_gradient(
    device: &Device,
    [du, dv]: [&GpuTensor; 2],
    u: &GpuTensor,
    v: &GpuTensor,
    entries: &Entries<Gpu>,
) {
    let ([count, out, inp], [_, _, r]) = (entries.shape, u.shape());
    let fits = u.shape() == [count, out, r] && v.shape() == [count, inp, r];
    let fits = fits && du.shape() == u.shape() && dv.shape() == v.shape();
    assert!(fits, "entries_gradient: {:?} and {:?} for entries of {:?}", u.shape(), v.shape(), entries.shape);
    if entries.len == 0 {
        return;
    }
    let signs = whole(&entries.signs);
    let buffers = signs_shader::Buffers {
        rows: &entries.rows.buffer,
        cols: &entries.cols.buffer,
        u: whole(u),
        v: whole(v),
        weights: whole(&entries.weights),
        signs,
    };
    let params = signs_shader::Params { len: entries.len as u32, r: r as u32, out: out as u32 };
    signs_shader::launch(device, buffers, params, value_groups(entries.len));
    for (grad, x, starts, others, in_order) in
        [(du, v, &entries.row_starts, &entries.cols, 1), (dv, u, &entries.column_starts, &entries.rows, 0)]
    {
        let params = lines_shader::Params { len: grad.len() as u32, r: r as u32, in_order };
        let buffers = lines_shader::Buffers {
            starts: &starts.buffer,
            order: &entries.by_column.buffer,
            others: &others.buffer,
            signs,
            x: whole(x),
            grad: whole(grad),
        };
        lines_shader::launch(device, buffers, params, value_groups(grad.len()));
    }
}
