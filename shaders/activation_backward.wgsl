//! `dx = dx∘f'(x)`, in place. Twin: `core/src/backend/cpu/activation.rs`.
//! include shared/grid.wgsl
//! include shared/activation.wgsl
struct Params {
    len: u32,
    cols: u32,
    kind: u32,
    x_offset: u32,
    x_row: u32,
    dx_offset: u32,
    dx_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;

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
    var slope = 0.0;
    switch params.kind {
        case GELU: {
            let n = normal(value);
            slope = n.x + value * n.y;
        }
        case GELU_TANH: {
            let t = tanh_parts(value);
            slope = 0.5 * (1.0 + t.x) + 0.5 * value * (1.0 - t.x * t.x) * t.y;
        }
        default: {
            let s = sigmoid(value);
            slope = s * (1.0 + value * (1.0 - s));
        }
    }
    dx[params.dx_offset + row * params.dx_row + col] *= slope;
}
