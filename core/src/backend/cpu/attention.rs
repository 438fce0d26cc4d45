//! Multi-head softmax attention over short sequences, one head of one sequence at a time.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::simd::{sum, sum2, vectorized};
use super::tensor::{CpuTensor, row_major_mut, same};
use super::threads::{block_rows, for_each_block2};
use crate::Real;
use crate::backend::{AttentionShape, View, ViewMut};

const BLOCK_WORK: usize = 50_000;

/// The rows×dh block of `head` in a sequence of `rows` rows that starts at row `first`.
fn head_of<T: Real>(x: View<'_, CpuTensor<T>>, first: usize, rows: usize, head: usize, dh: usize) -> MatRef<'_, T> {
    let from = first * x.stride + head * dh;
    let len = (rows - 1) * x.stride + dh;
    MatRef::from_row_major_slice_with_stride(&x.slice()[from..from + len], rows, dh, x.stride)
}

fn head_of_mut<T: Real>(seq: &mut [T], head: usize, dh: usize, stride: usize, rows: usize) -> MatMut<'_, T> {
    let from = head * dh;
    let len = (rows - 1) * stride + dh;
    row_major_mut(&mut seq[from..from + len], rows, dh, stride)
}

/// Softmax of the first `seen` values; the others become 0.
#[inline(always)]
fn softmax_row<T: Real>(row: &mut [T], seen: usize) {
    let (row, hidden) = row.split_at_mut(seen);
    hidden.fill(T::zero());
    let Some(&first) = row.first() else { return };
    let max = row.iter().fold(first, |m, &x| if x > m { x } else { m });
    row.iter_mut().for_each(|x| *x = (*x - max).exp_kernel());
    let inverse = T::one() / sum(row, |x| x);
    row.iter_mut().for_each(|x| *x *= inverse);
}

/// Keys that query `i` of a sequence of `length` keys sees.
fn seen(shape: AttentionShape, i: usize, length: Option<u32>) -> usize {
    let length = length.map_or(shape.keys, |l| shape.keys.min(l as usize));
    if shape.causal { length.min((i + shape.keys + 1).saturating_sub(shape.tokens)) } else { length }
}

/// The head size, and the queries' heads of each group.
fn check<T: Real>(
    op: &str,
    q: View<'_, CpuTensor<T>>,
    k: View<'_, CpuTensor<T>>,
    v: View<'_, CpuTensor<T>>,
    shape: AttentionShape,
) -> (usize, usize) {
    let AttentionShape { batch, tokens, keys, heads, kv_heads, .. } = shape;
    let dh = q.cols / heads;
    assert!(heads.is_multiple_of(kv_heads) && q.cols == heads * dh, "{op}: {} columns are not {shape:?}", q.cols);
    same(op, (q.rows, q.cols), (batch * tokens, heads * dh));
    same(op, (k.rows, k.cols), (batch * keys, kv_heads * dh));
    same(op, (v.rows, v.cols), (k.rows, k.cols));
    (dh, heads / kv_heads)
}

/// `o = softmax(q·kᵀ/√dh)·v` per head; `probabilities` is \[batch·heads, tokens, keys\].
#[allow(clippy::too_many_arguments)] // the operands of the formula
pub fn attention<T: Real>(
    o: ViewMut<'_, CpuTensor<T>>,
    probabilities: &mut CpuTensor<T>,
    q: View<'_, CpuTensor<T>>,
    k: View<'_, CpuTensor<T>>,
    v: View<'_, CpuTensor<T>>,
    lengths: Option<&[u32]>,
    shape: AttentionShape,
) {
    let AttentionShape { batch, tokens, keys, heads, .. } = shape;
    let (dh, group) = check("attention", q, k, v, shape);
    same("attention", (o.rows, o.cols), (q.rows, q.cols));
    let scale = T::of(1.0 / libm::sqrt(dh as f64));
    let (rows, stride) = o.into_rows();
    let work = tokens * keys * q.cols * 2;
    let per_block = block_rows(batch, work, BLOCK_WORK, 1);
    let square = tokens * keys;
    let probabilities = &mut probabilities.data[..batch * heads * square];
    for_each_block2(
        (rows, per_block * tokens * stride),
        (probabilities, per_block * heads * square),
        batch * work,
        |b, o, probabilities| {
            for (i, (o, p)) in o.chunks_mut(tokens * stride).zip(probabilities.chunks_mut(heads * square)).enumerate() {
                let sequence = b * per_block + i;
                let length = lengths.map(|l| l[sequence]);
                for (head, p) in p.chunks_exact_mut(square).enumerate() {
                    let mut scores = MatMut::from_row_major_slice_mut(p, tokens, keys);
                    let queries = head_of(q, sequence * tokens, tokens, head, dh);
                    let kt = head_of(k, sequence * keys, keys, head / group, dh).transpose();
                    matmul(scores.as_mut(), Accum::Replace, queries, kt, scale, Par::Seq);
                    vectorized(
                        #[inline(always)]
                        || {
                            for (i, row) in p.chunks_exact_mut(keys).enumerate() {
                                softmax_row(row, seen(shape, i, length));
                            }
                        },
                    );
                    let p = MatRef::from_row_major_slice(p, tokens, keys);
                    let o = head_of_mut(o, head, dh, stride, tokens);
                    let values = head_of(v, sequence * keys, keys, head / group, dh);
                    matmul(o, Accum::Replace, p, values, T::one(), Par::Seq);
                }
            }
        },
    );
}

