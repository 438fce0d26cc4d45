//! Multi-head softmax attention over short sequences, one head of one sequence at a time.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::simd::{sum, sum2, vectorized};
use super::tensor::{CpuTensor, row_major_mut, same};
use super::threads::{block_rows, for_each_block2};
use crate::Real;
use crate::backend::{AttentionShape, View, ViewMut};

const BLOCK_WORK: usize = 50_000;

/// The tokens×dh block of `head` in a tokens×(heads·dh) sequence that starts at `first`.
fn head_of<'a, T: Real>(x: View<'a, CpuTensor<T>>, first: usize, head: usize, shape: AttentionShape) -> MatRef<'a, T> {
    let dh = x.cols / shape.heads;
    let from = first * x.stride + head * dh;
    let len = (shape.tokens - 1) * x.stride + dh;
    MatRef::from_row_major_slice_with_stride(&x.slice()[from..from + len], shape.tokens, dh, x.stride)
}

fn head_of_mut<T: Real>(seq: &mut [T], head: usize, dh: usize, stride: usize, tokens: usize) -> MatMut<'_, T> {
    let from = head * dh;
    let len = (tokens - 1) * stride + dh;
    row_major_mut(&mut seq[from..from + len], tokens, dh, stride)
}

#[inline(always)]
fn softmax_row<T: Real>(row: &mut [T]) {
    let max = row.iter().fold(row[0], |m, &x| if x > m { x } else { m });
    row.iter_mut().for_each(|x| *x = (*x - max).exp_kernel());
    let inverse = T::one() / sum(row, |x| x);
    row.iter_mut().for_each(|x| *x *= inverse);
}

/// `o = softmax(q·kᵀ/√dh)·v` per head; `probabilities` is \[batch·heads, tokens, tokens\].
pub fn attention<T: Real>(
    o: ViewMut<'_, CpuTensor<T>>,
    probabilities: &mut CpuTensor<T>,
    q: View<'_, CpuTensor<T>>,
    k: View<'_, CpuTensor<T>>,
    v: View<'_, CpuTensor<T>>,
    shape: AttentionShape,
) {
    let AttentionShape { batch, tokens, heads } = shape;
    same("attention", (o.rows, o.cols), (q.rows, q.cols));
    same("attention", (batch * tokens, q.cols), (v.rows, v.cols));
    same("attention", (k.rows, k.cols), (v.rows, v.cols));
    let dh = q.cols / heads;
    let scale = T::of(1.0 / libm::sqrt(dh as f64));
    let (rows, stride) = o.into_rows();
    let work = tokens * tokens * q.cols * 2;
    let per_block = block_rows(batch, work, BLOCK_WORK, 1);
    let square = tokens * tokens;
    let probabilities = &mut probabilities.data[..batch * heads * square];
    for_each_block2(
        (rows, per_block * tokens * stride),
        (probabilities, per_block * heads * square),
        batch * work,
        |b, o, probabilities| {
            for (i, (o, p)) in o.chunks_mut(tokens * stride).zip(probabilities.chunks_mut(heads * square)).enumerate() {
                let first = (b * per_block + i) * tokens;
                for (head, p) in p.chunks_exact_mut(square).enumerate() {
                    let mut scores = MatMut::from_row_major_slice_mut(p, tokens, tokens);
                    let kt = head_of(k, first, head, shape).transpose();
                    matmul(scores.as_mut(), Accum::Replace, head_of(q, first, head, shape), kt, scale, Par::Seq);
                    vectorized(
                        #[inline(always)]
                        || {
                            for row in p.chunks_exact_mut(tokens) {
                                softmax_row(row);
                            }
                        },
                    );
                    let p = MatRef::from_row_major_slice(p, tokens, tokens);
                    let o = head_of_mut(o, head, dh, stride, tokens);
                    matmul(o, Accum::Replace, p, head_of(v, first, head, shape), T::one(), Par::Seq);
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
    let AttentionShape { batch, tokens, heads } = shape;
    for (rows, cols) in [(dq.rows, dq.cols), (dk.rows, dk.cols), (dv.rows, dv.cols), (d_o.rows, d_o.cols)] {
        same("attention_backward", (rows, cols), (batch * tokens, q.cols));
    }
    let dh = q.cols / heads;
    let scale = T::of(1.0 / libm::sqrt(dh as f64));
    let square = tokens * tokens;
    let work = tokens * tokens * q.cols * 5;
    let ((dq, sq), (dk, sk), (dv, sv)) = (dq.into_rows(), dk.into_rows(), dv.into_rows());
    let probabilities = &probabilities.data;
    let sequence = |i: usize, dq: &mut [T], dk: &mut [T], dv: &mut [T], ds: &mut [T]| {
        let first = i * tokens;
        for (head, ds) in ds.chunks_exact_mut(square).enumerate() {
            let p_values = &probabilities[(i * heads + head) * square..][..square];
            let p = MatRef::from_row_major_slice(p_values, tokens, tokens);
            let d_o = head_of(d_o, first, head, shape);
            let dv = head_of_mut(dv, head, dh, sv, tokens);
            matmul(dv, Accum::Replace, p.transpose(), d_o, T::one(), Par::Seq);
            let dp = MatMut::from_row_major_slice_mut(ds, tokens, tokens);
            matmul(dp, Accum::Replace, d_o, head_of(v, first, head, shape).transpose(), T::one(), Par::Seq);
            vectorized(
                #[inline(always)]
                || {
                    for (ds, p) in ds.chunks_exact_mut(tokens).zip(p_values.chunks_exact(tokens)) {
                        let mean = sum2(ds, p, |d, p| d * p);
                        ds.iter_mut().zip(p).for_each(|(d, &p)| *d = p * (*d - mean));
                    }
                },
            );
            let ds = MatRef::from_row_major_slice(ds, tokens, tokens);
            let dq = head_of_mut(dq, head, dh, sq, tokens);
            matmul(dq, Accum::Replace, ds, head_of(k, first, head, shape), scale, Par::Seq);
            let dk = head_of_mut(dk, head, dh, sk, tokens);
            matmul(dk, Accum::Replace, ds.transpose(), head_of(q, first, head, shape), scale, Par::Seq);
        }
    };
    share_sequences(
        [(dq, tokens * sq), (dk, tokens * sk), (dv, tokens * sv), (&mut scratch.data, heads * square)],
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
