//! The AdamW increment `Δ = rate·m/(√v·root + ε)` in the place of the gradient; `rate` and `root` hold the bias
//! corrections. After a fault nothing moves: Δ = 0. Twin: `core/src/backend/cpu/adamw.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    rate: f32,
    root: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    epsilon: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> fault: array<u32>;
@group(0) @binding(2) var<storage, read_write> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;

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
    if fault[0] != 0u {
        grad[at] = 0.0;
        return;
    }
    let g = grad[at];
    let first = params.beta1 * m[at] + params.rest1 * g;
    let second = params.beta2 * v[at] + params.rest2 * g * g;
    m[at] = first;
    v[at] = second;
    grad[at] = params.rate * first / (sqrt(second) * params.root + params.epsilon);
}
