// Symmetric eigenproblems of up to 64×64 by cyclic Jacobi (Golub & Van Loan, section 8.5): a workgroup a matrix, all
// disjoint pairs of a round at once. The matrix lies packed (lower triangle, by rows) in workgroup memory, which a full
// one of 64×64 would fill; the vectors lie in device memory.
const THREADS: u32 = 256;
const MOST: u32 = 64;
const PACKED: u32 = 2080; // 64·65/2
const SWEEPS: u32 = 16;

var<workgroup> c: array<f32, PACKED>;
// Of each pair of the round: cosine and sine, and its two indices.
var<workgroup> turn: array<vec2<f32>, 32>;
var<workgroup> pair: array<vec2<u32>, 32>;
var<workgroup> lanes: array<f32, THREADS>;
var<workgroup> shared_value: f32;

fn packed(i: u32, j: u32) -> u32 {
    let low = min(i, j);
    let high = max(i, j);
    return high * (high + 1u) / 2u + low;
}

// The sum of every thread's value, in every thread.
fn total(thread: u32, value: f32) -> f32 {
    lanes[thread] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            lanes[thread] += lanes[thread + half];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        shared_value = lanes[0];
    }
    return workgroupUniformLoad(&shared_value);
}

// The rotation that makes the off-diagonal entry of a symmetric 2×2 matrix zero.
fn rotation(pp: f32, qq: f32, pq: f32) -> vec2<f32> {
    if pq == 0.0 {
        return vec2<f32>(1.0, 0.0);
    }
    let tau = (qq - pp) / (2.0 * pq);
    // For |τ| beyond 1e18 its square overflows, and the tangent is 1/2τ.
    var tangent = 0.5 / tau;
    if abs(tau) < 1e18 {
        tangent = select(-1.0, 1.0, tau >= 0.0) / (abs(tau) + sqrt(1.0 + tau * tau));
    }
    let cosine = inverseSqrt(1.0 + tangent * tangent);
    let t = vec2<f32>(cosine, tangent * cosine);
    // inverseSqrt may be off by two units in the last place, always to one side; a thousand rotations would show it.
    return t * (1.5 - 0.5 * dot(t, t));
}

// Diagonalises `c` (r×r) and leaves the eigenvalues on its diagonal; column j of the r×r block at `at` in `vectors` belongs
// to value j. In no order.
fn jacobi(thread: u32, r: u32, at: u32) {
    for (var i = thread; i < r * r; i += THREADS) {
        vectors[at + i] = select(0.0, 1.0, i / r == i % r);
    }
    let even = r + (r & 1u);
    let pairs = even / 2u;
    for (var sweep = 0u; sweep < SWEEPS; sweep++) {
        storageBarrier();
        workgroupBarrier();
        var off = 0.0;
        var all = 0.0;
        for (var i = thread; i < r * (r + 1u) / 2u; i += THREADS) {
            all += c[i] * c[i];
        }
        // Not as a difference of sums, which would cancel.
        for (var i = thread; i < r * r; i += THREADS) {
            if i / r > i % r {
                let x = c[packed(i / r, i % r)];
                off += x * x;
            }
        }
        let whole = total(thread, all);
        let outside = total(thread, off);
        if outside <= 1e-15 * whole {
            break;
        }
        for (var round = 0u; round < even - 1u; round++) {
            // Round robin: player 0 stays, the others move on by one.
            if thread < pairs {
                let last = even - 1u;
                var p = (thread + last - 1u + round) % last + 1u;
                if thread == 0u {
                    p = 0u;
                }
                let q = (last - thread + last - 1u + round) % last + 1u;
                let low = min(p, q);
                let high = max(p, q);
                pair[thread] = vec2<u32>(low, high);
                var t = vec2<f32>(1.0, 0.0);
                if high < r {
                    t = rotation(c[packed(low, low)], c[packed(high, high)], c[packed(low, high)]);
                }
                turn[thread] = t;
            }
            workgroupBarrier();
            // The 2×2 blocks between two pairs don't touch each other.
            for (var block = thread; block < pairs * pairs; block += THREADS) {
                let one = block / pairs;
                let two = block % pairs;
                if one > two {
                    continue;
                }
                let a = pair[one];
                let b = pair[two];
                let ta = turn[one];
                let tb = turn[two];
                if one == two {
                    if a.y < r {
                        let at_pp = packed(a.x, a.x);
                        let at_qq = packed(a.y, a.y);
                        let at_pq = packed(a.x, a.y);
                        let shift = c[at_pq] * ta.y / ta.x;
                        c[at_pp] -= shift;
                        c[at_qq] += shift;
                        c[at_pq] = 0.0;
                    }
                    continue;
                }
                let has_a = a.y < r;
                let has_b = b.y < r;
                let pp = c[packed(a.x, b.x)];
                var pq = 0.0;
                var qp = 0.0;
                var qq = 0.0;
                if has_b {
                    pq = c[packed(a.x, b.y)];
                }
                if has_a {
                    qp = c[packed(a.y, b.x)];
                }
                if has_a && has_b {
                    qq = c[packed(a.y, b.y)];
                }
                let top_p = ta.x * pp - ta.y * qp;
                let top_q = ta.x * pq - ta.y * qq;
                let low_p = ta.y * pp + ta.x * qp;
                let low_q = ta.y * pq + ta.x * qq;
                c[packed(a.x, b.x)] = tb.x * top_p - tb.y * top_q;
                if has_b {
                    c[packed(a.x, b.y)] = tb.y * top_p + tb.x * top_q;
                }
                if has_a {
                    c[packed(a.y, b.x)] = tb.x * low_p - tb.y * low_q;
                }
                if has_a && has_b {
                    c[packed(a.y, b.y)] = tb.y * low_p + tb.x * low_q;
                }
            }
            for (var i = thread; i < r * pairs; i += THREADS) {
                let row = at + i / pairs * r;
                let p = pair[i % pairs];
                let t = turn[i % pairs];
                if p.y < r {
                    let x = vectors[row + p.x];
                    let y = vectors[row + p.y];
                    vectors[row + p.x] = t.x * x - t.y * y;
                    vectors[row + p.y] = t.y * x + t.x * y;
                }
            }
            storageBarrier();
            workgroupBarrier();
        }
    }
    storageBarrier();
    workgroupBarrier();
}
