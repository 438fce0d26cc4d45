//! The forward and backward pass, top to bottom. n = batch·tokens rows; each buffer's shape stands in `workspace.rs`.

use super::{Head, Pooling, Vit, VitWorkspace};
use crate::adapter::Adapters;
use crate::backend::{AttentionShape, Backend, Epilogue, Scale, View};
use crate::model::linear::Inner;
use crate::model::views::{rows, rows_mut};
use crate::model::{Model, Wanted};

/// Linear layers of a block, in the order of its sites.
const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const OUTPUT: usize = 3;
const FC1: usize = 4;
const FC2: usize = 5;
const SITES: usize = 6;

impl<B: Backend> Vit<B> {
    fn attention_shape(&self, batch: usize) -> AttentionShape {
        AttentionShape::full(batch, self.config.tokens(), self.config.heads)
    }

    pub(super) fn run_forward(&self, b: &B, work: &mut VitWorkspace<B>, adapters: Option<&Adapters<B>>) {
        let epsilon = self.config.layer_norm_epsilon;
        let n = work.batch * self.config.tokens();
        let hidden = &mut work.hidden;
        let patch = View::all(&self.patch).t();
        b.matmul(rows_mut(&mut hidden[0], n), rows(&work.patches, n), patch, Epilogue::default());
        b.add_rows(rows_mut(&mut hidden[0], n), &self.offsets);
        for (l, (block, act)) in self.blocks.iter().zip(&mut work.blocks).enumerate() {
            let z = &mut work.z[l * SITES..(l + 1) * SITES];
            let (before, after) = hidden.split_at_mut(l + 1);
            let (before, after) = (&before[l], &mut after[0]);
            let norm = &block.norm1;
            b.layer_norm(
                rows_mut(&mut act.norm1, n),
                &mut act.stats1,
                rows(before, n),
                &norm.gamma,
                &norm.beta,
                epsilon,
            );
            let x = rows(&act.norm1, n);
            block.query.forward(b, rows_mut(&mut act.q, n), x, false, adapters, &mut z[QUERY]);
            block.key.forward(b, rows_mut(&mut act.k, n), x, false, adapters, &mut z[KEY]);
            block.value.forward(b, rows_mut(&mut act.v, n), x, false, adapters, &mut z[VALUE]);
            let (q, k, v) = (rows(&act.q, n), rows(&act.k, n), rows(&act.v, n));
            let shape = self.attention_shape(work.batch);
            b.attention(rows_mut(&mut act.mixed, n), &mut act.probabilities, q, k, v, None, shape);
            b.copy(rows_mut(&mut act.middle, n), rows(before, n));
            let x = rows(&act.mixed, n);
            block.output.forward(b, rows_mut(&mut act.middle, n), x, true, adapters, &mut z[OUTPUT]);

            let (norm, x) = (&block.norm2, rows(&act.middle, n));
            b.layer_norm(rows_mut(&mut act.norm2, n), &mut act.stats2, x, &norm.gamma, &norm.beta, epsilon);
            block.fc1.forward(b, rows_mut(&mut act.up, n), rows(&act.norm2, n), false, adapters, &mut z[FC1]);
            b.activation(self.config.gelu, rows_mut(&mut act.active, n), rows(&act.up, n));
            b.copy(rows_mut(after, n), rows(&act.middle, n));
            block.fc2.forward(b, rows_mut(after, n), rows(&act.active, n), true, adapters, &mut z[FC2]);
        }
        let last = rows(&hidden[self.config.layers], n);
        b.layer_norm(rows_mut(&mut work.norm, n), &mut work.stats, last, &self.norm.gamma, &self.norm.beta, epsilon);
        self.head_forward(b, work);
    }

    fn head_forward(&self, b: &B, work: &mut VitWorkspace<B>) {
        let (batch, tokens) = (work.batch, self.config.tokens());
        let states = rows(&work.norm, batch * tokens);
        match self.config.pooling {
            Pooling::Class => b.copy(rows_mut(&mut work.pooled, batch), states.every(tokens, batch)),
            Pooling::Mean => b.mean_pool(rows_mut(&mut work.pooled, batch), states, tokens, None),
        }
        let (pooled, classifier) = (rows(&work.pooled, batch), View::all(&self.classifier).t());
        let logits = rows_mut(&mut work.logits, batch);
        match self.config.head {
            Head::Linear => b.matmul(logits, pooled, classifier, Epilogue::bias(self.classifier_bias.as_ref())),
            Head::Prototype { scale } => {
                b.l2_normalize(rows_mut(&mut work.feature, batch), &mut work.lengths, pooled);
                let epilogue =
                    Epilogue { bias: self.classifier_bias.as_ref(), ..Epilogue::scaled(Scale::Value(scale)) };
                b.matmul(logits, rows(&work.feature, batch), classifier, epilogue);
            }
        }
    }

    pub(super) fn run_loss(&self, b: &B, work: &mut VitWorkspace<B>, loss: &mut B::Tensor, index: usize) {
        let batch = work.batch;
        b.cross_entropy(loss, index, rows_mut(&mut work.d_logits, batch), rows(&work.logits, batch), &work.labels);
    }