/// Gradients of [`attention`]: `dv = Pᵀ·do`, `dS = P∘(do·vᵀ − rowsum)`, `dq = dS·k/√dh`, `dk = dSᵀ·q/√dh`.
#[allow(clippy::too_many_arguments)] // the operands of the formula
pub fn attention_backward<T: Real>(
    [dq, dk, dv]: [ViewMut<'_, CpuTensor<T>>; 3],
    d_o: View<'_, CpuTensor<T>>,
    probabilities: &CpuTensor<T>,
    scratch: &mut CpuTensor<T>,
    q: View<'_, CpuTensor<T>>,
    k: View<'_, CpuTensor<T>>,
    v: View<'_, CpuTensor<T>>,
    shape: AttentionShape,
) {
    let AttentionShape { batch, tokens, keys, heads, .. } = shape;
    let (dh, group) = check("attention_backward", q, k, v, shape);
    for (rows, cols) in [(dq.rows, dq.cols), (d_o.rows, d_o.cols)] {
        same("attention_backward", (rows, cols), (q.rows, q.cols));
    }
    for (rows, cols) in [(dk.rows, dk.cols), (dv.rows, dv.cols)] {
        same("attention_backward", (rows, cols), (k.rows, k.cols));
    }
    let scale = T::of(1.0 / libm::sqrt(dh as f64));
    let square = tokens * keys;
    let work = tokens * keys * q.cols * 5;
    let ((dq, sq), (dk, sk), (dv, sv)) = (dq.into_rows(), dk.into_rows(), dv.into_rows());
    let probabilities = &probabilities.data;
    let sequence = |i: usize, dq: &mut [T], dk: &mut [T], dv: &mut [T], ds: &mut [T]| {
        for (head, ds) in ds.chunks_exact_mut(square).enumerate() {
            // The first head of a group overwrites dk and dv, the others add.
            let accum = if head % group == 0 { Accum::Replace } else { Accum::Add };
            let p_values = &probabilities[(i * heads + head) * square..][..square];
            let p = MatRef::from_row_major_slice(p_values, tokens, keys);
            let d_o = head_of(d_o, i * tokens, tokens, head, dh);
            let dv = head_of_mut(dv, head / group, dh, sv, keys);
            matmul(dv, accum, p.transpose(), d_o, T::one(), Par::Seq);
            let dp = MatMut::from_row_major_slice_mut(ds, tokens, keys);
            let values = head_of(v, i * keys, keys, head / group, dh);
            matmul(dp, Accum::Replace, d_o, values.transpose(), T::one(), Par::Seq);
            vectorized(
                #[inline(always)]
                || {
                    for (ds, p) in ds.chunks_exact_mut(keys).zip(p_values.chunks_exact(keys)) {
                        let mean = sum2(ds, p, |d, p| d * p);
                        ds.iter_mut().zip(p).for_each(|(d, &p)| *d = p * (*d - mean));
                    }
                },
            );
            let ds = MatRef::from_row_major_slice(ds, tokens, keys);
            let dq = head_of_mut(dq, head, dh, sq, tokens);
            matmul(dq, Accum::Replace, ds, head_of(k, i * keys, keys, head / group, dh), scale, Par::Seq);
            let dk = head_of_mut(dk, head / group, dh, sk, keys);
            matmul(dk, accum, ds.transpose(), head_of(q, i * tokens, tokens, head, dh), scale, Par::Seq);
        }
    };
    share_sequences(
        [(dq, tokens * sq), (dk, keys * sk), (dv, keys * sv), (&mut scratch.data, heads * square)],
        batch,
        work,
        sequence,
    );
}

/// Runs `f(i, …)` on the `i`-th chunk of four outputs.
fn share_sequences<T: Real>(
    [(a, la), (b, lb), (c, lc), (d, ld)]: [(&mut [T], usize); 4],
    batch: usize,
    work: usize,
    f: impl Fn(usize, &mut [T], &mut [T], &mut [T], &mut [T]) + Sync + Send,
) {
    #[cfg(feature = "std")]
    if rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        a.par_chunks_mut(la)
            .zip(b.par_chunks_mut(lb))
            .zip(c.par_chunks_mut(lc))
            .zip(d.par_chunks_mut(ld).take(batch))
            .enumerate()
            .with_min_len(block_rows(batch, work, BLOCK_WORK, 1))
            .for_each(|(i, (((a, b), c), d))| f(i, a, b, c, d));
        return;
    }
    let _ = work;
    let chunks = a.chunks_mut(la).zip(b.chunks_mut(lb)).zip(c.chunks_mut(lc)).zip(d.chunks_mut(ld)).take(batch);
    for (i, (((a, b), c), d)) in chunks.enumerate() {
        f(i, a, b, c, d);
    }
}
