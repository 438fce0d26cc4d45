//! Eigenvalues, descending, and eigenvectors of a stack of symmetric r×r matrices: a workgroup a matrix, which lies in
//! workgroup memory up to r = 64 and in device memory beyond. Only the lower triangles are read. Twin:
//! `core/src/linalg/eigen.rs`.
//! axis place: workgroup(LARGE = false), device(LARGE = true)
//! include shared/fault.wgsl
struct Params {
    r: u32,
    // Number of the first matrix.
    first: u32,
    a_offset: u32,
    values_offset: u32,
    vectors_offset: u32,
    // Room for the vectors in no order; where LARGE for the matrix, too.
    work_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> vectors: array<f32>;
@group(0) @binding(4) var<storage, read_write> work: array<f32>;
@group(0) @binding(5) var<storage, read_write> fault: array<atomic<u32>>;
const LARGE: bool = false;
//@ if LARGE
//! include shared/eigen_large.wgsl
//@ else
//! include shared/jacobi.wgsl

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let r = params.r;
    let matrix = params.a_offset + group.x * r * r;
    let at = params.vectors_offset + group.x * r * r;
    let copy = params.work_offset + group.x * r * r;
    var bad = 0.0;
    for (var i = thread; i < r * r; i += THREADS) {
        let row = i / r;
        let col = i % r;
        if row >= col {
            let x = a[matrix + i];
            c[packed(row, col)] = x;
            bad += select(1.0, 0.0, is_finite(x));
        }
    }
    if total(thread, bad) > 0.0 {
        if thread == 0u {
            report(NOT_FINITE, params.first + group.x);
        }
        return;
    }
    jacobi(thread, r, at);
    // The rank of each value, ties by index, is its place.
    if thread < r {
        let own = c[packed(thread, thread)];
        var place = 0u;
        for (var j = 0u; j < r; j++) {
            let other = c[packed(j, j)];
            place += select(0u, 1u, other > own || (other == own && j < thread));
        }
        values[params.values_offset + group.x * r + place] = own;
        lanes[thread] = f32(place);
    }
    workgroupBarrier();
    for (var i = thread; i < r * r; i += THREADS) {
        work[copy + i] = vectors[at + i];
    }
    storageBarrier();
    for (var i = thread; i < r * r; i += THREADS) {
        let col = i % r;
        vectors[at + i - col + u32(lanes[col])] = work[copy + i];
    }
}
//@ end
