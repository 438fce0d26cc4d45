//! Llama (Touvron et al. 2023) as Hugging Face's `LlamaForCausalLM`: pre-norm blocks with RMS norms, rotary positions,
//! grouped-query causal attention, SwiGLU. Seven adaptable linear layers a block.
//!
//! Training counts the loss on answer tokens alone ([`TokenSet`]), and only their rows reach the head. The same blocks
//! decode with cached keys and values ([`LlamaDecoder`]): greedy continuation, and the likelihood of given answers.

mod config;
mod decode;
mod pass;
mod tokens;
mod workspace;

pub use config::{BlockWeights, LinearWeights, LlamaConfig, LlamaWeights, Rope, RopeScaling, Window};
pub use decode::{Likelihood, LlamaDecoder};
pub use tokens::{Choices, Ranking, TokenSet};
pub use workspace::LlamaWorkspace;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use faer::Mat;

use super::places::Places;
use super::{Frozen, Linear, Model, ModelError, Right, Samples, Site, Targets, Wanted, argmax, upload, weight_at};
use crate::Real;
use crate::adapter::Adapters;
use crate::backend::{Backend, IGNORED};

/// Linear layers of a block, in the order of its sites.
const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const OUTPUT: usize = 3;
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;
const SITES: usize = 7;

struct Block<B: Backend> {
    norm1: B::Tensor,
    norm2: B::Tensor,
    linears: [Linear<B>; SITES],
}

/// A Llama in device memory. Its weights change only by [`Model::merge`].
pub struct Llama<B: Backend> {
    config: LlamaConfig,
    window: Window,
    checkpointing: bool,
    sites: Vec<Site>,
    /// Of each site: block·[`SITES`] + the linear's number in the order of the forward pass.
    places: Vec<usize>,
    /// vocabulary×d.
    embedding: B::Weights,
    blocks: Vec<Block<B>>,
    norm: B::Tensor,
    /// vocabulary×d, where it is not the embedding.
    head: Option<B::Weights>,
    /// positions×dh: cosines and sines.
    rope: B::Tensor,
}

/// positions×dh: the cosines and then the sines of each position's angles.
fn rope_table<T: Real>(config: &LlamaConfig) -> Vec<T> {
    let frequencies = config.rope.frequencies(config.head_size);
    let mut table = Vec::with_capacity(config.positions * config.head_size);
    for position in 0..config.positions {
        let angles = || frequencies.iter().map(|f| f * position as f64);
        table.extend(angles().map(|a| T::of(libm::cos(a))));
        table.extend(angles().map(|a| T::of(libm::sin(a))));
    }
    table
}

impl<B: Backend> Llama<B> {
    /// Moves the weights to the device, one after the other: what has been moved is freed on the host.
    ///
    /// # Errors
    /// When extents, window and weights don't fit together, or the device is out of memory.
    pub fn new(backend: &B, config: &LlamaConfig, window: Window, weights: LlamaWeights) -> Result<Self, ModelError> {
        Self::with_targets(backend, config, window, weights, &Targets::default())
    }

