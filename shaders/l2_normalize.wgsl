//! `y = x/‖x‖` per row, zero rows stay zero; `norms` keeps `‖x‖`. A workgroup or a subgroup a row. Twin: `core/src/backend/cpu/l2_normalize.rs`.
//! include shared/row.wgsl
struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_row: u32,
    y_offset: u32,
    y_row: u32,
    norms_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;

fn one_row(row: u32, first: u32, step: u32) {
    let start = params.x_offset + row * params.x_row;
    var squares = 0.0;
    for (var j = first; j < params.cols; j += step) {
        squares += x[start + j] * x[start + j];
    }
    let norm = sqrt(reduce_sum(first, squares));
    let inverse = select(0.0, 1.0 / norm, norm > 0.0);
    for (var j = first; j < params.cols; j += step) {
        y[params.y_offset + row * params.y_row + j] = x[start + j] * inverse;
    }
    if first == 0u {
        norms[params.norms_offset + row] = norm;
    }
}
