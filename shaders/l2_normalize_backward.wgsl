//! `dx = (dy − y·⟨y, dy⟩)/‖x‖` per row, 0 for a zero row. A workgroup or a subgroup a row. Twin: `core/src/backend/cpu/l2_normalize.rs`.
//! include shared/row.wgsl
struct Params {
    rows: u32,
    cols: u32,
    dy_offset: u32,
    dy_row: u32,
    y_offset: u32,
    y_row: u32,
    dx_offset: u32,
    dx_row: u32,
    norms_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

fn one_row(row: u32, first: u32, step: u32) {
    let grad = params.dy_offset + row * params.dy_row;
    let start = params.y_offset + row * params.y_row;
    let norm = norms[params.norms_offset + row];
    let inverse = select(0.0, 1.0 / norm, norm > 0.0);
    var sum = 0.0;
    for (var j = first; j < params.cols; j += step) {
        sum += y[start + j] * dy[grad + j];
    }
    let along = reduce_sum(first, sum);
    for (var j = first; j < params.cols; j += step) {
        dx[params.dx_offset + row * params.dx_row + j] = (dy[grad + j] - y[start + j] * along) * inverse;
    }
}
