//! Products, column scalings and norms, matrix by matrix over a stack.

use eblora_core::backend::{Product, Shaped};

use super::matmul::{Batch, Finish, matmul};
use super::rows::{Rows, for_parts, for_shards, row_groups, value_groups};
use crate::device::Device;
use crate::shaders::matmul::Format;
use crate::shaders::{
    column_dots as dots_shader, norm_gradient as norm_shader, scale_columns as columns_shader, sign as sign_shader,
};
use crate::tensor::GpuTensor;

/// `dst = scale·op(A)·op(B) (+ dst)` for every matrix.
pub fn matmul_stack(
    device: &Device,
    dst: &GpuTensor,
    product: Product,
    factors: [&GpuTensor; 2],
    scale: f64,
    accumulate: bool,
) {
    let [[count, m, n], [a_count, a_rows, a_cols], [b_count, b_rows, b_cols]] =
        [dst, factors[0], factors[1]].map(|t| t.shape());
    assert!(a_count == count && b_count == count, "matmul_stack: stacks of {a_count}, {b_count} and {count}");
    let a = Batch::stack(factors[0], a_rows, a_cols);
    let b = Batch::stack(factors[1], b_rows, b_cols);
    let (a, b) = match product {
        Product::Plain => (a, b),
        Product::LeftTransposed => (a.t(), b),
        Product::RightTransposed => (a, b.t()),
    };
    let finish = Finish { alpha: scale, accumulate: u32::from(accumulate), ..Finish::default() };
    matmul(device, Format::F32, Batch::stack(dst, m, n), [a, b], [1, count], finish);
}

/// `x = sign(x)`.
pub fn sign(device: &Device, x: &GpuTensor) {
    for_shards([x], &mut |_, len, [x]| {
        let params = sign_shader::Params { len: len as u32 };
        sign_shader::launch(device, sign_shader::Buffers { x: x.0 }, params, value_groups(len));
    });
}

/// Multiplies column j of every matrix by its `s[j]`.
pub fn scale_columns(device: &Device, x: &GpuTensor, s: &GpuTensor) {
    let [count, rows, cols] = x.shape();
    assert!(s.shape() == [count, 1, cols] && s.shards.len() == 1, "scale_columns: {:?} by {:?}", x.shape(), s.shape());
    for_parts(count * rows, [Rows::packed(x, cols)], &mut |first, part, [x]| {
        let len = part * cols;
        let params = columns_shader::Params {
            len: len as u32,
            rows: rows as u32,
            cols: cols as u32,
            first: first as u32,
            x_offset: x.1,
        };
        let buffers = columns_shader::Buffers { s: &s.shards[0].buffer, x: x.0 };
        columns_shader::launch(device, buffers, params, value_groups(len));
    });
}

/// `dst[j] = Σ_i a[i][j]·b[i][j]` for every matrix.
pub fn column_dots(device: &Device, dst: &GpuTensor, a: &GpuTensor, b: &GpuTensor) {
    let [count, rows, cols] = a.shape();
    let fits = b.shape() == a.shape() && dst.shape() == [count, 1, cols];
    assert!(fits, "column_dots: {:?} and {:?} into {:?}", a.shape(), b.shape(), dst.shape());
    let size = rows * cols;
    let operands = [Rows::packed(a, size), Rows::packed(b, size), Rows::packed(dst, cols)];
    for_parts(count, operands, &mut |_, items, [a, b, y]| {
        let len = items * cols;
        let params = dots_shader::Params {
            len: len as u32,
            rows: rows as u32,
            cols: cols as u32,
            a_offset: a.1,
            b_offset: b.1,
            y_offset: y.1,
        };
        dots_shader::launch(device, dots_shader::Buffers { a: a.0, b: b.0, y: y.0 }, params, value_groups(len));
    });
}

/// Adds `weight·X/‖X‖_F` of every matrix, 0 for X = 0.
pub fn norm_gradient(device: &Device, grad: &GpuTensor, x: &GpuTensor, weight: f64) {
    let [count, rows, cols] = x.shape();
    assert!(grad.shape() == x.shape(), "norm_gradient: {:?} and {:?}", grad.shape(), x.shape());
    let size = rows * cols;
    for_parts(count, [Rows::packed(x, size), Rows::packed(grad, size)], &mut |_, items, [x, grad]| {
        let params = norm_shader::Params {
            items: items as u32,
            size: size as u32,
            x_offset: x.1,
            grad_offset: grad.1,
            weight: weight as f32,
        };
        norm_shader::launch(device, norm_shader::Buffers { x: x.0, grad: grad.0 }, params, row_groups(items));
    });
}
