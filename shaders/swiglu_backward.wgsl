//! `d_gate = dy∘up∘silu'(gate)`, `d_up = dy∘silu(gate)`. Twin: `core/src/backend/cpu/swiglu.rs`.
//! include shared/grid.wgsl
//! include shared/activation.wgsl
struct Params {
    len: u32,
    cols: u32,
    dy_offset: u32,
    dy_row: u32,
    gate_offset: u32,
    gate_row: u32,
    up_offset: u32,
    up_row: u32,
    d_gate_offset: u32,
    d_gate_row: u32,
    d_up_offset: u32,
    d_up_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> up: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_gate: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_up: array<f32>;

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
    let grad = dy[params.dy_offset + row * params.dy_row + col];
    let g = gate[params.gate_offset + row * params.gate_row + col];
    let s = sigmoid(g);
    let slope = s * (1.0 + g * (1.0 - s));
    d_gate[params.d_gate_offset + row * params.d_gate_row + col] = grad * up[params.up_offset + row * params.up_row + col] * slope;
    d_up[params.d_up_offset + row * params.d_up_row + col] = grad * g * s;
}
