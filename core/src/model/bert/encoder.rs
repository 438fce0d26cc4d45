//! The encoder in device memory: its weights, its adaptable layers, and the sentence embeddings that it makes.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::{BertConfig, BertWeights, LinearWeights, NormWeights, TextSet};
use crate::adapter::Adapters;
use crate::backend::{Backend, Stored};
use crate::model::places::Places;
use crate::model::{Frozen, HostValues, Linear, ModelError, Site, Targets, upload};

use super::workspace::Activations;

/// Linear layers of a layer of the encoder.
pub(super) const LINEARS: usize = 6;

/// To which length the texts of a batch are filled up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// That of the longest one of the batch: nothing is computed in vain. For the CPU.
    #[default]
    Longest,
    /// The most tokens that a text may have. For a GPU: every step is the same, so that it makes nothing anew, and
    /// attention weights larger than what a kernel can bind keep the rows in which they were cut.
    Fixed,
}

/// How an encoder is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    /// Most tokens of a text, special ones included; no more than the model has positions.
    pub max_tokens: usize,
    /// Filling of shorter texts; it changes what is computed, not the results.
    pub padding: Padding,
    /// The linear layers that can carry adapters.
    pub targets: Targets,
}

impl EncoderOptions {
    /// Texts of up to so many tokens, filled up to the longest; every linear layer adaptable.
    pub fn new(max_tokens: usize) -> Self {
        Self { max_tokens, padding: Padding::default(), targets: Targets::default() }
    }
}

pub(super) struct Norm<B: Backend> {
    pub gamma: B::Tensor,
    pub beta: B::Tensor,
}

pub(super) struct Layer<B: Backend> {
    pub query: Linear<B>,
    pub key: Linear<B>,
    pub value: Linear<B>,
    pub output: Linear<B>,
    pub norm1: Norm<B>,
    pub fc1: Linear<B>,
    pub fc2: Linear<B>,
    pub norm2: Norm<B>,
}

impl<B: Backend> Layer<B> {
    /// Its linear layers in the order of the forward pass.
    pub fn linears(&self) -> [&Linear<B>; LINEARS] {
        [&self.query, &self.key, &self.value, &self.output, &self.fc1, &self.fc2]
    }

    fn linears_mut(&mut self) -> [&mut Linear<B>; LINEARS] {
        [&mut self.query, &mut self.key, &mut self.value, &mut self.output, &mut self.fc1, &mut self.fc2]
    }
}

/// A BERT encoder in device memory, without a head. Its weights change only by [`Encoder::merge`].
pub struct Encoder<B: Backend> {
    pub(super) config: BertConfig,
    pub(super) options: EncoderOptions,
    pub(super) sites: Vec<Site>,
    /// Of each site: layer·[`LINEARS`] + the linear's number in the order of the forward pass.
    pub(super) places: Vec<usize>,
    /// vocabulary×d.
    pub(super) words: B::Weights,
    /// max_tokens×d.
    pub(super) positions: B::Weights,
    /// The embedding of the first token type, 1×d.
    pub(super) token_type: B::Tensor,
    pub(super) norm: Norm<B>,
    pub(super) layers: Vec<Layer<B>>,
}

impl<B: Backend> Encoder<B> {
    /// Moves the weights to the device.
    ///
    /// # Errors
    /// When extents, weights and options don't fit together, or the device is out of memory.
    pub fn new(
        backend: &B,
        config: &BertConfig,
        weights: &BertWeights,
        options: &EncoderOptions,
    ) -> Result<Self, ModelError> {
        config.check()?;
        if weights.layers.len() != config.layers {
            let what = format!("weights of {} layers for {}", weights.layers.len(), config.layers);
            return Err(ModelError::Config { what });
        }
        let (d, mlp, max_tokens) = (config.hidden, config.mlp, options.max_tokens);
        if !(1..=config.positions).contains(&max_tokens) {
            let what = format!("texts of up to {max_tokens} tokens for a model of 1 to {} positions", config.positions);
            return Err(ModelError::Config { what });
        }
        let named = weights.layers.iter().enumerate();
        options.targets.check(named.flat_map(|(l, w)| w.linears().map(|linear| (&*linear.name, l))))?;

        let mut places = Places::new(&options.targets);
        let norm = |w: &NormWeights, name: &str| {
            let gamma = upload::tensor(backend, [1, 1, d], &w.weight, &format!("{name}.weight"))?;
            let beta = upload::tensor(backend, [1, 1, d], &w.bias, &format!("{name}.bias"))?;
            Ok::<_, ModelError>(Norm { gamma, beta })
        };
        let mut linear = |w: &LinearWeights, out: usize, inp: usize, depth: usize| {
            let weight = Frozen::upload(backend, &w.weight, out, inp, &format!("{}.weight", w.name))?;
            let bias = upload::tensor(backend, [1, 1, out], &w.bias, &format!("{}.bias", w.name))?;
            let site = places.add(w.name.clone(), out, inp, depth);
            Ok::<_, ModelError>(Linear { weight, bias: Some(bias), site })
        };
        let mut layers = Vec::with_capacity(config.layers);
        for (depth, w) in weights.layers.iter().enumerate() {
            layers.push(Layer {
                query: linear(&w.query, d, d, depth)?,
                key: linear(&w.key, d, d, depth)?,
                value: linear(&w.value, d, d, depth)?,
                output: linear(&w.output, d, d, depth)?,
                norm1: norm(&w.norm1, &format!("layer {depth}: norm after the attention"))?,
                fc1: linear(&w.fc1, mlp, d, depth)?,
                fc2: linear(&w.fc2, d, mlp, depth)?,
                norm2: norm(&w.norm2, &format!("layer {depth}: norm after the MLP"))?,
            });
        }
        // Of the other tables, only the first rows are needed; the size of the whole one counts all the same.
        let first = |values: &HostValues, rows: usize, most: usize, name: &str| {
            let (expected, got) = (rows * d, values.stored().len());
            if got != expected {
                return Err(ModelError::Weight { name: name.into(), expected, got });
            }
            let mut needed = vec![0.0; most * d];
            values.stored().unpack(0, &mut needed);
            Ok(needed)
        };
        let positions = first(&weights.positions, config.positions, max_tokens, "position embeddings")?;
        let token_type = first(&weights.token_types, config.token_types, 1, "token type embeddings")?;
        Ok(Self {
            words: weights.words.upload(backend, config.vocabulary, d, "word embeddings")?,
            positions: backend.upload_weights(max_tokens, d, Stored::F32(&positions))?,
            token_type: upload::tensor(backend, [1, 1, d], &token_type, "token type embeddings")?,
            norm: norm(&weights.norm, "norm of the embeddings")?,
            layers,
            sites: places.sites,
            places: places.places,
            config: config.clone(),
            options: options.clone(),
        })
    }

