//! Each counted row of dx = its run's row of dy / count; the others 0. Twin: `core/src/backend/cpu/pool.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    cols: u32,
    tokens: u32,
    first: u32,
    masked: u32,
    dy_offset: u32,
    dy_row: u32,
    dx_offset: u32,
    dx_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

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
    let run = row / params.tokens;
    var count = params.tokens;
    if params.masked == 1u {
        count = min(count, lengths[params.first + run]);
    }
    var value = 0.0;
    if row % params.tokens < count {
        value = dy[params.dy_offset + run * params.dy_row + col] / f32(count);
    }
    dx[params.dx_offset + row * params.dx_row + col] = value;
}
