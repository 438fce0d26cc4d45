//! Reports a matrix of a stack that has a value which is not finite. Twin: `core/src/backend/cpu/elementwise.rs`.
//! include shared/grid.wgsl
//! include shared/fault.wgsl
struct Params {
    len: u32,
    item: u32,
    first: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> fault: array<atomic<u32>>;

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
    if !is_finite(x[at]) {
        report(NOT_FINITE, params.first + at / params.item);
    }
}
