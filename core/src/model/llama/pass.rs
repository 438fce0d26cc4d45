//! The forward and backward pass, top to bottom. n = batch·tokens rows; each buffer's shape stands in `workspace.rs`.

use super::workspace::{BlockActivations, KeyValues, Remade};
use super::{DOWN, GATE, KEY, Llama, LlamaWorkspace, OUTPUT, QUERY, SITES, UP, VALUE};
use crate::adapter::Adapters;
use crate::backend::{AttentionShape, Backend, Epilogue, RopeShape, Shaped, View, ViewMut};
use crate::model::linear::Inner;
use crate::model::views::{rows, rows_mut};
use crate::model::{Model, Wanted};

/// The tokens that go through the blocks at once: `tokens` of each sequence, after `past` whose keys are cached.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub batch: usize,
    pub tokens: usize,
    pub past: usize,
}

impl Step {
    pub fn rows(self) -> usize {
        self.batch * self.tokens
    }
}

/// A block's buffers.
pub(super) struct BlockBuffers<'a, B: Backend> {
    /// Residual stream before it, and between attention and MLP, n×d.
    pub before: &'a B::Tensor,
    pub middle: &'a mut B::Tensor,
    pub act: &'a mut BlockActivations<B>,
    pub remade: &'a mut Remade<B>,
    /// Rows past … past + n are written; all up to there are attended to.
    pub keys: &'a mut KeyValues<B>,
    /// One of each of its sites.
    pub z: &'a mut [B::Tensor],
}

impl<B: Backend> Llama<B> {
    fn attention_shape(&self, step: Step) -> AttentionShape {
        let Step { batch, tokens, past } = step;
        let (heads, kv_heads) = (self.config.heads, self.config.kv_heads);
        AttentionShape { batch, tokens, keys: past + tokens, heads, kv_heads, causal: true }
    }

    fn rope_shape(&self, heads: usize, step: Step, inverse: bool) -> RopeShape {
        RopeShape { heads, tokens: step.tokens, start: step.past, inverse }
    }

    /// Block `l` over the rows of a step, up to the residual stream `after` it. With a past there is one sequence.
    pub(super) fn block_forward(
        &self,
        b: &B,
        l: usize,
        after: &mut B::Tensor,
        mut buffers: BlockBuffers<'_, B>,
        step: Step,
        adapters: Option<&Adapters<B>>,
    ) {
        let (linears, n) = (&self.blocks[l].linears, step.rows());

        // Attention: middle = before + output(attention(q, k, v of norm1(before)))
        self.attention_inputs(b, l, &mut buffers, step, adapters);
        self.attend(b, &mut buffers, step);
        let BlockBuffers { before, middle, remade, z, .. } = &mut buffers;
        b.copy(rows_mut(*middle, n), rows(*before, n));
        let x = rows(&remade.mixed, n);
        linears[OUTPUT].forward(b, rows_mut(*middle, n), x, true, adapters, &mut z[OUTPUT]);

        // MLP: after = middle + down(silu(gate(norm2(middle)))∘up(norm2(middle)))
        self.mlp_inputs(b, l, &mut buffers, step, adapters);
        let BlockBuffers { middle, act, remade, z, .. } = &mut buffers;
        b.swiglu(rows_mut(&mut remade.active, n), rows(&act.gate, n), rows(&act.up, n));
        b.copy(rows_mut(after, n), rows(*middle, n));
        let x = rows(&remade.active, n);
        linears[DOWN].forward(b, rows_mut(after, n), x, true, adapters, &mut z[DOWN]);
    }

    /// The attention's input: the normed residual stream before block `l`.
    fn attention_norm(&self, b: &B, l: usize, buffers: &mut BlockBuffers<'_, B>, n: usize) {
        let BlockBuffers { before, act, remade, .. } = buffers;
        let (weight, epsilon) = (&self.blocks[l].norm1, self.config.rms_norm_epsilon);
        b.rms_norm(rows_mut(&mut remade.norm, n), &mut act.stats1, rows(*before, n), weight, epsilon);
    }

