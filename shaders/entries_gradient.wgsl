//! Adds to each line i of one factor's gradient `Σ σ·X_j` over the line's entries: X is the other factor, j the entry's
//! line there, σ its weighted sign. The entries of a line follow each other, by themselves (`in_order`) or in `order`. A
//! thread a value. Twin: `core/src/backend/cpu/entries_gradient.rs`.
//! include shared/grid.wgsl
struct Params {
    len: u32,
    r: u32,
    in_order: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> others: array<u32>;
@group(0) @binding(4) var<storage, read> signs: array<f32>;
@group(0) @binding(5) var<storage, read> x: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad: array<f32>;

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
    let line = at / params.r;
    let k = at % params.r;
    var sum = 0.0;
    for (var place = starts[line]; place < starts[line + 1u]; place += 1u) {
        var entry = place;
        if params.in_order == 0u {
            entry = order[place];
        }
        sum += signs[entry] * x[others[entry] * params.r + k];
    }
    grad[at] += sum;
}
