//! `dS = α·P∘(dP − Σⱼ P∘dP)` in the place of dP, row by row. A workgroup or a subgroup a row. Twin:
//! `core/src/backend/cpu/attention.rs`.
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

fn one_row(row: u32, first: u32, step: u32) {
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
