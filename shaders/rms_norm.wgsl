//! `y = γ∘x·rstd` with `rstd = 1/√(mean(x²) + ε)` for each row; `stats` keeps rstd. A workgroup a row. Twin: `core/src/backend/cpu/rms_norm.rs`.
//! include shared/grid.wgsl
//! include shared/reduce.wgsl
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

@compute @workgroup_size(THREADS)
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = linear_group(group, groups);
    if row >= params.rows {
        return;
    }
    let start = params.x_offset + row * params.x_row;
    var squares = 0.0;
    for (var j = thread; j < params.cols; j += THREADS) {
        squares += x[start + j] * x[start + j];
    }
    let rstd = 1.0 / sqrt(reduce_sum(thread, squares) / f32(params.cols) + params.epsilon);
    for (var j = thread; j < params.cols; j += THREADS) {
        y[params.y_offset + row * params.y_row + j] = x[start + j] * rstd * gamma[j];
    }
    if thread == 0u {
        stats[params.stats_offset + row] = rstd;
    }
}
