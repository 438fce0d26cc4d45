//! The activations of a ViT and their gradients, allocated once for the largest batch.

use alloc::vec;
use alloc::vec::Vec;

use super::{Block, Vit, VitConfig};
use crate::adapter::Adapters;
use crate::backend::{Backend, BackendError};
use crate::model::linear::{fit_columns, fit_inner};

/// Activations of one block that its backward pass needs; n = batch·tokens rows each.
pub(super) struct BlockActivations<B: Backend> {
    /// Normed input of the attention, n×d, and the norm's mean and 1/σ.
    pub norm1: B::Tensor,
    pub stats1: B::Tensor,
    pub q: B::Tensor,
    pub k: B::Tensor,
    pub v: B::Tensor,
    /// batch·heads × tokens × tokens.
    pub probabilities: B::Tensor,
    /// Attention output before its projection, n×d.
    pub mixed: B::Tensor,
    /// Residual stream between attention and MLP, n×d.
    pub middle: B::Tensor,
    pub norm2: B::Tensor,
    pub stats2: B::Tensor,
    /// n×mlp, before and after GELU.
    pub up: B::Tensor,
    pub active: B::Tensor,
}

/// Activations and gradients for batches of up to a fixed size.
pub struct VitWorkspace<B: Backend> {
    pub(super) capacity: usize,
    /// Samples of the loaded batch.
    pub(super) batch: usize,
    pub(super) staging: Vec<B::Scalar>,
    pub(super) staged_labels: Vec<u32>,
    pub(super) labels: B::Labels,
    pub(super) patches: B::Tensor,
    /// Residual stream before each block and after the last, n×d.
    pub(super) hidden: Vec<B::Tensor>,
    pub(super) blocks: Vec<BlockActivations<B>>,
    pub(super) norm: B::Tensor,
    pub(super) stats: B::Tensor,
    pub(super) pooled: B::Tensor,
    pub(super) feature: B::Tensor,
    pub(super) lengths: B::Tensor,
    pub(super) logits: B::Tensor,
    pub(super) d_logits: B::Tensor,
    pub(super) d_pooled: B::Tensor,
    pub(super) d_feature: B::Tensor,
    /// Gradient of the residual stream, n×d.
    pub(super) d_hidden: B::Tensor,
    /// Gradient of a block's inner activation, n×d and n×mlp.
    pub(super) d_inner: B::Tensor,
    pub(super) d_mlp: B::Tensor,
    pub(super) d_qkv: [B::Tensor; 3],
    pub(super) d_probabilities: B::Tensor,
    /// `x·V` of every linear layer's adapter, n×r or wider, and one gradient of it.
    pub(super) z: Vec<B::Tensor>,
    pub(super) dz: B::Tensor,
}

impl<B: Backend> VitWorkspace<B> {
    pub(super) fn new(backend: &B, config: &VitConfig, capacity: usize) -> Result<Self, BackendError> {
        let (d, tokens) = (config.hidden, config.tokens());
        let n = capacity * tokens;
        let zeros = |rows, cols| backend.zeros([1, rows, cols]);
        let probabilities = || backend.zeros([capacity * config.heads, tokens, tokens]);
        let block = |_| {
            Ok(BlockActivations {
                norm1: zeros(n, d)?,
                stats1: zeros(n, 2)?,
                q: zeros(n, d)?,
                k: zeros(n, d)?,
                v: zeros(n, d)?,
                probabilities: probabilities()?,
                mixed: zeros(n, d)?,
                middle: zeros(n, d)?,
                norm2: zeros(n, d)?,
                stats2: zeros(n, 2)?,
                up: zeros(n, config.mlp)?,
                active: zeros(n, config.mlp)?,
            })
        };
        Ok(Self {
            capacity,
            batch: 0,
            staging: vec![B::Scalar::default(); n * config.patch_values()],
            staged_labels: vec![0; capacity],
            labels: backend.labels(capacity)?,
            patches: zeros(n, config.patch_values())?,
            hidden: (0..=config.layers).map(|_| zeros(n, d)).collect::<Result<_, _>>()?,
            blocks: (0..config.layers).map(block).collect::<Result<_, BackendError>>()?,
            norm: zeros(n, d)?,
            stats: zeros(n, 2)?,
            pooled: zeros(capacity, d)?,
            feature: zeros(capacity, d)?,
            lengths: zeros(capacity, 1)?,
            logits: zeros(capacity, config.classes)?,
            d_logits: zeros(capacity, config.classes)?,
            d_pooled: zeros(capacity, d)?,
            d_feature: zeros(capacity, d)?,
            d_hidden: zeros(n, d)?,
            d_inner: zeros(n, d)?,
            d_mlp: zeros(n, config.mlp)?,
            d_qkv: [zeros(n, d)?, zeros(n, d)?, zeros(n, d)?],
            d_probabilities: probabilities()?,
            z: (0..config.layers * 6).map(|_| zeros(0, 0)).collect::<Result<_, _>>()?,
            dz: zeros(0, 0)?,
        })
    }

    /// Room for adapters, and for the corrections of tasks merged since.
    pub(super) fn fit(
        &mut self,
        backend: &B,
        model: &Vit<B>,
        adapters: Option<&Adapters<B>>,
    ) -> Result<(), BackendError> {
        let n = self.capacity * model.config.tokens();
        let widest = fit_inner(backend, &mut self.z, n, model.blocks.iter().flat_map(Block::linears), adapters)?;
        fit_columns(backend, &mut self.dz, n, widest)
    }
}
