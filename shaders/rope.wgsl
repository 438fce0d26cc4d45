//! Turns `(x[j], x[j + dh/2])` of every head by angle j of the row's position; `table` holds cosines and then sines. A thread
//! a pair. Twin: `core/src/backend/cpu/rope.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    pairs: u32,
    half: u32,
    tokens: u32,
    start: u32,
    first: u32,
    sign: f32,
    x_offset: u32,
    x_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<f32>;
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
    let row = at / params.pairs;
    let pair = at % params.pairs;
    let head = pair / params.half;
    let j = pair % params.half;
    let position = params.start + (params.first + row) % params.tokens;
    let cosine = table[position * 2u * params.half + j];
    let sine = params.sign * table[position * 2u * params.half + params.half + j];
    let one = params.x_offset + row * params.x_row + head * 2u * params.half + j;
    let two = one + params.half;
    let a = x[one];
    let b = x[two];
    x[one] = a * cosine - b * sine;
    x[two] = b * cosine + a * sine;
}
