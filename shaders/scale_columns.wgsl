//! Multiplies column j of every matrix of a stack by its `s[j]`; `first` is the part's first row in the stack. Twin:
//! `core/src/backend/cpu/stacks.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    rows: u32,
    cols: u32,
    first: u32,
    x_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

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
    let item = (params.first + at / params.cols) / params.rows;
    x[params.x_offset + at] *= s[item * params.cols + at % params.cols];
}
