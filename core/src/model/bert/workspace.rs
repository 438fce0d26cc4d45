//! The activations of a BERT encoder and their gradients, allocated once for the largest batch of the longest texts.

use alloc::vec;
use alloc::vec::Vec;

use super::encoder::LINEARS;
use super::head::HeadBuffers;
use super::{Bert, Encoder};
use crate::adapter::Adapters;
use crate::backend::{Backend, BackendError};
use crate::model::linear::{fit_columns, fit_inner};

/// Activations of one layer that its backward pass needs; n = batch·tokens rows each.
pub(super) struct LayerActivations<B: Backend> {
    pub q: B::Tensor,
    pub k: B::Tensor,
    pub v: B::Tensor,
    /// batch·heads × tokens × tokens.
    pub probabilities: B::Tensor,
    /// Attention output before its projection, n×d.
    pub mixed: B::Tensor,
    /// Input plus projected attention, n×d; its norm, and the norm's mean and 1/σ.
    pub sum1: B::Tensor,
    pub middle: B::Tensor,
    pub stats1: B::Tensor,
    /// n×mlp, before and after the activation.
    pub up: B::Tensor,
    pub active: B::Tensor,
    /// `middle` plus the MLP, n×d; its norm is the next layer's input.
    pub sum2: B::Tensor,
    pub stats2: B::Tensor,
}

/// What the forward pass leaves, for batches of up to a fixed size.
pub(super) struct Activations<B: Backend> {
    pub capacity: usize,
    /// Texts of the loaded batch, and the length to which they are filled up.
    pub batch: usize,
    pub tokens: usize,
    pub staged_ids: Vec<u32>,
    pub staged_lengths: Vec<u32>,
    pub ids: B::Labels,
    /// The position of every row in its text.
    pub places: B::Labels,
    pub lengths: B::Labels,
    /// Sum of the embeddings, n×d; the norm's mean and 1/σ.
    pub embedded: B::Tensor,
    pub stats: B::Tensor,
    /// No layer below has a backward pass: they take turns with one set of activations.
    keep_from: usize,
    hidden: Vec<B::Tensor>,
    layers: Vec<LayerActivations<B>>,
    /// Mean state of each text, batch×d.
    pub pooled: B::Tensor,
    /// `x·V` of every linear's adapter, n×r.
    pub z: Vec<B::Tensor>,
}

/// Where the parts of one layer's forward pass lie.
pub(super) struct LayerParts<'a, B: Backend> {
    pub input: &'a B::Tensor,
    pub output: &'a mut B::Tensor,
    pub act: &'a mut LayerActivations<B>,
    pub z: &'a mut [B::Tensor],
    pub lengths: &'a B::Labels,
}

impl<B: Backend> Activations<B> {
    pub(super) fn new(
        backend: &B,
        encoder: &Encoder<B>,
        capacity: usize,
        keep_from: usize,
    ) -> Result<Self, BackendError> {
        let (config, tokens) = (&encoder.config, encoder.options.max_tokens);
        let (d, mlp, n) = (config.hidden, config.mlp, capacity * tokens);
        let zeros = |rows, cols| backend.zeros([1, rows, cols]);
        let layer = |_| {
            Ok(LayerActivations {
                q: zeros(n, d)?,
                k: zeros(n, d)?,
                v: zeros(n, d)?,
                probabilities: backend.zeros([capacity * config.heads, tokens, tokens])?,
                mixed: zeros(n, d)?,
                sum1: zeros(n, d)?,
                middle: zeros(n, d)?,
                stats1: zeros(n, 2)?,
                up: zeros(n, mlp)?,
                active: zeros(n, mlp)?,
                sum2: zeros(n, d)?,
                stats2: zeros(n, 2)?,
            })
        };
        let (kept, shared) = (config.layers - keep_from, usize::from(keep_from > 0));
        // Two for the layers below to take turns with, where there are any, and then one before and after each layer.
        let hidden = |i: usize| if i < 2 && keep_from == 0 { zeros(0, d) } else { zeros(n, d) };
        Ok(Self {
            capacity,
            batch: 0,
            tokens: 0,
            staged_ids: vec![0; n],
            staged_lengths: vec![0; capacity],
            ids: backend.labels(n)?,
            places: backend.labels(n)?,
            lengths: backend.labels(capacity)?,
            embedded: zeros(n, d)?,
            stats: zeros(n, 2)?,
            keep_from,
            hidden: (0..2 + kept + 1).map(hidden).collect::<Result<_, _>>()?,
            layers: (0..shared + kept).map(layer).collect::<Result<_, BackendError>>()?,
            pooled: zeros(capacity, d)?,
            z: (0..config.layers * LINEARS).map(|_| zeros(0, 0)).collect::<Result<_, _>>()?,
        })
    }

    /// Room for adapters, and for the corrections of tasks merged since; tells how many columns the widest has.
    pub(super) fn fit(
        &mut self,
        backend: &B,
        encoder: &Encoder<B>,
        adapters: Option<&Adapters<B>>,
    ) -> Result<usize, BackendError> {
        let n = self.capacity * encoder.options.max_tokens;
        fit_inner(backend, &mut self.z, n, encoder.linears(), adapters)
    }