    /// From the logits' gradient to that of the residual stream after the last block (`d_hidden`).
    fn head_backward(&self, b: &B, work: &mut VitWorkspace<B>) {
        let (batch, tokens) = (work.batch, self.config.tokens());
        let n = batch * tokens;
        let (d_logits, classifier) = (rows(&work.d_logits, batch), View::all(&self.classifier));
        match self.config.head {
            Head::Linear => b.matmul(rows_mut(&mut work.d_pooled, batch), d_logits, classifier, Epilogue::default()),
            Head::Prototype { scale } => {
                let epilogue = Epilogue::scaled(Scale::Value(scale));
                b.matmul(rows_mut(&mut work.d_feature, batch), d_logits, classifier, epilogue);
                let (dy, y) = (rows(&work.d_feature, batch), rows(&work.feature, batch));
                b.l2_normalize_backward(rows_mut(&mut work.d_pooled, batch), dy, y, &work.lengths);
            }
        }
        let d_pooled = rows(&work.d_pooled, batch);
        match self.config.pooling {
            Pooling::Class => {
                b.fill(&mut work.d_inner, 0.0);
                b.copy(rows_mut(&mut work.d_inner, n).every(tokens, batch), d_pooled);
            }
            Pooling::Mean => b.mean_pool_backward(rows_mut(&mut work.d_inner, n), d_pooled, tokens, None),
        }
        b.fill(&mut work.d_hidden, 0.0);
        let (dy, x) = (rows(&work.d_inner, n), rows(&work.hidden[self.config.layers], n));
        b.layer_norm_backward(rows_mut(&mut work.d_hidden, n), dy, x, &work.stats, &self.norm.gamma);
    }

    pub(super) fn run_backward(&self, b: &B, work: &mut VitWorkspace<B>, wanted: &mut Wanted<'_, B>) {
        // Nothing below the first wanted site is computed.
        let Some(first) = (0..self.sites().len()).find(|&site| wanted.has(site)) else { return };
        let first = self.places[first];
        self.head_backward(b, work);
        for l in (first / SITES..self.config.layers).rev() {
            self.block_backward(b, work, wanted, l, first);
        }
    }

    /// Gradients of block `l` down to `first`, the first wanted site of the whole model.
    fn block_backward(&self, b: &B, work: &mut VitWorkspace<B>, wanted: &mut Wanted<'_, B>, l: usize, first: usize) {
        let n = work.batch * self.config.tokens();
        let below = first < l * SITES;
        let first = first.saturating_sub(l * SITES);
        let (block, act) = (&self.blocks[l], &mut work.blocks[l]);
        let z = &mut work.z[l * SITES..(l + 1) * SITES];
        let dz = &mut work.dz;

        // MLP: hidden = middle + fc2(gelu(fc1(norm2(middle))))
        let (dy, x) = (rows(&work.d_hidden, n), rows(&act.active, n));
        let dx = (first < FC2).then(|| (rows_mut(&mut work.d_mlp, n), false));
        block.fc2.backward(b, dx, dy, x, wanted, Inner { z: &mut z[FC2], dz });
        if first == FC2 {
            return;
        }
        b.activation_backward(self.config.gelu, rows_mut(&mut work.d_mlp, n), rows(&act.up, n));
        let (dy, x) = (rows(&work.d_mlp, n), rows(&act.norm2, n));
        let dx = (first < FC1).then(|| (rows_mut(&mut work.d_inner, n), false));
        block.fc1.backward(b, dx, dy, x, wanted, Inner { z: &mut z[FC1], dz });
        if first == FC1 {
            return;
        }
        let (dy, x) = (rows(&work.d_inner, n), rows(&act.middle, n));
        b.layer_norm_backward(rows_mut(&mut work.d_hidden, n), dy, x, &act.stats2, &block.norm2.gamma);

        // Attention: middle = hidden + output(attention(q, k, v of norm1(hidden)))
        let (dy, x) = (rows(&work.d_hidden, n), rows(&act.mixed, n));
        let dx = (first < OUTPUT).then(|| (rows_mut(&mut work.d_inner, n), false));
        block.output.backward(b, dx, dy, x, wanted, Inner { z: &mut z[OUTPUT], dz });
        if first == OUTPUT {
            return;
        }
        let shape = self.attention_shape(work.batch);
        let (q, k, v) = (rows(&act.q, n), rows(&act.k, n), rows(&act.v, n));
        let [dq, dk, dv] = &mut work.d_qkv;
        let grads = [rows_mut(dq, n), rows_mut(dk, n), rows_mut(dv, n)];
        let (d_o, scratch) = (rows(&work.d_inner, n), &mut work.d_probabilities);
        b.attention_backward(grads, d_o, &act.probabilities, scratch, q, k, v, shape);
        let x = rows(&act.norm1, n);
        for (i, (linear, dy)) in
            [(&block.query, &*dq), (&block.key, &*dk), (&block.value, &*dv)].into_iter().enumerate()
        {
            let dx = below.then(|| (rows_mut(&mut work.d_inner, n), i > 0));
            linear.backward(b, dx, rows(dy, n), x, wanted, Inner { z: &mut z[QUERY + i], dz });
        }
        if below {
            let (dy, x) = (rows(&work.d_inner, n), rows(&work.hidden[l], n));
            b.layer_norm_backward(rows_mut(&mut work.d_hidden, n), dy, x, &act.stats1, &block.norm1.gamma);
        }
    }
}
