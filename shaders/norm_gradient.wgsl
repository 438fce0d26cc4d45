//! Adds `weight·X/‖X‖` to the gradient of every matrix X of a stack, nothing for X = 0. A workgroup a matrix. Twin:
//! `core/src/backend/cpu/stacks.rs`.
//! include shared/reduce.wgsl
//! include shared/grid.wgsl
struct Params {
    items: u32,
    size: u32,
    x_offset: u32,
    grad_offset: u32,
    weight: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad: array<f32>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let item = linear_group(group, groups);
    if item >= params.items {
        return;
    }
    let start = params.x_offset + item * params.size;
    var squares = 0.0;
    for (var at = thread; at < params.size; at += THREADS) {
        squares += x[start + at] * x[start + at];
    }
    let norm = sqrt(reduce_sum(thread, squares));
    let factor = select(0.0, params.weight / norm, norm > 0.0);
    for (var at = thread; at < params.size; at += THREADS) {
        grad[params.grad_offset + item * params.size + at] += factor * x[start + at];
    }
}
