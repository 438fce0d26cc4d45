//! `dx += rstd·(g − mean(g) − x̂·mean(g∘x̂))` with `g = γ∘dy` and `x̂` the normalised row. A workgroup or a subgroup a row. Twin:
//! `core/src/backend/cpu/layer_norm.rs`.
//! include shared/row.wgsl
struct Params {
    rows: u32,
    cols: u32,
    dy_offset: u32,
    dy_row: u32,
    x_offset: u32,
    x_row: u32,
    dx_offset: u32,
    dx_row: u32,
    stats_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

fn one_row(row: u32, first: u32, step: u32) {
    let start = params.x_offset + row * params.x_row;
    let grad = params.dy_offset + row * params.dy_row;
    let into = params.dx_offset + row * params.dx_row;
    let mean = stats[params.stats_offset + 2u * row];
    let rstd = stats[params.stats_offset + 2u * row + 1u];
    let inverse = 1.0 / f32(params.cols);
    var sum = 0.0;
    var along = 0.0;
    for (var j = first; j < params.cols; j += step) {
        let g = dy[grad + j] * gamma[j];
        sum += g;
        along += g * (x[start + j] - mean);
    }
    let mean_g = reduce_sum(first, sum) * inverse;
    let mean_gx = reduce_sum(first, along) * rstd * inverse;
    for (var j = first; j < params.cols; j += step) {
        let x_hat = (x[start + j] - mean) * rstd;
        dx[into + j] += rstd * (dy[grad + j] * gamma[j] - mean_g - x_hat * mean_gx);
    }
}
