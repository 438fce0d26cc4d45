//! `y[index] = Σ losses / counted`, 0 where none counts. One workgroup. Twin: `core/src/backend/cpu/cross_entropy.rs`.
//! include shared/reduce.wgsl
struct Params {
    rows: u32,
    index: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> losses: array<f32>;
@group(0) @binding(2) var<storage, read> counted: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var i = thread; i < params.rows; i += THREADS) {
        sum += losses[i];
    }
    let total = reduce_sum(thread, sum);
    if thread == 0u {
        y[params.index] = total / max(counted[0], 1.0);
    }
}
