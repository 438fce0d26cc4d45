//! `y[j] = Σ_i a[i][j]·b[i][j]` for every matrix of a stack. A thread a column. Twin: `core/src/backend/cpu/stacks.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    rows: u32,
    cols: u32,
    a_offset: u32,
    b_offset: u32,
    y_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
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
    let start = at / params.cols * params.rows * params.cols + at % params.cols;
    var sum = 0.0;
    for (var i = 0u; i < params.rows; i += 1u) {
        let value = start + i * params.cols;
        sum += a[params.a_offset + value] * b[params.b_offset + value];
    }
    y[params.y_offset + at] = sum;
}
