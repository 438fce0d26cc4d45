//! `y = γ∘x·rstd` with `rstd = 1/√(mean(x²) + ε)` for each row; `stats` keeps rstd. A workgroup or a subgroup a row. Twin: `core/src/backend/cpu/rms_norm.rs`.
//! include shared/row.wgsl
struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_row: u32,
    y_offset: u32,
    y_row: u32,
    stats_offset: u32,
    epsilon: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;

fn one_row(row: u32, first: u32, step: u32) {
    let start = params.x_offset + row * params.x_row;
    var squares = 0.0;
    for (var j = first; j < params.cols; j += step) {
        squares += x[start + j] * x[start + j];
    }
    let rstd = 1.0 / sqrt(reduce_sum(first, squares) / f32(params.cols) + params.epsilon);
    for (var j = first; j < params.cols; j += step) {
        y[params.y_offset + row * params.y_row + j] = x[start + j] * rstd * gamma[j];
    }
    if first == 0u {
        stats[params.stats_offset + row] = rstd;
    }
}
