//! `y = f(x)` for GELU, its tanh form, or SiLU. Twin: `core/src/backend/cpu/activation.rs`.
//! include shared/grid.wgsl
//! include shared/activation.wgsl
struct Params {
    len: u32,
    cols: u32,
    kind: u32,
    x_offset: u32,
    x_row: u32,
    y_offset: u32,
    y_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
    let value = x[params.x_offset + row * params.x_row + col];
    var result = 0.0;
    switch params.kind {
        case GELU: {
            result = value * normal(value).x;
        }
        case GELU_TANH: {
            result = 0.5 * value * (1.0 + tanh_parts(value).x);
        }
        default: {
            result = value * sigmoid(value);
        }
    }
    y[params.y_offset + row * params.y_row + col] = result;
}
