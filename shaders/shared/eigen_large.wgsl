// Symmetric eigenproblems of up to 1024×1024 by cyclic Jacobi in device memory: a workgroup a matrix. Of each matrix `work`
// holds 2r×r: what becomes diagonal, and the vectors in no order.
//! include shared/rotations.wgsl
const SWEEPS: u32 = 20;
// Of each pair of the round: cosine and sine, and its two indices.
var<workgroup> turn: array<vec2<f32>, 512>;
var<workgroup> pair: array<vec2<u32>, 512>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = params.r;
    let size = r * r;
    let matrix = params.a_offset + group.x * size;
    let c = params.work_offset + group.x * 2u * size;
    let v = c + size;
    var bad = 0.0;
    for (var i = thread; i < size; i += THREADS) {
        let row = i / r;
        let col = i % r;
        let x = a[matrix + max(row, col) * r + min(row, col)];
        work[c + i] = x;
        work[v + i] = select(0.0, 1.0, row == col);
        bad += select(1.0, 0.0, is_finite(x));
    }
    if total(thread, bad) > 0.0 {
        if thread == 0u {
            report(NOT_FINITE, params.first + group.x);
        }
        return;
    }
    let even = r + (r & 1u);
    let pairs = even / 2u;
    for (var sweep = 0u; sweep < SWEEPS; sweep++) {
        storageBarrier();
        workgroupBarrier();
        var off = 0.0;
        var all = 0.0;
        for (var i = thread; i < size; i += THREADS) {
            let x = work[c + i];
            all += x * x;
            // Not as a difference of sums, which would cancel.
            off += select(x * x, 0.0, i / r == i % r);
        }
        let whole = total(thread, all);
        let outside = total(thread, off);
        if outside <= 1e-15 * whole {
            break;
        }
        for (var round = 0u; round < even - 1u; round++) {
            for (var i = thread; i < pairs; i += THREADS) {
                let both = round_robin(i, round, even);
                pair[i] = both;
                var t = vec2<f32>(1.0, 0.0);
                if both.y < r {
                    let corner = work[c + both.y * r + both.x];
                    t = rotation(work[c + both.x * r + both.x], work[c + both.y * r + both.y], corner);
                }
                turn[i] = t;
            }
            workgroupBarrier();
            // Rows first.
            for (var i = thread; i < r * pairs; i += THREADS) {
                let p = pair[i / r];
                let t = turn[i / r];
                if p.y < r {
                    let one = c + p.x * r + i % r;
                    let two = c + p.y * r + i % r;
                    let x = work[one];
                    let y = work[two];
                    work[one] = t.x * x - t.y * y;
                    work[two] = t.y * x + t.x * y;
                }
            }
            storageBarrier();
            workgroupBarrier();
            // Then columns, and those of the vectors, which lie behind: 2r rows.
            for (var i = thread; i < 2u * r * pairs; i += THREADS) {
                let row = i / pairs;
                let p = pair[i % pairs];
                let t = turn[i % pairs];
                if p.y < r {
                    let one = c + row * r + p.x;
                    let two = c + row * r + p.y;
                    let x = work[one];
                    let y = work[two];
                    work[one] = select(t.x * x - t.y * y, 0.0, row == p.y);
                    work[two] = select(t.y * x + t.x * y, 0.0, row == p.x);
                }
            }
            storageBarrier();
            workgroupBarrier();
        }
    }
    // The rank of each value, ties by index, is its place.
    let into = params.vectors_offset + group.x * size;
    for (var i = thread; i < r; i += THREADS) {
        let own = work[c + i * r + i];
        var place = 0u;
        for (var j = 0u; j < r; j++) {
            let other = work[c + j * r + j];
            place += select(0u, 1u, other > own || (other == own && j < i));
        }
        values[params.values_offset + group.x * r + place] = own;
        for (var row = 0u; row < r; row++) {
            vectors[into + row * r + place] = work[v + row * r + i];
        }
    }
}
