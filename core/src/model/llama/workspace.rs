//! The activations of a Llama and their gradients, allocated once for the largest batch.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::{Llama, LlamaConfig, LlamaDecoder, SITES, Window};
use crate::adapter::Adapters;
use crate::backend::{Backend, BackendError};
use crate::model::linear::{fit_columns, fit_inner};

/// What the blocks take turns with: activations that the backward pass makes again from what is kept. They would be a third
/// of all, and more where sequences are long.
pub(super) struct Remade<B: Backend> {
    /// Normed input of the attention, then of the MLP, n×d.
    pub norm: B::Tensor,
    /// `silu(gate)∘up`, n×mlp.
    pub active: B::Tensor,
    /// Of the attention, batch·heads × tokens × keys.
    pub probabilities: B::Tensor,
    /// Attention output before its projection, n×q.
    pub mixed: B::Tensor,
}

impl<B: Backend> Remade<B> {
    /// For `n` rows, and attention probabilities of this shape.
    pub fn new(backend: &B, config: &LlamaConfig, n: usize, probabilities: [usize; 3]) -> Result<Self, BackendError> {
        let zeros = |cols| backend.zeros([1, n, cols]);
        let probabilities = backend.zeros(probabilities)?;
        let mixed = zeros(config.query_width())?;
        Ok(Self { norm: zeros(config.hidden)?, active: zeros(config.mlp)?, probabilities, mixed })
    }
}

/// Activations of one block that its backward pass needs, beside the residual stream; n = batch·tokens rows each.
pub(super) struct BlockActivations<B: Backend> {
    /// Inverse root of the attention's norm, n×1.
    pub stats1: B::Tensor,
    /// Turned queries, n×q.
    pub q: B::Tensor,
    /// Of the MLP's norm.
    pub stats2: B::Tensor,
    /// n×mlp.
    pub gate: B::Tensor,
    pub up: B::Tensor,
}

impl<B: Backend> BlockActivations<B> {
    /// For `n` rows.
    pub fn new(backend: &B, config: &LlamaConfig, n: usize) -> Result<Self, BackendError> {
        let zeros = |cols| backend.zeros([1, n, cols]);
        Ok(Self {
            stats1: zeros(1)?,
            q: zeros(config.query_width())?,
            stats2: zeros(1)?,
            gate: zeros(config.mlp)?,
            up: zeros(config.mlp)?,
        })
    }
}

/// Turned keys, and values, of one block, rows×kv.
pub(super) struct KeyValues<B: Backend> {
    pub k: B::Tensor,
    pub v: B::Tensor,
}

impl<B: Backend> KeyValues<B> {
    pub fn new(backend: &B, config: &LlamaConfig, rows: usize) -> Result<Self, BackendError> {
        let zeros = || backend.zeros([1, rows, config.kv_width()]);
        Ok(Self { k: zeros()?, v: zeros()? })
    }
}

/// Activations and gradients for batches of up to a fixed size. m rows of a batch have a label.
pub struct LlamaWorkspace<B: Backend> {
    pub(super) capacity: usize,
    pub(super) window: Window,
    /// Sequences of the loaded batch, and the tokens of its longest: shorter ones are padded to that.
    pub(super) batch: usize,
    pub(super) tokens: usize,
    /// The rows before answer tokens, in order: runs of them, m in all.
    pub(super) runs: Vec<Range<usize>>,
    pub(super) staged: Vec<u32>,
    pub(super) staged_labels: Vec<u32>,
    pub(super) ids: B::Labels,
    pub(super) labels: B::Labels,
    /// Residual stream before each block and after the last, n×d.
    pub(super) hidden: Vec<B::Tensor>,
    /// Residual stream between attention and MLP of each block, n×d.
    pub(super) middle: Vec<B::Tensor>,
    /// Of each block; of one for all with gradient checkpointing.
    pub(super) blocks: Vec<BlockActivations<B>>,
    pub(super) remade: Remade<B>,
    /// As `blocks`.
    pub(super) keys: Vec<KeyValues<B>>,
    /// The last residual stream's labelled rows, m×d, normed; m×vocabulary.
    pub(super) answers: B::Tensor,
    pub(super) norm: B::Tensor,
    pub(super) stats: B::Tensor,
    pub(super) logits: B::Tensor,
    pub(super) d_logits: B::Tensor,
    pub(super) d_norm: B::Tensor,
    pub(super) d_answers: B::Tensor,
    /// Gradient of the residual stream, n×d.
    pub(super) d_hidden: B::Tensor,
    /// Gradient of a block's inner activation, n×d; of the attention's output and of the queries, n×q; of the MLP, n×mlp.
    pub(super) d_inner: B::Tensor,
    pub(super) d_mixed: B::Tensor,
    pub(super) d_q: B::Tensor,
    pub(super) d_keys: KeyValues<B>,
    pub(super) d_active: B::Tensor,
    pub(super) d_gate: B::Tensor,
    pub(super) d_up: B::Tensor,
    pub(super) d_probabilities: B::Tensor,
    /// `x·V` of every site's adapter, n×r, and one gradient of it; both are also the scratch of merged corrections.
    pub(super) z: Vec<B::Tensor>,
    pub(super) dz: B::Tensor,
    /// For the likelihood of choices, from its first use on.
    pub(super) decoder: Option<LlamaDecoder<B>>,
}

