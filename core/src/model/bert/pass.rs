//! The encoder's forward and backward pass, top to bottom. n = batch·tokens rows; each buffer's shape stands in
//! `workspace.rs`.
//!
//! Rows that only fill up a text take part in the products, but are no keys of the attention and don't count in the
//! mean: their gradients are exactly 0, and so they add nothing to those of the weights.

use super::Encoder;
use super::encoder::LINEARS;
use super::workspace::{Activations, Gradients, LayerParts};
use crate::adapter::Adapters;
use crate::backend::{AttentionShape, Backend};
use crate::model::Wanted;
use crate::model::linear::Inner;
use crate::model::views::{rows, rows_mut};

/// Linear layers of a layer, in the order of its places.
const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const OUTPUT: usize = 3;
const FC1: usize = 4;
const FC2: usize = 5;

impl<B: Backend> Encoder<B> {
    fn attention_shape(&self, act: &Activations<B>) -> AttentionShape {
        AttentionShape::full(act.batch, act.tokens, self.config.heads)
    }

    /// The states of all tokens, and their means.
    pub(super) fn forward(&self, b: &B, act: &mut Activations<B>, adapters: Option<&Adapters<B>>) {
        let n = act.rows();
        b.gather(rows_mut(&mut act.embedded, n), &self.words, &act.ids, false);
        b.gather(rows_mut(&mut act.embedded, n), &self.positions, &act.places, true);
        b.add_rows(rows_mut(&mut act.embedded, n), &self.token_type);
        let (epsilon, norm) = (self.config.layer_norm_epsilon, &self.norm);
        let (hidden, embedded, stats) = act.first_hidden();
        b.layer_norm(rows_mut(hidden, n), stats, rows(embedded, n), &norm.gamma, &norm.beta, epsilon);
        for l in 0..self.config.layers {
            self.layer_forward(b, act, adapters, l);
        }
        let (batch, tokens) = (act.batch, act.tokens);
        let (pooled, last, lengths) = act.last_hidden(self.config.layers);
        b.mean_pool(rows_mut(pooled, batch), rows(last, n), tokens, Some(lengths));
    }

    fn layer_forward(&self, b: &B, act: &mut Activations<B>, adapters: Option<&Adapters<B>>, l: usize) {
        let (n, shape, epsilon) = (act.rows(), self.attention_shape(act), self.config.layer_norm_epsilon);
        let layer = &self.layers[l];
        let LayerParts { input, output, act, z, lengths } = act.layer(l);
        let x = rows(input, n);
        layer.query.forward(b, rows_mut(&mut act.q, n), x, false, adapters, &mut z[QUERY]);
        layer.key.forward(b, rows_mut(&mut act.k, n), x, false, adapters, &mut z[KEY]);
        layer.value.forward(b, rows_mut(&mut act.v, n), x, false, adapters, &mut z[VALUE]);
        let (q, k, v) = (rows(&act.q, n), rows(&act.k, n), rows(&act.v, n));
        b.attention(rows_mut(&mut act.mixed, n), &mut act.probabilities, q, k, v, Some(lengths), shape);

        // middle = norm1(input + output(attention))
        b.copy(rows_mut(&mut act.sum1, n), x);
        let mixed = rows(&act.mixed, n);
        layer.output.forward(b, rows_mut(&mut act.sum1, n), mixed, true, adapters, &mut z[OUTPUT]);
        let (norm, x) = (&layer.norm1, rows(&act.sum1, n));
        b.layer_norm(rows_mut(&mut act.middle, n), &mut act.stats1, x, &norm.gamma, &norm.beta, epsilon);

        // output = norm2(middle + fc2(activation(fc1(middle))))
        let x = rows(&act.middle, n);
        layer.fc1.forward(b, rows_mut(&mut act.up, n), x, false, adapters, &mut z[FC1]);
        b.activation(self.config.activation, rows_mut(&mut act.active, n), rows(&act.up, n));
        b.copy(rows_mut(&mut act.sum2, n), x);
        let active = rows(&act.active, n);
        layer.fc2.forward(b, rows_mut(&mut act.sum2, n), active, true, adapters, &mut z[FC2]);
        let (norm, x) = (&layer.norm2, rows(&act.sum2, n));
        b.layer_norm(rows_mut(output, n), &mut act.stats2, x, &norm.gamma, &norm.beta, epsilon);
    }

