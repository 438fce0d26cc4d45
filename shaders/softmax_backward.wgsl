//! `dS = α·P∘(dP − Σⱼ P∘dP)` in the place of dP, row by row. A workgroup or a subgroup a row. Twin:
//! `core/src/backend/cpu/attention.rs`.
//! include shared/grid.wgsl
//! include shared/row.wgsl
struct Params {
    rows: u32,
    keys: u32,
    p_offset: u32,
    d_offset: u32,
    alpha: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<f32>;
@group(0) @binding(2) var<storage, read_write> d: array<f32>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    //@ if SUBGROUPS
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
    //@ end
) {
    //@ if SUBGROUPS
    let row = linear_group(group, groups) * subgroups + subgroup;
    let first = lane;
    let step = lanes;
    //@ else
    let row = linear_group(group, groups);
    let first = thread;
    let step = THREADS;
    //@ end
    if row >= params.rows {
        return;
    }
    let start = params.p_offset + row * params.keys;
    let into = params.d_offset + row * params.keys;
    var sum = 0.0;
    for (var j = first; j < params.keys; j += step) {
        sum += p[start + j] * d[into + j];
    }
    let along = reduce_sum(first, sum);
    for (var j = first; j < params.keys; j += step) {
        d[into + j] = params.alpha * p[start + j] * (d[into + j] - along);
    }
}
