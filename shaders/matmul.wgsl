//! `D = α·σ·A·B (+ bias) (+ β·D)` for a batch of products; A is m×k, B is k×n, each with strides of its own, so that a
//! transpose is a swap of two numbers; σ and β may come from a buffer, one for each item. f32 sums over f32 A and f32,
//! bf16 or f16 B. Twin: `core/src/backend/cpu/matmul.rs`.
//!
//! A workgroup makes a BM×BN tile of D, a thread a TM×TN part of it in registers; slices of BK columns of A and rows of
//! B pass through two halves of workgroup memory, one being read while the other is filled. Slots of four values are
//! swizzled by their k, so that neither the transposing store nor the load meets bank conflicts. The tiles called lanes
//! are for devices whose subgroups have 8 lanes: see `shared/matmul_lanes.wgsl`.
//! axis tile: large(BM = 128, BN = 128, BK = 8, TM = 8, TN = 8, SLOTS_A = 1, SLOTS_B = 1), medium(BM = 64, BN = 64, BK = 16, TM = 4, TN = 4, SLOTS_A = 1, SLOTS_B = 1), tall(BM = 64, BN = 16, BK = 16, TM = 4, TN = 4, SLOTS_A = 4, SLOTS_B = 1), flat(BM = 16, BN = 64, BK = 16, TM = 4, TN = 4, SLOTS_A = 1, SLOTS_B = 4), lanes_wide(BM = 64, BN = 64, TM = 2, TN = 4, WN = 2, LANES = true), lanes_tall(BM = 256, BN = 8, TM = 4, TN = 1, WN = 1, LANES = true), lanes_flat(BM = 8, BN = 256, TM = 1, TN = 4, WN = 8, LANES = true)
//! axis format: f32(BF16 = false, F16 = false), bf16(BF16 = true, F16 = false), f16(BF16 = false, F16 = true)
const BM: u32 = 64;
const BN: u32 = 64;
const BK: u32 = 16;
const TM: u32 = 4;
const TN: u32 = 4;
// Slots of a slice that each thread loads.
const SLOTS_A: u32 = 1;
const SLOTS_B: u32 = 1;
// Subgroups along n, of the tiles called lanes; there TM and TN count eights.
const WN: u32 = 1;
const LANES: bool = false;
const BF16: bool = false;
const F16: bool = false;

