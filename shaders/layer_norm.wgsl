//! `y = γ∘(x − mean)·rstd + β` for each row; `stats` keeps mean and rstd. A workgroup or a subgroup a row. Twin:
//! `core/src/backend/cpu/layer_norm.rs`.
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
@group(0) @binding(3) var<storage, read> beta: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;

fn one_row(row: u32, first: u32, step: u32) {
    let start = params.x_offset + row * params.x_row;
    let into = params.y_offset + row * params.y_row;
    let inverse = 1.0 / f32(params.cols);
    var sum = 0.0;
    for (var j = first; j < params.cols; j += step) {
        sum += x[start + j];
    }
    let mean = reduce_sum(first, sum) * inverse;
    // Centred before it is squared: Σx² − n·mean² would cancel.
    var squares = 0.0;
    for (var j = first; j < params.cols; j += step) {
        let centred = x[start + j] - mean;
        squares += centred * centred;
    }
    let rstd = 1.0 / sqrt(reduce_sum(first, squares) * inverse + params.epsilon);
    for (var j = first; j < params.cols; j += step) {
        y[into + j] = (x[start + j] - mean) * rstd * gamma[j] + beta[j];
    }
    if first == 0u {
        stats[params.stats_offset + 2u * row] = mean;
        stats[params.stats_offset + 2u * row + 1u] = rstd;
    }
}
