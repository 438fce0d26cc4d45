//! `y[index] = Σ a∘b` over two matrices, or adds to it. One workgroup: the matrices are thin. Twin: `core/src/backend/cpu/elementwise.rs`.
//! include shared/reduce.wgsl
struct Params {
    rows: u32,
    cols: u32,
    a_offset: u32,
    a_row: u32,
    b_offset: u32,
    b_row: u32,
    index: u32,
    accumulate: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var at = thread; at < params.rows * params.cols; at += THREADS) {
        let row = at / params.cols;
        let col = at % params.cols;
        sum += a[params.a_offset + row * params.a_row + col] * b[params.b_offset + row * params.b_row + col];
    }
    let total = reduce_sum(thread, sum);
    if thread == 0u {
        y[params.index] = select(total, y[params.index] + total, params.accumulate == 1u);
    }
}
