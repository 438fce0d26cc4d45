//! Multi-head attention as batched products around a softmax; the heads of a group share keys and values.

use eblora_core::backend::{AttentionShape, Shaped, View, ViewMut};

use super::matmul::{Batch, Finish, matmul};
use super::rows::{Rows, for_parts, row_span};
use crate::device::Device;
use crate::shaders::matmul::Format;
use crate::shaders::{softmax as forward, softmax_backward as backward};
use crate::tensor::{GpuLabels, GpuTensor};

/// Where the heads lie.
trait Heads {
    fn group(&self) -> usize;
    fn queries<'a>(&self, x: Batch<'a>, g: usize) -> Batch<'a>;
    fn values<'a>(&self, x: Batch<'a>) -> Batch<'a>;
    fn probabilities<'a>(&self, p: &'a GpuTensor, g: usize) -> Batch<'a>;
    fn items(&self) -> [usize; 2];
    fn check(&self, op: &str, q: View<'_, GpuTensor>, k: View<'_, GpuTensor>, v: View<'_, GpuTensor>, p: &GpuTensor);
}

impl Heads for AttentionShape {
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// One head of each group's queries, `g`, of (batch·tokens)×(heads·dh).
    fn queries<'a>(&self, x: Batch<'a>, g: usize) -> Batch<'a> {
        let dh = x.cols / self.heads;
        Batch {
            offset: x.offset + g * dh,
            rows: self.tokens,
            cols: dh,
            outer: self.tokens * x.stride,
            inner: self.group() * dh,
            ..x
        }
    }

    /// The heads of keys or values, (batch·keys)×(kv_heads·dh).
    fn values<'a>(&self, x: Batch<'a>) -> Batch<'a> {
        let dh = x.cols / self.kv_heads;
        Batch { rows: self.keys, cols: dh, outer: self.keys * x.stride, inner: dh, ..x }
    }

    /// The probabilities of head `g` of each group, \[batch·heads, tokens, keys\].
    fn probabilities<'a>(&self, p: &'a GpuTensor, g: usize) -> Batch<'a> {
        let square = self.tokens * self.keys;
        Batch {
            offset: g * square,
            outer: self.heads * square,
            inner: self.group() * square,
            ..Batch::stack(p, self.tokens, self.keys)
        }
    }

    fn items(&self) -> [usize; 2] {
        [self.batch, self.kv_heads]
    }

    fn check(&self, op: &str, q: View<'_, GpuTensor>, k: View<'_, GpuTensor>, v: View<'_, GpuTensor>, p: &GpuTensor) {
        let fits = q.rows == self.batch * self.tokens
            && k.rows == self.batch * self.keys
            && v.rows == k.rows
            && k.cols == v.cols
            && self.heads.is_multiple_of(self.kv_heads)
            && q.cols * self.kv_heads == k.cols * self.heads
            && p.len() >= self.batch * self.heads * self.tokens * self.keys;
        assert!(fits, "{op}: {}×{}, {}×{} and {:?} are not {self:?}", q.rows, q.cols, k.rows, k.cols, p.shape());
    }
}

/// `o = softmax(q·kᵀ/√dh)·v` per head; `probabilities` is kept for the backward pass.
pub fn attention(
    device: &Device,
    o: ViewMut<'_, GpuTensor>,
    probabilities: &GpuTensor,
    [q, k, v]: [View<'_, GpuTensor>; 3],
    lengths: Option<&GpuLabels>,
    e: AttentionShape,
) {
    e.check("attention", q, k, v, probabilities);
    let alpha = 1.0 / ((q.cols / e.heads) as f64).sqrt();
    let scaled = Finish { alpha, ..Finish::default() };
    for g in 0..e.group() {
        let factors = [e.queries(Batch::view(q), g), e.values(Batch::view(k)).t()];
        matmul(device, Format::F32, e.probabilities(probabilities, g), factors, e.items(), scaled);
    }
    softmax(device, probabilities, lengths, e);
    for g in 0..e.group() {
        let factors = [e.probabilities(probabilities, g), e.values(Batch::view(v))];
        matmul(device, Format::F32, e.queries(Batch::target(&o), g), factors, e.items(), Finish::default());
    }
}

fn softmax(device: &Device, p: &GpuTensor, lengths: Option<&GpuLabels>, e: AttentionShape) {
    let rows = e.batch * e.heads * e.tokens;
    for_parts(rows, [Rows::packed(p, e.keys)], &mut |first, rows, [p]| {
        let params = forward::Params {
            rows: rows as u32,
            first: first as u32,
            keys: e.keys as u32,
            tokens: e.tokens as u32,
            heads: e.heads as u32,
            causal: u32::from(e.causal),
            masked: u32::from(lengths.is_some()),
            offset: p.1,
        };
        let lengths = lengths.map_or(&device.nothing, |l| &l.buffer);
        let (short, groups) = row_span(device, rows, e.keys);
        let buffers = forward::Buffers { lengths, p: p.0 };
        forward::launch(device, forward::Span::ALL[usize::from(short)], buffers, params, groups);
    });
}

/// Gradients into `[dq, dk, dv]`; `scratch` has the shape of `probabilities`.
pub fn attention_backward(
    device: &Device,
    [dq, dk, dv]: [ViewMut<'_, GpuTensor>; 3],
    d_o: View<'_, GpuTensor>,
    [probabilities, scratch]: [&GpuTensor; 2],
    [q, k, v]: [View<'_, GpuTensor>; 3],
    e: AttentionShape,
) {
    e.check("attention_backward", q, k, v, probabilities);
    let alpha = 1.0 / ((q.cols / e.heads) as f64).sqrt();
    let product = |d, factors, finish| matmul(device, Format::F32, d, factors, e.items(), finish);
    // The first head of a group overwrites dk and dv, the others add.
    let sum = |g: usize| Finish { accumulate: u32::from(g > 0), ..Finish::default() };
    for g in 0..e.group() {
        let grad = e.queries(Batch::view(d_o), g);
        product(e.probabilities(scratch, g), [grad, e.values(Batch::view(v)).t()], Finish::default());
        product(e.values(Batch::target(&dv)), [e.probabilities(probabilities, g).t(), grad], sum(g));
    }
    let rows = e.batch * e.heads * e.tokens;
    for_parts(rows, [Rows::packed(probabilities, e.keys), Rows::packed(scratch, e.keys)], &mut |_, rows, [p, d]| {
        let params = backward::Params {
            rows: rows as u32,
            keys: e.keys as u32,
            p_offset: p.1,
            d_offset: d.1,
            alpha: alpha as f32,
        };
        let (short, groups) = row_span(device, rows, e.keys);
        let buffers = backward::Buffers { p: p.0, d: d.0 };
        backward::launch(device, backward::Span::ALL[usize::from(short)], buffers, params, groups);
    });
    for g in 0..e.group() {
        let scores = e.probabilities(scratch, g);
        product(e.queries(Batch::target(&dq), g), [scores, e.values(Batch::view(k))], Finish::default());
        product(e.values(Batch::target(&dk)), [scores.t(), e.queries(Batch::view(q), g)], sum(g));
    }
}
