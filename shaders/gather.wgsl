//! Row i of y becomes row `ids[i]` of a part of the table, or that is added to it; an id outside of the part leaves y alone
//! (0 where y is overwritten by the first part). Twin: `core/src/backend/cpu/weights.rs`.
//! axis format: f32(BF16 = false, F16 = false), bf16(BF16 = true, F16 = false), f16(BF16 = false, F16 = true)
//! include shared/grid.wgsl
const BF16: bool = false;
const F16: bool = false;

struct Params {
    len: u32,
    cols: u32,
    first: u32,
    part: u32,
    rows: u32,
    accumulate: u32,
    keep: u32,
    y_offset: u32,
    y_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
    let row = at / params.cols;
    let col = at % params.cols;
    let into = params.y_offset + row * params.y_row + col;
    let id = ids[params.first + row];
    if id < params.part || id - params.part >= params.rows {
        // Another part has it, or none.
        if params.keep == 0u {
            y[into] = 0.0;
        }
        return;
    }
    let value = load((id - params.part) * params.cols + col);
    if params.accumulate == 1u {
        y[into] += value;
    } else {
        y[into] = value;
    }
}

fn load(at: u32) -> f32 {
    //@ if BF16
    return bitcast<f32>((table[at >> 1u] >> ((at & 1u) * 16u)) << 16u);
    //@ else
    //@ if F16
    let pair = unpack2x16float(table[at >> 1u]);
    return select(pair.x, pair.y, (at & 1u) == 1u);
    //@ else
    return bitcast<f32>(table[at]);
    //@ end
    //@ end
}
