//! One step of the Newton–Schulz iteration for the polar factor (Higham 2008, section 8.3), for r > 64: from the Gram
//! matrix G of Y the factor `P = s·(3I − s²·G)/2` of `Y ← Y·P`; s is 1, or in the first step the scaling that makes it
//! converge from anywhere. The last call only checks. A workgroup a matrix. Twin: `core/src/manifold/retraction.rs`.
//! include shared/fault.wgsl
//! include shared/reduce.wgsl
struct Params {
    r: u32,
    // 0: the first step, 1: a later one, 2: the check.
    step: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> fault: array<atomic<u32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = params.r;
    let base = group.x * r * r;
    var squares = 0.0;
    var apart = 0.0;
    var bad = 0.0;
    for (var i = thread; i < r * r; i += THREADS) {
        let x = g[base + i];
        let e = x - select(0.0, 1.0, i / r == i % r);
        squares += x * x;
        apart += e * e;
        bad += select(1.0, 0.0, is_finite(x));
    }
    let size = sqrt(reduce_sum(thread, squares));
    let distance = reduce_sum(thread, apart);
    let faults = reduce_sum(thread, bad);
    if params.step == 2u {
        if thread == 0u && faults > 0.0 {
            report(NOT_FINITE_POINT, group.x);
        } else if thread == 0u && distance > 1e-6 {
            report(RANK_DEFICIENT, group.x);
        }
        return;
    }
    var s = 1.0;
    if params.step == 0u && distance > 0.25 && size > 0.0 {
        s = inverseSqrt(size);
    }
    for (var i = thread; i < r * r; i += THREADS) {
        g[base + i] = s * (select(0.0, 1.5, i / r == i % r) - 0.5 * s * s * g[base + i]);
    }
}