    /// Its extents.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// How it is used.
    pub fn options(&self) -> &EncoderOptions {
        &self.options
    }

    /// The linear layers that can carry an adapter, in the order of the forward pass.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The sentence embeddings of all texts, the mean of their tokens' final states: texts×d, row by row, not normalised.
    /// Their labels don't matter.
    ///
    /// # Errors
    /// When a text doesn't fit the model, or the device fails.
    pub async fn embed(
        &self,
        backend: &B,
        texts: &TextSet,
        batch: usize,
        adapters: Option<&Adapters<B>>,
    ) -> Result<Vec<B::Scalar>, ModelError> {
        let (indices, d): (Vec<usize>, _) = ((0..texts.len()).collect(), self.config.hidden);
        let batch = batch.clamp(1, texts.len().max(1));
        // No backward pass will come: the layers take turns with one set of activations.
        let mut act = Activations::new(backend, self, batch, self.config.layers)?;
        act.fit(backend, self, adapters)?;
        let mut embeddings = Vec::with_capacity(texts.len() * d);
        for part in indices.chunks(batch) {
            self.load(backend, &mut act, texts, part)?;
            self.forward(backend, &mut act, adapters);
            let pooled = backend.read(&act.pooled).await?;
            embeddings.extend_from_slice(&pooled[..part.len() * d]);
        }
        Ok(embeddings)
    }

    /// Moves the tokens of a batch to the device. Where it fails, what was loaded before stays.
    pub(super) fn load(
        &self,
        backend: &B,
        act: &mut Activations<B>,
        texts: &TextSet,
        batch: &[usize],
    ) -> Result<(), ModelError> {
        let (last, most) = (self.config.vocabulary - 1, self.options.max_tokens);
        if batch.len() > act.capacity {
            return Err(ModelError::Batch { got: batch.len(), capacity: act.capacity });
        }
        let mut longest = 1;
        for &sample in batch {
            let ids = texts.tokens(sample);
            if ids.is_empty() {
                return Err(ModelError::Empty { sample });
            }
            if ids.len() > most {
                return Err(ModelError::TooLong { sample, tokens: ids.len(), most });
            }
            if let Some(&id) = ids.iter().find(|&&id| id as usize > last) {
                return Err(ModelError::Token { id, sample, last });
            }
            longest = longest.max(ids.len());
        }
        let tokens = match self.options.padding {
            Padding::Longest => longest,
            Padding::Fixed => most,
        };
        for (i, &sample) in batch.iter().enumerate() {
            let (ids, row) = (texts.tokens(sample), &mut act.staged_ids[i * tokens..][..tokens]);
            row[..ids.len()].copy_from_slice(ids);
            // What fills up is never looked at: any token will do.
            row[ids.len()..].fill(0);
            act.staged_lengths[i] = ids.len() as u32;
        }
        let n = batch.len() * tokens;
        backend.write_labels(&mut act.ids, &act.staged_ids[..n])?;
        backend.write_labels(&mut act.lengths, &act.staged_lengths[..batch.len()])?;
        if tokens != act.tokens {
            act.staged_ids.iter_mut().enumerate().for_each(|(i, place)| *place = (i % tokens) as u32);
            backend.write_labels(&mut act.places, &act.staged_ids)?;
        }
        (act.batch, act.tokens) = (batch.len(), tokens);
        Ok(())
    }

    /// All linear layers, in the order of the forward pass.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear<B>> {
        self.layers.iter().flat_map(Layer::linears)
    }

    /// Adds `s·U·Vᵀ` of every adapter to its weight.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn merge(&mut self, backend: &B, adapters: &Adapters<B>) -> Result<(), ModelError> {
        for linear in self.layers.iter_mut().flat_map(Layer::linears_mut) {
            linear.merge(backend, adapters)?;
        }
        Ok(())
    }
}
