//! Softmax of each row of scores in place, masked: query i of a sequence sees keys j < its length and, where causal,
//! j ≤ i + keys − tokens. Masked entries become 0; so does a row that sees nothing. A workgroup or a subgroup a row; rows are ordered
//! [sequence, head, query]. Twin: `core/src/backend/cpu/attention.rs`.
//! include shared/row.wgsl
struct Params {
    rows: u32,
    first: u32,
    keys: u32,
    tokens: u32,
    heads: u32,
    causal: u32,
    masked: u32,
    offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read_write> p: array<f32>;

fn one_row(row: u32, first: u32, step: u32) {
    let base = params.offset + row * params.keys;
    let whole = params.first + row;
    let query = whole % params.tokens;
    var seen = params.keys;
    if params.masked == 1u {
        seen = min(seen, lengths[whole / params.tokens / params.heads]);
    }
    if params.causal == 1u {
        seen = min(seen, max(query + params.keys + 1u, params.tokens) - params.tokens);
    }
    var most = -3.4028234e38;
    for (var j = first; j < seen; j += step) {
        most = max(most, p[base + j]);
    }
    most = reduce_max(first, most);
    var sum = 0.0;
    for (var j = first; j < seen; j += step) {
        let e = exp(p[base + j] - most);
        p[base + j] = e;
        sum += e;
    }
    let total = reduce_sum(first, sum);
    let inverse = select(0.0, 1.0 / total, seen > 0u);
    for (var j = first; j < params.keys; j += step) {
        p[base + j] = select(0.0, p[base + j] * inverse, j < seen);
    }
}