struct Params {
    m: u32,
    n: u32,
    k: u32,
    a_offset: u32,
    a_row: u32,
    a_col: u32,
    a_outer: u32,
    a_inner: u32,
    b_offset: u32,
    b_row: u32,
    b_col: u32,
    b_outer: u32,
    b_inner: u32,
    d_offset: u32,
    d_row: u32,
    d_outer: u32,
    d_inner: u32,
    // Items of one outer step.
    inner: u32,
    alpha: f32,
    // σ = scales[scale_offset + item·scale_step] where scaled is 1.
    scaled: u32,
    scale_offset: u32,
    scale_step: u32,
    // 0: D is overwritten; 1: added to; 2: β is the value behind σ.
    accumulate: u32,
    bias: u32,
    bias_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<f32>;
@group(0) @binding(4) var<storage, read> biases: array<f32>;
@group(0) @binding(5) var<storage, read_write> d: array<f32>;

fn load_a(at: u32) -> f32 {
    return a[at];
}

fn load_b(at: u32) -> f32 {
    //@ if BF16
    return bitcast<f32>((b[at >> 1u] >> ((at & 1u) * 16u)) << 16u);
    //@ else
    //@ if F16
    let pair = unpack2x16float(b[at >> 1u]);
    return select(pair.x, pair.y, (at & 1u) == 1u);
    //@ else
    return bitcast<f32>(b[at]);
    //@ end
    //@ end
}

// α·σ, and β where D is kept.
fn factors(item: u32) -> vec2<f32> {
    var scale = params.alpha;
    var keep = select(0.0, 1.0, params.accumulate == 1u);
    if params.scaled == 1u {
        let at = params.scale_offset + item * params.scale_step;
        scale *= scales[at];
        if params.accumulate == 2u {
            keep = scales[at + 1u];
        }
    }
    return vec2<f32>(scale, keep);
}

// One value of D.
fn finish(base: u32, col: u32, sum: f32, factors: vec2<f32>) {
    if col < params.n {
        var value = factors.x * sum;
        if params.bias == 1u {
            value += biases[params.bias_offset + col];
        }
        if params.accumulate != 0u && factors.y != 0.0 {
            value += factors.y * d[base + col];
        }
        d[base + col] = value;
    }
}

//@ if LANES
//! include shared/matmul_lanes.wgsl
//@ else
// Threads along n and m.
const X: u32 = BN / TN;
const Y: u32 = BM / TM;
const THREADS: u32 = X * Y;
// Slots of four values along m and n.
const GM: u32 = BM / 4u;
const GN: u32 = BN / 4u;
const HALF_A: u32 = GM * BK;
const HALF_B: u32 = GN * BK;

var<workgroup> tile_a: array<vec4<f32>, 2u * HALF_A>;
var<workgroup> tile_b: array<vec4<f32>, 2u * HALF_B>;

// Four values along m of column k, zero outside.
fn slot_a(base: u32, row: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>(0.0);
    if k < params.k {
        let at = base + k * params.a_col;
        //@ for I in 0..4
        if row + $Iu < params.m {
            v[$I] = load_a(at + (row + $Iu) * params.a_row);
        }
        //@ end
    }
    return v;
}

// Four values along n of row k, zero outside.
fn slot_b(base: u32, col: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>(0.0);
    if k < params.k {
        let at = base + k * params.b_row;
        //@ for I in 0..4
        if col + $Iu < params.n {
            v[$I] = load_b(at + (col + $Iu) * params.b_col);
        }
        //@ end
    }
    return v;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let outer = group.z / params.inner;
    let inner = group.z % params.inner;
    let a_base = params.a_offset + outer * params.a_outer + inner * params.a_inner;
    let b_base = params.b_offset + outer * params.b_outer + inner * params.b_inner;
    let first_row = group.y * BM;
    let first_col = group.x * BN;
    let tx = thread % X;
    let ty = thread / X;

    // Neighbouring threads take neighbouring addresses.
    let a_along_k = params.a_col == 1u;
    let b_along_k = params.b_col != 1u;
    //@ for S in 0..SLOTS_A
    let slot_a$S = thread + $Su * THREADS;
    let ka$S = select(slot_a$S / GM, slot_a$S % BK, a_along_k);
    let ga$S = select(slot_a$S % GM, slot_a$S / BK, a_along_k);
    let to_a$S = ka$S * GM + (ga$S ^ (ka$S % GM));
    //@ end
    //@ for S in 0..SLOTS_B
    let slot_b$S = thread + $Su * THREADS;
    let kb$S = select(slot_b$S / GN, slot_b$S % BK, b_along_k);
    let gb$S = select(slot_b$S % GN, slot_b$S / BK, b_along_k);
    let to_b$S = kb$S * GN + (gb$S ^ (kb$S % GN));
    //@ end

    //@ for I in 0..TM/4
    //@ for J in 0..TN/4
    //@ for C in 0..4
    var acc_$I$C_$J = vec4<f32>(0.0);
    //@ end
    //@ end
    //@ end

    //@ for S in 0..SLOTS_A
    tile_a[to_a$S] = slot_a(a_base, first_row + ga$S * 4u, ka$S);
    //@ end
    //@ for S in 0..SLOTS_B
    tile_b[to_b$S] = slot_b(b_base, first_col + gb$S * 4u, kb$S);
    //@ end
    workgroupBarrier();

    let tiles = (params.k + BK - 1u) / BK;
    for (var tile = 0u; tile < tiles; tile++) {
        // The next slices are on their way while this one is multiplied.
        let next = (tile + 1u) * BK;
        //@ for S in 0..SLOTS_A
        let next_a$S = slot_a(a_base, first_row + ga$S * 4u, next + ka$S);
        //@ end
        //@ for S in 0..SLOTS_B
        let next_b$S = slot_b(b_base, first_col + gb$S * 4u, next + kb$S);
        //@ end
        let half_a = (tile & 1u) * HALF_A;
        let half_b = (tile & 1u) * HALF_B;
        //@ for K in 0..BK
        {
            //@ for I in 0..TM/4
            let x$I = tile_a[half_a + $Ku * GM + ((ty + $Iu * Y) ^ ($Ku % GM))];
            //@ end
            //@ for J in 0..TN/4
            let y$J = tile_b[half_b + $Ku * GN + ((tx + $Ju * X) ^ ($Ku % GN))];
            //@ end
            //@ for I in 0..TM/4
            //@ for J in 0..TN/4
            acc_$I0_$J += x$I.x * y$J;
            acc_$I1_$J += x$I.y * y$J;
            acc_$I2_$J += x$I.z * y$J;
            acc_$I3_$J += x$I.w * y$J;
            //@ end
            //@ end
        }
        //@ end
        let into_a = HALF_A - half_a;
        let into_b = HALF_B - half_b;
        //@ for S in 0..SLOTS_A
        tile_a[into_a + to_a$S] = next_a$S;
        //@ end
        //@ for S in 0..SLOTS_B
        tile_b[into_b + to_b$S] = next_b$S;
        //@ end
        workgroupBarrier();
    }

    let by = factors(group.z);
    let d_base = params.d_offset + outer * params.d_outer + inner * params.d_inner;
    //@ for I in 0..TM/4
    //@ for C in 0..4
    {
        let row = first_row + (ty + $Iu * Y) * 4u + $Cu;
        if row < params.m {
            //@ for J in 0..TN/4
            //@ for E in 0..4
            finish(d_base + row * params.d_row, first_col + (tx + $Ju * X) * 4u + $Eu, acc_$I$C_$J[$E], by);
            //@ end
            //@ end
        }
    }
    //@ end
    //@ end
}
//@ end
