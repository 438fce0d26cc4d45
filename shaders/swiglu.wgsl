//! `y = silu(gate)∘up`. Twin: `core/src/backend/cpu/swiglu.rs`.
//! include shared/grid.wgsl
//! include shared/activation.wgsl
struct Params {
    len: u32,
    cols: u32,
    gate_offset: u32,
    gate_row: u32,
    up_offset: u32,
    up_row: u32,
    y_offset: u32,
    y_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
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
    let g = gate[params.gate_offset + row * params.gate_row + col];
    let value = g * sigmoid(g) * up[params.up_offset + row * params.up_row + col];
    y[params.y_offset + row * params.y_row + col] = value;
}
