//! include shared/rotations.wgsl
// Symmetric eigenproblems of up to 64×64 by cyclic Jacobi (Golub & Van Loan, section 8.5): a workgroup a matrix, all
// disjoint pairs of a round at once. The matrix lies packed (lower triangle, by rows) in workgroup memory, which a full
// one of 64×64 would fill; the vectors lie in device memory.
const MOST: u32 = 64;
const PACKED: u32 = 2080; // 64·65/2
const SWEEPS: u32 = 16;

var<workgroup> c: array<f32, PACKED>;
// Of each pair of the round: cosine and sine, and its two indices.
var<workgroup> turn: array<vec2<f32>, 32>;
var<workgroup> pair: array<vec2<u32>, 32>;

fn packed(i: u32, j: u32) -> u32 {
    let low = min(i, j);
    let high = max(i, j);
    return high * (high + 1u) / 2u + low;
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
            if thread < pairs {
                let both = round_robin(thread, round, even);
                pair[thread] = both;
                var t = vec2<f32>(1.0, 0.0);
                if both.y < r {
                    t = rotation(c[packed(both.x, both.x)], c[packed(both.y, both.y)], c[packed(both.x, both.y)]);
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
