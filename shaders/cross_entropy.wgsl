//! `losses[row] = log Σ exp(z) − z[label]` and `d_logits = (softmax(z) − onehot)/counted`, 0 for an ignored label. A
//! workgroup or a subgroup a row. Twin: `core/src/backend/cpu/cross_entropy.rs`.
//! include shared/row.wgsl
struct Params {
    rows: u32,
    cols: u32,
    z_offset: u32,
    z_row: u32,
    d_offset: u32,
    d_row: u32,
    first: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> counted: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_logits: array<f32>;
@group(0) @binding(5) var<storage, read_write> losses: array<f32>;

// The label that does not count.
const IGNORED: u32 = 0xffffffffu;

fn one_row(row: u32, first: u32, step: u32) {
    let start = params.z_offset + row * params.z_row;
    let into = params.d_offset + row * params.d_row;
    let label = labels[params.first + row];
    let ignored = label == IGNORED;
    var most = -3.4028234e38;
    for (var j = first; j < params.cols; j += step) {
        most = max(most, logits[start + j]);
    }
    most = reduce_max(first, most);
    var sum = 0.0;
    for (var j = first; j < params.cols; j += step) {
        sum += exp(logits[start + j] - most);
    }
    let total = reduce_sum(first, sum);
    let inverse = select(1.0 / max(counted[0], 1.0), 0.0, ignored);
    let scale = inverse / total;
    for (var j = first; j < params.cols; j += step) {
        let one = select(0.0, inverse, j == label);
        d_logits[into + j] = exp(logits[start + j] - most) * scale - one;
    }
    if first == 0u {
        var loss = 0.0;
        if !ignored {
            loss = log(total) - (logits[start + min(label, params.cols - 1u)] - most);
        }
        losses[params.first + row] = loss;
    }
}