impl<B: Backend> LlamaWorkspace<B> {
    pub(super) fn new(backend: &B, model: &Llama<B>, capacity: usize) -> Result<Self, BackendError> {
        let (config, window) = (&model.config, model.window);
        let Window { tokens, answer } = window;
        let kept = if model.checkpointing { config.layers.min(1) } else { config.layers };
        let (d, n, m) = (config.hidden, capacity * tokens, capacity * answer);
        let zeros = |rows, cols| backend.zeros([1, rows, cols]);
        let square = [capacity * config.heads, tokens, tokens];
        Ok(Self {
            capacity,
            window,
            batch: 0,
            tokens: 0,
            runs: Vec::with_capacity(m),
            staged: vec![0; n],
            staged_labels: Vec::with_capacity(m),
            ids: backend.labels(n)?,
            labels: backend.labels(m)?,
            hidden: (0..=config.layers).map(|_| zeros(n, d)).collect::<Result<_, _>>()?,
            middle: (0..config.layers).map(|_| zeros(n, d)).collect::<Result<_, _>>()?,
            blocks: (0..kept).map(|_| BlockActivations::new(backend, config, n)).collect::<Result<_, _>>()?,
            remade: Remade::new(backend, config, n, square)?,
            keys: (0..kept).map(|_| KeyValues::new(backend, config, n)).collect::<Result<_, _>>()?,
            answers: zeros(m, d)?,
            norm: zeros(m, d)?,
            stats: zeros(m, 1)?,
            logits: zeros(m, config.vocabulary)?,
            d_logits: zeros(m, config.vocabulary)?,
            d_norm: zeros(m, d)?,
            d_answers: zeros(m, d)?,
            d_hidden: zeros(n, d)?,
            d_inner: zeros(n, d)?,
            d_mixed: zeros(n, config.query_width())?,
            d_q: zeros(n, config.query_width())?,
            d_keys: KeyValues::new(backend, config, n)?,
            d_active: zeros(n, config.mlp)?,
            d_gate: zeros(n, config.mlp)?,
            d_up: zeros(n, config.mlp)?,
            d_probabilities: backend.zeros(square)?,
            z: (0..config.layers * SITES).map(|_| zeros(0, 0)).collect::<Result<_, _>>()?,
            dz: zeros(0, 0)?,
            decoder: None,
        })
    }

    /// Room for adapters, and for the corrections of tasks merged since.
    pub(super) fn fit(
        &mut self,
        backend: &B,
        model: &Llama<B>,
        adapters: Option<&Adapters<B>>,
    ) -> Result<(), BackendError> {
        let n = self.capacity * self.window.tokens;
        let widest = fit_inner(backend, &mut self.z, n, model.linears(), adapters)?;
        fit_columns(backend, &mut self.dz, n, widest)
    }

    /// Labelled rows of the batch.
    pub(super) fn labelled(&self) -> usize {
        self.staged_labels.len()
    }
}
