//! `dS = α·P∘(dP − Σⱼ P∘dP)` in the place of dP, row by row. A workgroup a row. Twin:
//! `core/src/backend/cpu/attention.rs`.
//! include shared/grid.wgsl
//! include shared/reduce.wgsl
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
) {
    let row = linear_group(group, groups);
    if row >= params.rows {
        return;
    }
    let start = params.p_offset + row * params.keys;
    let into = params.d_offset + row * params.keys;
    var sum = 0.0;
    for (var j = thread; j < params.keys; j += THREADS) {
        sum += p[start + j] * d[into + j];
    }
    let along = reduce_sum(thread, sum);
    for (var j = thread; j < params.keys; j += THREADS) {
        d[into + j] = params.alpha * p[start + j] * (d[into + j] - along);
    }
}