    /// Gradients of what is wanted, from that of the means (`d_pooled`).
    pub(super) fn backward(
        &self,
        b: &B,
        act: &mut Activations<B>,
        grad: &mut Gradients<B>,
        wanted: &mut Wanted<'_, B>,
    ) {
        // Nothing below the first wanted site is computed.
        let Some(first) = (0..self.sites.len()).find(|&site| wanted.has(site)) else { return };
        let first = self.places[first];
        let (batch, n) = (act.batch, act.rows());
        let d_pooled = rows(&grad.d_pooled, batch);
        b.mean_pool_backward(rows_mut(&mut grad.d_hidden, n), d_pooled, act.tokens, Some(&act.lengths));
        for l in (first / LINEARS..self.config.layers).rev() {
            self.layer_backward(b, act, grad, wanted, l, first);
        }
    }

    /// Gradients of layer `l` down to `first`, the first wanted place of the whole encoder.
    fn layer_backward(
        &self,
        b: &B,
        act: &mut Activations<B>,
        grad: &mut Gradients<B>,
        wanted: &mut Wanted<'_, B>,
        l: usize,
        first: usize,
    ) {
        let (n, shape) = (act.rows(), self.attention_shape(act));
        let below = first < l * LINEARS;
        let first = first.saturating_sub(l * LINEARS);
        let layer = &self.layers[l];
        let (input, act, z) = act.layer_again(l);
        let dz = &mut grad.dz;

        // output = norm2(middle + fc2(activation(fc1(middle)))): d_middle is first that of the sum, then of `middle`.
        b.fill(&mut grad.d_middle, 0.0);
        let (dy, x) = (rows(&grad.d_hidden, n), rows(&act.sum2, n));
        b.layer_norm_backward(rows_mut(&mut grad.d_middle, n), dy, x, &act.stats2, &layer.norm2.gamma);
        let (dy, x) = (rows(&grad.d_middle, n), rows(&act.active, n));
        let dx = (first < FC2).then(|| (rows_mut(&mut grad.d_mlp, n), false));
        layer.fc2.backward(b, dx, dy, x, wanted, Inner { z: &mut z[FC2], dz });
        if first == FC2 {
            return;
        }
        b.activation_backward(self.config.activation, rows_mut(&mut grad.d_mlp, n), rows(&act.up, n));
        let (dy, x) = (rows(&grad.d_mlp, n), rows(&act.middle, n));
        let dx = (first < FC1).then(|| (rows_mut(&mut grad.d_middle, n), true));
        layer.fc1.backward(b, dx, dy, x, wanted, Inner { z: &mut z[FC1], dz });
        if first == FC1 {
            return;
        }

        // middle = norm1(input + output(attention(q, k, v of input))): d_hidden is that of the sum, then of `input`.
        b.fill(&mut grad.d_hidden, 0.0);
        let (dy, x) = (rows(&grad.d_middle, n), rows(&act.sum1, n));
        b.layer_norm_backward(rows_mut(&mut grad.d_hidden, n), dy, x, &act.stats1, &layer.norm1.gamma);
        let (dy, x) = (rows(&grad.d_hidden, n), rows(&act.mixed, n));
        let dx = (first < OUTPUT).then(|| (rows_mut(&mut grad.d_mixed, n), false));
        layer.output.backward(b, dx, dy, x, wanted, Inner { z: &mut z[OUTPUT], dz });
        if first == OUTPUT {
            return;
        }
        let (q, k, v) = (rows(&act.q, n), rows(&act.k, n), rows(&act.v, n));
        let [dq, dk, dv] = &mut grad.d_qkv;
        let grads = [rows_mut(dq, n), rows_mut(dk, n), rows_mut(dv, n)];
        let (d_o, scratch) = (rows(&grad.d_mixed, n), &mut grad.d_probabilities);
        b.attention_backward(grads, d_o, &act.probabilities, scratch, q, k, v, shape);
        let x = rows(input, n);
        for (i, (linear, dy)) in
            [(&layer.query, &*dq), (&layer.key, &*dk), (&layer.value, &*dv)].into_iter().enumerate()
        {
            let dx = below.then(|| (rows_mut(&mut grad.d_hidden, n), true));
            linear.backward(b, dx, rows(dy, n), x, wanted, Inner { z: &mut z[QUERY + i], dz });
        }
    }
}