    /// Rows of the loaded batch.
    pub(super) fn rows(&self) -> usize {
        self.batch * self.tokens
    }

    fn hidden_index(&self, l: usize) -> usize {
        if l < self.keep_from { l % 2 } else { 2 + l - self.keep_from }
    }

    fn layer_index(&self, l: usize) -> usize {
        if l < self.keep_from { 0 } else { l - self.keep_from + usize::from(self.keep_from > 0) }
    }

    /// The states before the first layer, what they are the norm of, and its mean and 1/σ.
    pub(super) fn first_hidden(&mut self) -> (&mut B::Tensor, &B::Tensor, &mut B::Tensor) {
        let first = self.hidden_index(0);
        (&mut self.hidden[first], &self.embedded, &mut self.stats)
    }

    /// The means, the states after the last of `layers` layers that they are of, and the lengths.
    pub(super) fn last_hidden(&mut self, layers: usize) -> (&mut B::Tensor, &B::Tensor, &B::Labels) {
        let last = self.hidden_index(layers);
        (&mut self.pooled, &self.hidden[last], &self.lengths)
    }

    /// Layer `l`'s part in the forward pass.
    pub(super) fn layer(&mut self, l: usize) -> LayerParts<'_, B> {
        let (from, to, at) = (self.hidden_index(l), self.hidden_index(l + 1), self.layer_index(l));
        // Neighbours have different indices.
        let (low, high) = self.hidden.split_at_mut(from.max(to));
        let (input, output) = if from < to { (&low[from], &mut high[0]) } else { (&high[0], &mut low[to]) };
        let z = &mut self.z[l * LINEARS..(l + 1) * LINEARS];
        LayerParts { input, output, act: &mut self.layers[at], z, lengths: &self.lengths }
    }

    /// The same for its backward pass: the input, the activations and the adapters' inner ones.
    pub(super) fn layer_again(&mut self, l: usize) -> (&B::Tensor, &LayerActivations<B>, &mut [B::Tensor]) {
        let (from, at) = (self.hidden_index(l), self.layer_index(l));
        (&self.hidden[from], &self.layers[at], &mut self.z[l * LINEARS..(l + 1) * LINEARS])
    }
}

/// Gradients of the backward pass, shared by all layers.
pub(super) struct Gradients<B: Backend> {
    /// Of a layer's output, then of what was normed after its attention, n×d.
    pub d_hidden: B::Tensor,
    /// Of what was normed after its MLP, then of the states between attention and MLP, n×d.
    pub d_middle: B::Tensor,
    /// Of the attention's output before its projection, n×d.
    pub d_mixed: B::Tensor,
    /// n×mlp.
    pub d_mlp: B::Tensor,
    pub d_qkv: [B::Tensor; 3],
    pub d_probabilities: B::Tensor,
    pub d_pooled: B::Tensor,
    /// One gradient of `x·V`, n×r.
    pub dz: B::Tensor,
}

impl<B: Backend> Gradients<B> {
    fn new(backend: &B, encoder: &Encoder<B>, capacity: usize) -> Result<Self, BackendError> {
        let (config, tokens) = (&encoder.config, encoder.options.max_tokens);
        let (d, n) = (config.hidden, capacity * tokens);
        let zeros = |rows, cols| backend.zeros([1, rows, cols]);
        Ok(Self {
            d_hidden: zeros(n, d)?,
            d_middle: zeros(n, d)?,
            d_mixed: zeros(n, d)?,
            d_mlp: zeros(n, config.mlp)?,
            d_qkv: [zeros(n, d)?, zeros(n, d)?, zeros(n, d)?],
            d_probabilities: backend.zeros([capacity * config.heads, tokens, tokens])?,
            d_pooled: zeros(capacity, d)?,
            dz: zeros(0, 0)?,
        })
    }
}

/// Activations and gradients of a BERT with a head, for batches of up to a fixed size.
pub struct BertWorkspace<B: Backend> {
    pub(super) act: Activations<B>,
    pub(super) grad: Gradients<B>,
    pub(super) head: HeadBuffers<B>,
    pub(super) staged_labels: Vec<u32>,
    pub(super) labels: B::Labels,
}

impl<B: Backend> BertWorkspace<B> {
    pub(super) fn new(backend: &B, model: &Bert<B>, capacity: usize) -> Result<Self, BackendError> {
        let encoder = &model.encoder;
        let lowest = encoder.places.first().map_or(encoder.config.layers, |place| place / LINEARS);
        Ok(Self {
            act: Activations::new(backend, encoder, capacity, lowest)?,
            grad: Gradients::new(backend, encoder, capacity)?,
            head: HeadBuffers::new(backend, capacity, encoder.config.hidden, model.head.classes)?,
            staged_labels: vec![0; capacity],
            labels: backend.labels(capacity)?,
        })
    }

    /// Room for adapters, and for the corrections of tasks merged since.
    pub(super) fn fit(
        &mut self,
        backend: &B,
        encoder: &Encoder<B>,
        adapters: Option<&Adapters<B>>,
    ) -> Result<(), BackendError> {
        let widest = self.act.fit(backend, encoder, adapters)?;
        fit_columns(backend, &mut self.grad.dz, self.act.capacity * encoder.options.max_tokens, widest)
    }
}