    /// The MLP's input: the normed residual stream in the middle of block `l`.
    fn mlp_norm(&self, b: &B, l: usize, buffers: &mut BlockBuffers<'_, B>, n: usize) {
        let BlockBuffers { middle, act, remade, .. } = buffers;
        let (weight, epsilon) = (&self.blocks[l].norm2, self.config.rms_norm_epsilon);
        b.rms_norm(rows_mut(&mut remade.norm, n), &mut act.stats2, rows(*middle, n), weight, epsilon);
    }

    /// Turned queries and keys, and values, of the normed residual stream before block `l`.
    fn attention_inputs(
        &self,
        b: &B,
        l: usize,
        buffers: &mut BlockBuffers<'_, B>,
        step: Step,
        adapters: Option<&Adapters<B>>,
    ) {
        let (linears, n) = (&self.blocks[l].linears, step.rows());
        self.attention_norm(b, l, buffers, n);
        let BlockBuffers { act, remade, keys, z, .. } = buffers;
        let x = rows(&remade.norm, n);
        linears[QUERY].forward(b, rows_mut(&mut act.q, n), x, false, adapters, &mut z[QUERY]);
        fn fresh<X: Shaped>(tensor: &mut X, step: Step) -> ViewMut<'_, X> {
            ViewMut::all(tensor).rows(step.past, step.rows())
        }
        linears[KEY].forward(b, fresh(&mut keys.k, step), x, false, adapters, &mut z[KEY]);
        linears[VALUE].forward(b, fresh(&mut keys.v, step), x, false, adapters, &mut z[VALUE]);
        b.rope(rows_mut(&mut act.q, n), &self.rope, self.rope_shape(self.config.heads, step, false));
        b.rope(fresh(&mut keys.k, step), &self.rope, self.rope_shape(self.config.kv_heads, step, false));
    }

    /// The attention's output before its projection, and its probabilities.
    fn attend(&self, b: &B, buffers: &mut BlockBuffers<'_, B>, step: Step) {
        let BlockBuffers { act, remade, keys, .. } = buffers;
        let (shape, n) = (self.attention_shape(step), step.rows());
        let seen = step.batch * shape.keys;
        let (q, k, v) = (rows(&act.q, n), rows(&keys.k, seen), rows(&keys.v, seen));
        b.attention(rows_mut(&mut remade.mixed, n), &mut remade.probabilities, q, k, v, None, shape);
    }

    /// Gate and up of the normed residual stream in the middle of block `l`.
    fn mlp_inputs(
        &self,
        b: &B,
        l: usize,
        buffers: &mut BlockBuffers<'_, B>,
        step: Step,
        adapters: Option<&Adapters<B>>,
    ) {
        let (linears, n) = (&self.blocks[l].linears, step.rows());
        self.mlp_norm(b, l, buffers, n);
        let BlockBuffers { act, remade, z, .. } = buffers;
        let x = rows(&remade.norm, n);
        linears[GATE].forward(b, rows_mut(&mut act.gate, n), x, false, adapters, &mut z[GATE]);
        linears[UP].forward(b, rows_mut(&mut act.up, n), x, false, adapters, &mut z[UP]);
    }

    pub(super) fn run_forward(&self, b: &B, work: &mut LlamaWorkspace<B>, adapters: Option<&Adapters<B>>) {
        // Padding stands behind a sequence: causal attention keeps it out without a mask.
        let n = work.batch * work.tokens;
        b.gather(rows_mut(&mut work.hidden[0], n), &self.embedding, &work.ids, false);
        let step = Step { batch: work.batch, tokens: work.tokens, past: 0 };
        for l in 0..self.config.layers {
            let (kept, (before, after)) = (l % work.blocks.len(), work.hidden.split_at_mut(l + 1));
            let buffers = BlockBuffers {
                before: &before[l],
                middle: &mut work.middle[l],
                act: &mut work.blocks[kept],
                remade: &mut work.remade,
                keys: &mut work.keys[kept],
                z: &mut work.z[l * SITES..(l + 1) * SITES],
            };
            self.block_forward(b, l, &mut after[0], buffers, step, adapters);
        }
        self.head_forward(b, work);
    }

    /// The labelled rows alone are normed and get logits.
    fn head_forward(&self, b: &B, work: &mut LlamaWorkspace<B>) {
        let (m, mut at) = (work.labelled(), 0);
        let last = View::all(&work.hidden[self.config.layers]);
        for run in &work.runs {
            b.copy(ViewMut::all(&mut work.answers).rows(at, run.len()), last.rows(run.start, run.len()));
            at += run.len();
        }
        let (norm, x) = (rows_mut(&mut work.norm, m), rows(&work.answers, m));
        b.rms_norm(norm, &mut work.stats, x, &self.norm, self.config.rms_norm_epsilon);
        let head = View::all(self.head()).t();
        b.matmul_weights(rows_mut(&mut work.logits, m), rows(&work.norm, m), head, Epilogue::default());
    }

    pub(super) fn run_loss(&self, b: &B, work: &mut LlamaWorkspace<B>, loss: &mut B::Tensor, index: usize) {
        let m = work.labelled();
        b.cross_entropy(loss, index, rows_mut(&mut work.d_logits, m), rows(&work.logits, m), &work.labels);
    }

    /// From the logits' gradient to that of the residual stream after the last block (`d_hidden`).
    fn head_backward(&self, b: &B, work: &mut LlamaWorkspace<B>) {
        let (m, mut at) = (work.labelled(), 0);
        let head = View::all(self.head());
        b.matmul_weights(rows_mut(&mut work.d_norm, m), rows(&work.d_logits, m), head, Epilogue::default());
        b.fill(&mut work.d_answers, 0.0);
        let (dy, x) = (rows(&work.d_norm, m), rows(&work.answers, m));
        b.rms_norm_backward(rows_mut(&mut work.d_answers, m), dy, x, &work.stats, &self.norm);
        b.fill(&mut work.d_hidden, 0.0);
        for run in &work.runs {
            let from = View::all(&work.d_answers).rows(at, run.len());
            b.copy(ViewMut::all(&mut work.d_hidden).rows(run.start, run.len()), from);
            at += run.len();
        }
    }

    pub(super) fn run_backward(&self, b: &B, work: &mut LlamaWorkspace<B>, wanted: &mut Wanted<'_, B>) {
        // Nothing below the first wanted site is computed.
        let Some(first) = (0..self.sites().len()).find(|&site| wanted.has(site)) else { return };
        let first = self.places[first];
        self.head_backward(b, work);
        for l in (first / SITES..self.config.layers).rev() {
            self.block_backward(b, work, wanted, l, first);
        }
    }

    /// Gradients of block `l` down to `first`, the first wanted site of the whole model.
    fn block_backward(&self, b: &B, work: &mut LlamaWorkspace<B>, wanted: &mut Wanted<'_, B>, l: usize, first: usize) {
        let step = Step { batch: work.batch, tokens: work.tokens, past: 0 };
        let n = step.rows();
        let below = first < l * SITES;
        let first = first.saturating_sub(l * SITES);
        let kept = l % work.blocks.len();
        // With checkpointing the activations are a later block's by now.
        let again = l + work.blocks.len() < self.config.layers;
        let block = &self.blocks[l];
        let linears = &block.linears;
        let mut buffers = BlockBuffers {
            before: &work.hidden[l],
            middle: &mut work.middle[l],
            act: &mut work.blocks[kept],
            remade: &mut work.remade,
            keys: &mut work.keys[kept],
            z: &mut work.z[l * SITES..(l + 1) * SITES],
        };
        let dz = &mut work.dz;

        // MLP: hidden = middle + down(swiglu(gate, up of norm2(middle)))
        match again {
            true => self.mlp_inputs(b, l, &mut buffers, step, wanted.adapters()),
            false => self.mlp_norm(b, l, &mut buffers, n),
        }
        let BlockBuffers { middle, act, remade, z, .. } = &mut buffers;
        b.swiglu(rows_mut(&mut remade.active, n), rows(&act.gate, n), rows(&act.up, n));
        let (dy, x) = (rows(&work.d_hidden, n), rows(&remade.active, n));
        let dx = (first < DOWN).then(|| (rows_mut(&mut work.d_active, n), false));
        linears[DOWN].backward(b, dx, dy, x, wanted, Inner { z: &mut z[DOWN], dz });
        if first == DOWN {
            return;
        }
        let grads = [rows_mut(&mut work.d_gate, n), rows_mut(&mut work.d_up, n)];
        b.swiglu_backward(grads, rows(&work.d_active, n), rows(&act.gate, n), rows(&act.up, n));
        let x = rows(&remade.norm, n);
        for (i, dy) in [(GATE, &work.d_gate), (UP, &work.d_up)] {
            let dx = (first < GATE).then(|| (rows_mut(&mut work.d_inner, n), i > GATE));
            linears[i].backward(b, dx, rows(dy, n), x, wanted, Inner { z: &mut z[i], dz });
        }
        if first >= GATE {
            return;
        }
        let (dy, x) = (rows(&work.d_inner, n), rows(*middle, n));
        b.rms_norm_backward(rows_mut(&mut work.d_hidden, n), dy, x, &act.stats2, &block.norm2);

        // Attention: middle = hidden + output(attention(q, k, v of norm1(hidden)))
        match again {
            true => self.attention_inputs(b, l, &mut buffers, step, wanted.adapters()),
            false => self.attention_norm(b, l, &mut buffers, n),
        }
        self.attend(b, &mut buffers, step);
        let BlockBuffers { before, act, remade, keys, z, .. } = &mut buffers;
        let (dy, x) = (rows(&work.d_hidden, n), rows(&remade.mixed, n));
        let dx = (first < OUTPUT).then(|| (rows_mut(&mut work.d_mixed, n), false));
        linears[OUTPUT].backward(b, dx, dy, x, wanted, Inner { z: &mut z[OUTPUT], dz });
        if first == OUTPUT {
            return;
        }
        let (shape, q, k, v) = (self.attention_shape(step), rows(&act.q, n), rows(&keys.k, n), rows(&keys.v, n));
        let KeyValues { k: dk, v: dv } = &mut work.d_keys;
        let grads = [rows_mut(&mut work.d_q, n), rows_mut(dk, n), rows_mut(dv, n)];
        let (d_o, scratch) = (rows(&work.d_mixed, n), &mut work.d_probabilities);
        b.attention_backward(grads, d_o, &remade.probabilities, scratch, q, k, v, shape);
        b.rope(rows_mut(&mut work.d_q, n), &self.rope, self.rope_shape(self.config.heads, step, true));
        b.rope(rows_mut(dk, n), &self.rope, self.rope_shape(self.config.kv_heads, step, true));
        let x = rows(&remade.norm, n);
        for (i, dy) in [(QUERY, &work.d_q), (KEY, &*dk), (VALUE, &*dv)] {
            let dx = below.then(|| (rows_mut(&mut work.d_inner, n), i > QUERY));
            linears[i].backward(b, dx, rows(dy, n), x, wanted, Inner { z: &mut z[i], dz });
        }
        if below {
            let (dy, x) = (rows(&work.d_inner, n), rows(*before, n));
            b.rms_norm_backward(rows_mut(&mut work.d_hidden, n), dy, x, &act.stats1, &block.norm1);
        }
    }
}
