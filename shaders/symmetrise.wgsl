//! `c ← (c + cᵀ)/2` for a stack of r×r matrices. Twin: `core/src/manifold/stiefel.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    r: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;

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
    let square = params.r * params.r;
    let base = at / square * square;
    let i = at % square / params.r;
    let j = at % params.r;
    if i > j {
        let mirror = base + j * params.r + i;
        let mean = 0.5 * (c[at] + c[mirror]);
        c[at] = mean;
        c[mirror] = mean;
    }
}
