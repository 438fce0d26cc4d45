//! Row i of y = mean of the first `lengths[i]` (or all) rows of run i of x, 0 for none. Twin: `core/src/backend/cpu/pool.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    cols: u32,
    tokens: u32,
    first: u32,
    masked: u32,
    x_offset: u32,
    x_row: u32,
    y_offset: u32,
    y_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let at = linear_group(group, groups) * 256u + thread;
    if at >= params.len {
        return;
    }
    let row = at / params.cols;
    let col = at % params.cols;
    var count = params.tokens;
    if params.masked == 1u {
        count = min(count, lengths[params.first + row]);
    }
    var sum = 0.0;
    for (var t = 0u; t < count; t++) {
        sum += x[params.x_offset + (row * params.tokens + t) * params.x_row + col];
    }
    y[params.y_offset + row * params.y_row + col] = sum / f32(max(count, 1u));
}
