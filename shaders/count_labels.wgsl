//! `counted[0]` = how many of the labels count. One workgroup. Twin: `core/src/backend/cpu/cross_entropy.rs`.
//! include shared/reduce.wgsl
struct Params {
    rows: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> counted: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    var count = 0.0;
    for (var i = thread; i < params.rows; i += THREADS) {
        count += select(1.0, 0.0, labels[i] == 0xffffffffu);
    }
    let total = reduce_sum(thread, count);
    if thread == 0u {
        counted[0] = total;
    }
}