    /// As [`Llama::new`]; only these linear layers can carry adapters.
    ///
    /// # Errors
    /// As [`Llama::new`], and when the targets are not there.
    pub fn with_targets(
        backend: &B,
        config: &LlamaConfig,
        window: Window,
        weights: LlamaWeights,
        targets: &Targets,
    ) -> Result<Self, ModelError> {
        config.check()?;
        check_window(config, window)?;
        if weights.blocks.len() != config.layers {
            let what = format!("{} blocks of weights for {} layers", weights.blocks.len(), config.layers);
            return Err(ModelError::Config { what });
        }
        let (d, shapes) = (config.hidden, config.linear_shapes());
        let vocabulary = |values: super::HostValues, name| values.upload(backend, config.vocabulary, d, name);
        let embedding = vocabulary(weights.embedding, "embedding")?;
        let head = weights.head.map(|values| vocabulary(values, "head")).transpose()?;
        let row = |values: &[f32], len, name: &str| upload::tensor(backend, [1, 1, len], values, name);
        let named = weights.blocks.iter().enumerate();
        targets.check(named.flat_map(|(l, block)| block.linears().map(|w| (&*w.name, l))))?;
        let mut places = Places::new(targets);
        let mut linear = |w: LinearWeights, (out, inp): (usize, usize), depth: usize| {
            let weight = Frozen::upload(backend, &w.weight, out, inp, &format!("{}.weight", w.name))?;
            let bias = w.bias.as_ref().map(|b| row(b, out, &format!("{}.bias", w.name)));
            let site = places.add(w.name, out, inp, depth);
            Ok::<_, ModelError>(Linear { weight, bias: bias.transpose()?, site })
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for (depth, w) in weights.blocks.into_iter().enumerate() {
            blocks.push(Block {
                norm1: row(&w.norm1, d, &format!("block {depth}: norm before the attention"))?,
                norm2: row(&w.norm2, d, &format!("block {depth}: norm before the MLP"))?,
                linears: [
                    linear(w.query, shapes[QUERY], depth)?,
                    linear(w.key, shapes[KEY], depth)?,
                    linear(w.value, shapes[VALUE], depth)?,
                    linear(w.output, shapes[OUTPUT], depth)?,
                    linear(w.gate, shapes[GATE], depth)?,
                    linear(w.up, shapes[UP], depth)?,
                    linear(w.down, shapes[DOWN], depth)?,
                ],
            });
        }
        let rope = backend.upload([1, config.positions, config.head_size], &rope_table::<B::Scalar>(config))?;
        let norm = row(&weights.norm, d, "final norm")?;
        let Places { sites, places, .. } = places;
        Ok(Self {
            config: config.clone(),
            window,
            checkpointing: false,
            sites,
            places,
            embedding,
            blocks,
            norm,
            head,
            rope,
        })
    }

    /// With or without gradient checkpointing (Chen et al. 2016, arXiv 1604.06174), for the workspaces made from now on: they
    /// keep the residual stream alone, and the backward pass computes queries, keys, values and the MLP's inner activations
    /// again. The numbers are the same, bit for bit; a step takes about a quarter longer and a fifth of the activations' memory.
    #[must_use]
    pub fn checkpointing(self, on: bool) -> Self {
        Self { checkpointing: on, ..self }
    }

    /// Its extents.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// What a sample may hold.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Labelled rows of the loaded batch: so many rows of [`Model::logits`] are of this batch.
    pub fn labelled(&self, work: &LlamaWorkspace<B>) -> usize {
        work.labelled()
    }

    fn head(&self) -> &B::Weights {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// All adaptable linears, by site.
    fn linears(&self) -> impl Iterator<Item = &Linear<B>> {
        self.blocks.iter().flat_map(|block| &block.linears)
    }

    fn check_tokens(&self, sample: usize, tokens: &[u32]) -> Result<(), ModelError> {
        let known = self.config.vocabulary;
        match tokens.iter().position(|&t| t as usize >= known) {
            None => Ok(()),
            Some(at) => {
                let what = format!("token {at} is {}, but the model knows 0 to {}", tokens[at], known - 1);
                Err(ModelError::Sequence { sample, what })
            }
        }
    }

    /// Ranks the choices for each sample of a batch and counts where the right one wins.
    async fn count_chosen(
        &self,
        backend: &B,
        work: &mut LlamaWorkspace<B>,
        adapters: Option<&Adapters<B>>,
        (samples, choices): (&TokenSet, &Choices),
        batch: &[usize],
    ) -> Result<usize, ModelError> {
        let mut decoder = match work.decoder.take() {
            Some(decoder) => decoder,
            None => self.decoder(backend, self.window.tokens.min(DECODER_ROWS), self.window.tokens)?,
        };
        let mut right = 0;
        for &sample in batch {
            let prompt = samples.prompt(sample);
            let found = self.likelihoods(backend, &mut decoder, adapters, prompt, &choices.answers).await;
            let found = found.map_err(|error| match error {
                ModelError::Sequence { what, .. } => ModelError::Sequence { sample, what },
                other => other,
            })?;
            let scores: Vec<f64> = found
                .iter()
                .map(|likelihood| match choices.ranking {
                    Ranking::Sum => likelihood.sum,
                    Ranking::Mean => likelihood.mean(),
                })
                .collect();
            right += usize::from(argmax(&scores) == Some(samples.label(sample) as usize));
        }
        work.decoder = Some(decoder);
        Ok(right)
    }
}

/// Tokens that a decoder for the likelihood of choices takes at a time.
const DECODER_ROWS: usize = 32;

fn check_window(config: &LlamaConfig, window: Window) -> Result<(), ModelError> {
    let refuse = |what: String| Err(ModelError::Config { what });
    if window.answer == 0 || window.answer >= window.tokens {
        return refuse(format!("a window of {} tokens, {} of them the answer's", window.tokens, window.answer));
    }
    if window.tokens > config.positions {
        return refuse(format!("a window of {} tokens: the model has {} positions", window.tokens, config.positions));
    }
    Ok(())
}

impl<B: Backend> Model<B> for Llama<B> {
    type Samples = TokenSet;
    type Workspace = LlamaWorkspace<B>;

    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn blocks(&self) -> usize {
        self.config.layers
    }

    fn rows(&self, batch: usize) -> usize {
        batch * self.window.tokens
    }

    fn workspace(&self, backend: &B, capacity: usize) -> Result<Self::Workspace, ModelError> {
        Ok(LlamaWorkspace::new(backend, self, capacity)?)
    }

    fn attach(&self, backend: &B, work: &mut Self::Workspace, adapters: &Adapters<B>) -> Result<(), ModelError> {
        Ok(work.fit(backend, self, Some(adapters))?)
    }

    /// Row i of a sequence tells token i + 1: here alone labels are shifted.
    fn load(
        &self,
        backend: &B,
        work: &mut Self::Workspace,
        samples: &TokenSet,
        batch: &[usize],
    ) -> Result<(), ModelError> {
        if batch.len() > work.capacity {
            return Err(ModelError::Batch { got: batch.len(), capacity: work.capacity });
        }
        if batch.is_empty() {
            return Err(ModelError::Config { what: "a batch without samples".into() });
        }
        let longest = batch.iter().map(|&sample| samples.tokens(sample).len()).max().unwrap_or(0);
        work.staged_labels.clear();
        work.runs.clear();
        for (i, &sample) in batch.iter().enumerate() {
            let (tokens, answer) = (samples.tokens(sample), samples.answer(sample));
            self.check_tokens(sample, tokens)?;
            let counted = answer.iter().filter(|&&a| a).count();
            let (most, room) = (work.window.tokens, work.window.answer);
            if tokens.len() > most || counted > room {
                let (got, what) = if tokens.len() > most { (tokens.len(), "") } else { (counted, " of the answer") };
                let room = if tokens.len() > most { most } else { room };
                let what = format!("{got} tokens{what}, where the window has room for {room}");
                return Err(ModelError::Sequence { sample, what });
            }
            let row = i * longest;
            let (own, padding) = work.staged[row..row + longest].split_at_mut(tokens.len());
            own.copy_from_slice(tokens);
            padding.fill(IGNORED); // beyond every table: zeros
            for (at, &token) in tokens.iter().enumerate().skip(1).filter(|&(at, _)| answer[at]) {
                work.staged_labels.push(token);
                match work.runs.last_mut().filter(|run| run.end == row + at - 1) {
                    Some(run) => run.end += 1,
                    None => work.runs.push(row + at - 1..row + at),
                }
            }
        }
        (work.batch, work.tokens) = (batch.len(), longest);
        work.fit(backend, self, None)?;
        backend.write_labels(&mut work.ids, &work.staged[..batch.len() * longest])?;
        backend.write_labels(&mut work.labels, &work.staged_labels)?;
        Ok(())
    }

    fn forward(&self, backend: &B, work: &mut Self::Workspace, adapters: Option<&Adapters<B>>) {
        self.run_forward(backend, work, adapters);
    }

    fn loss(&self, backend: &B, work: &mut Self::Workspace, loss: &mut B::Tensor, index: usize) {
        self.run_loss(backend, work, loss, index);
    }

    fn backward(&self, backend: &B, work: &mut Self::Workspace, wanted: &mut Wanted<'_, B>) {
        self.run_backward(backend, work, wanted);
    }

    /// One row for each answer token of the batch, in order, as it is told from the tokens before it.
    fn logits<'w>(&self, work: &'w Self::Workspace) -> &'w B::Tensor {
        &work.logits
    }

