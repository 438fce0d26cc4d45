//! The weighted sign of each chosen entry of `U·Vᵀ`; rows and columns count through the stack. A thread an entry. Twin:
//! `core/src/backend/cpu/entries_gradient.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    r: u32,
    out: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> cols: array<u32>;
@group(0) @binding(3) var<storage, read> u: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<f32>;
@group(0) @binding(5) var<storage, read> weights: array<f32>;
@group(0) @binding(6) var<storage, read_write> signs: array<f32>;

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
    let row = rows[at];
    var product = 0.0;
    for (var k = 0u; k < params.r; k += 1u) {
        product += u[row * params.r + k] * v[cols[at] * params.r + k];
    }
    signs[at] = weights[row / params.out] * sign(product);
}
