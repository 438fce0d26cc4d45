//! Puts every n×r matrix of a stack back onto the Stiefel manifold in place, r ≤ 64: a workgroup a matrix, all of it in
//! one launch. Whitening `Y ← Y·(YᵀY)^{−½}` is repeated until YᵀY is I to rounding, so that a condition number of up to
//! about 10⁶ is made good; near I a polynomial takes the eigenproblem's place. QR is Cholesky's, twice. Twin:
//! `core/src/manifold/retraction.rs`.
//! include shared/fault.wgsl
//! axis way: whitening(QR = false), qr(QR = true)
struct Params {
    n: u32,
    r: u32,
    first: u32,
    // Where the first matrix's block of `vectors` begins.
    vectors: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> vectors: array<f32>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
//! include shared/jacobi.wgsl
const QR: bool = false;
// Passes before a matrix counts as rank deficient.
const PASSES: u32 = 8;
// ‖YᵀY − I‖² below which the polynomial of degree 2 is exact to 1e-7, and at which Y is on the manifold.
const NEAR: f32 = 1e-5;
const THERE: f32 = 1e-13;

// Rows of Y on their way through.
const TILE: u32 = 1024;
var<workgroup> tile: array<f32, TILE>;
var<workgroup> factor: array<f32, MOST>;

// The row of entry e of a packed lower triangle.
fn packed_row(e: u32) -> u32 {
    var i = u32((sqrt(8.0 * f32(e) + 1.0) - 1.0) * 0.5);
    if (i + 1u) * (i + 2u) / 2u <= e {
        i += 1u;
    }
    if i * (i + 1u) / 2u > e {
        i -= 1u;
    }
    return i;
}

fn load(thread: u32, base: u32, row: u32, rows: u32) {
    for (var i = thread; i < rows * params.r; i += THREADS) {
        tile[i] = y[base + row * params.r + i];
    }
}

// `c` = YᵀY. Where there are fewer entries than threads, several threads share one and take turns by rows.
fn gram(thread: u32, base: u32) {
    let r = params.r;
    let entries = r * (r + 1u) / 2u;
    let parts = max(THREADS / entries, 1u);
    let part = thread / entries;
    let height = TILE / r;
    //@ for S in 0..9
    var sum$S = 0.0;
    let e$S = select(thread + $Su * THREADS, thread % entries, parts > 1u);
    let i$S = packed_row(min(e$S, entries - 1u));
    let j$S = min(e$S, entries - 1u) - i$S * (i$S + 1u) / 2u;
    //@ end
    for (var row = 0u; row < params.n; row += height) {
        let rows = min(height, params.n - row);
        workgroupBarrier();
        load(thread, base, row, rows);
        workgroupBarrier();
        if parts > 1u {
            if part < parts {
                for (var k = part; k < rows; k += parts) {
                    sum0 += tile[k * r + i0] * tile[k * r + j0];
                }
            }
        } else {
            for (var k = 0u; k < rows; k++) {
                //@ for S in 0..9
                if $Su * THREADS < entries {
                    sum$S += tile[k * r + i$S] * tile[k * r + j$S];
                }
                //@ end
            }
        }
    }
    workgroupBarrier();
    if parts > 1u {
        lanes[thread] = sum0;
        workgroupBarrier();
        if thread < entries {
            var sum = 0.0;
            for (var p = 0u; p < parts; p++) {
                sum += lanes[thread + p * entries];
            }
            c[thread] = sum;
        }
    } else {
        //@ for S in 0..9
        if e$S < entries {
            c[e$S] = sum$S;
        }
        //@ end
    }
    workgroupBarrier();
}

// ‖c − I‖² and whether all of c is finite (then x ≥ 0).
fn distance(thread: u32) -> f32 {
    let entries = params.r * (params.r + 1u) / 2u;
    var sum = 0.0;
    var bad = 0.0;
    for (var e = thread; e < entries; e += THREADS) {
        let i = packed_row(e);
        let diagonal = e == i * (i + 1u) / 2u + i;
        let x = c[e] - select(0.0, 1.0, diagonal);
        bad += select(1.0, 0.0, is_finite(c[e]));
        sum += select(2.0, 1.0, diagonal) * x * x;
    }
    let squares = total(thread, sum);
    let faults = total(thread, bad);
    return select(squares, -1.0, faults > 0.0);
}

// `c` ← I − E/2 + 3E²/8 with E = c − I.
fn polynomial(thread: u32, at: u32) {
    let r = params.r;
    for (var i = thread; i < r * r; i += THREADS) {
        vectors[at + i] = c[packed(i / r, i % r)] - select(0.0, 1.0, i / r == i % r);
    }
    storageBarrier();
    workgroupBarrier();
    for (var e = thread; e < r * (r + 1u) / 2u; e += THREADS) {
        let i = packed_row(e);
        let j = e - i * (i + 1u) / 2u;
        var square = 0.0;
        for (var k = 0u; k < r; k++) {
            square += vectors[at + i * r + k] * vectors[at + j * r + k];
        }
        c[e] = select(0.0, 1.0, i == j) - 0.5 * vectors[at + i * r + j] + 0.375 * square;
    }
    storageBarrier();
    workgroupBarrier();
}

// `c` ← c^{−½}, eigenvalues below r·ε·λ_max raised to that; false when none is positive.
fn inverse_root(thread: u32, at: u32) -> bool {
    let r = params.r;
    jacobi(thread, r, at);
    if thread == 0u {
        var most = 0.0;
        for (var j = 0u; j < r; j++) {
            most = max(most, c[packed(j, j)]);
        }
        shared_value = most;
    }
    let most = workgroupUniformLoad(&shared_value);
    if most <= 0.0 {
        return false;
    }
    let least = most * f32(r) * 1.1920929e-7;
    if thread < r {
        factor[thread] = inverseSqrt(max(c[packed(thread, thread)], least));
    }
    workgroupBarrier();
    for (var e = thread; e < r * (r + 1u) / 2u; e += THREADS) {
        let i = packed_row(e);
        let j = e - i * (i + 1u) / 2u;
        var sum = 0.0;
        for (var k = 0u; k < r; k++) {
            sum += vectors[at + i * r + k] * factor[k] * vectors[at + j * r + k];
        }
        c[e] = sum;
    }
    workgroupBarrier();
    return true;
}

// `c` ← L with c = L·Lᵀ; false when it is not positive definite.
fn cholesky(thread: u32) -> bool {
    let r = params.r;
    for (var j = 0u; j < r; j++) {
        if thread == 0u {
            shared_value = c[packed(j, j)];
        }
        let pivot = workgroupUniformLoad(&shared_value);
        if !(pivot > 1e-30) {
            return false;
        }
        let root = sqrt(pivot);
        if thread >= j && thread < r {
            c[packed(thread, j)] = select(c[packed(thread, j)] / root, root, thread == j);
        }
        workgroupBarrier();
        for (var i = thread; i < r * r; i += THREADS) {
            let row = i / r;
            let col = i % r;
            if col > j && row >= col {
                c[packed(row, col)] -= c[packed(row, j)] * c[packed(col, j)];
            }
        }
        workgroupBarrier();
    }
    return true;
}

// Y ← Y·c, or Y·L^{−T}: rows don't depend on each other.
fn apply(thread: u32, base: u32) {
    let r = params.r;
    let height = TILE / r;
    for (var row = 0u; row < params.n; row += height) {
        let rows = min(height, params.n - row);
        workgroupBarrier();
        load(thread, base, row, rows);
        workgroupBarrier();
        //@ if QR
        for (var more = thread; more < rows; more += THREADS) {
            let own = more * r;
            for (var j = 0u; j < r; j++) {
                var x = tile[own + j];
                for (var k = 0u; k < j; k++) {
                    x -= tile[own + k] * c[packed(j, k)];
                }
                tile[own + j] = x / c[packed(j, j)];
                y[base + row * r + own + j] = tile[own + j];
            }
        }
        //@ else
        for (var i = thread; i < rows * r; i += THREADS) {
            let own = i / r * r;
            let j = i % r;
            var sum = 0.0;
            for (var k = 0u; k < r; k++) {
                sum += tile[own + k] * c[packed(k, j)];
            }
            y[base + row * r + i] = sum;
        }
        //@ end
    }
    storageBarrier();
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let base = group.x * params.n * params.r;
    let at = params.vectors + group.x * params.r * params.r;
    for (var pass_ = 0u; pass_ < PASSES; pass_++) {
        gram(thread, base);
        let squares = distance(thread);
        if squares < 0.0 {
            if thread == 0u {
                report(NOT_FINITE_POINT, params.first + group.x);
            }
            return;
        }
        if squares <= THERE * f32(params.r) {
            return;
        }
        //@ if QR
        if !cholesky(thread) {
            break;
        }
        //@ else
        if squares <= NEAR {
            polynomial(thread, at);
            apply(thread, base);
            return;
        }
        if !inverse_root(thread, at) {
            break;
        }
        //@ end
        apply(thread, base);
        //@ if QR
        if pass_ == 1u {
            return;
        }
        //@ end
    }
    if thread == 0u {
        report(RANK_DEFICIENT, params.first + group.x);
    }
}