    fn classes(&self) -> usize {
        self.config.vocabulary
    }

    async fn weight(&self, backend: &B, site: usize) -> Result<Mat<B::Scalar>, ModelError> {
        weight_at(backend, self.linears(), site).await
    }

    fn merge(&mut self, backend: &B, adapters: &Adapters<B>) -> Result<(), ModelError> {
        for linear in self.blocks.iter_mut().flat_map(|block| &mut block.linears) {
            linear.merge(backend, adapters)?;
        }
        Ok(())
    }

    /// With choices, those whose answer is the most likely one. Without, those whose answer greedy decoding would give:
    /// that is so exactly when each of its tokens has the largest logit after the true ones before it.
    async fn count_right(
        &self,
        backend: &B,
        work: &mut Self::Workspace,
        adapters: Option<&Adapters<B>>,
        samples: &TokenSet,
        batch: &[usize],
        _: &[u32],
    ) -> Result<Right, ModelError> {
        // Choices are the task's own, and free answers have no classes.
        let both = |right| Right { free: right, masked: right };
        if let Some(choices) = samples.choices() {
            return self.count_chosen(backend, work, adapters, (samples, choices), batch).await.map(both);
        }
        self.load(backend, work, samples, batch)?;
        self.forward(backend, work, adapters);
        let logits = backend.read(&work.logits).await?;
        let mut rows = logits.chunks(self.config.vocabulary).zip(&work.staged_labels);
        let mut right = 0;
        for &sample in batch {
            let counted = samples.answer(sample).iter().filter(|&&a| a).count();
            let hits = rows.by_ref().take(counted).filter(|(row, label)| argmax(row) == Some(**label as usize)).count();
            right += usize::from(hits == counted);
        }
        Ok(both(right))
    }
}
