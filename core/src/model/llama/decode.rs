//! Decoding with cached keys and values: greedy continuation, and the likelihood of given answers. One sequence at a
//! time; its tokens go through the blocks in parts, the last ones singly.

use alloc::format;
use alloc::vec::Vec;
use core::mem::swap;

use super::pass::{BlockBuffers, Step};
use super::workspace::{BlockActivations, KeyValues, Remade};
use super::{Llama, SITES};
use crate::Real;
use crate::adapter::Adapters;
use crate::backend::{Backend, BackendError, Epilogue, View, ViewMut};
use crate::model::linear::fit_columns;
use crate::model::views::{rows, rows_mut};
use crate::model::{ModelError, argmax};

/// The cached keys and values of a sequence, and room for a part of it. Forward only: it serves as many sequences as wanted.
pub struct LlamaDecoder<B: Backend> {
    /// Tokens that go through at once, and that fit in all.
    part: usize,
    capacity: usize,
    /// Tokens cached.
    past: usize,
    ids: B::Labels,
    /// Residual stream before and after a block, and in its middle, part×d.
    hidden: [B::Tensor; 2],
    middle: B::Tensor,
    act: BlockActivations<B>,
    remade: Remade<B>,
    keys: Vec<KeyValues<B>>,
    norm: B::Tensor,
    stats: B::Tensor,
    /// Of a part, part×vocabulary, and of its last token.
    logits: B::Tensor,
    last: B::Tensor,
    z: Vec<B::Tensor>,
}

/// How likely an answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// Log-probability of all its tokens.
    pub sum: f64,
    /// Number of its tokens.
    pub tokens: usize,
}

impl Likelihood {
    /// Mean log-probability of a token.
    pub fn mean(&self) -> f64 {
        self.sum / self.tokens as f64
    }
}

/// Of which tokens of a part logits are wanted.
#[derive(Clone, Copy, PartialEq)]
enum Logits {
    None,
    Last,
    All,
}

/// `log softmax` of a row at `token`.
fn log_probability<T: Real>(row: &[T], token: u32) -> f64 {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.f64()));
    let sum: f64 = row.iter().map(|x| libm::exp(x.f64() - max)).sum();
    row[token as usize].f64() - max - libm::log(sum)
}

impl<B: Backend> Llama<B> {
    /// Room for a sequence of up to `capacity` tokens, `part` of which are computed at a time.
    ///
    /// # Errors
    /// When the model has fewer positions, or the device is out of memory.
    pub fn decoder(&self, backend: &B, part: usize, capacity: usize) -> Result<LlamaDecoder<B>, ModelError> {
        let config = &self.config;
        if part == 0 || part > capacity || capacity > config.positions {
            let what =
                format!("a decoder of {capacity} tokens in parts of {part}: there are {} positions", config.positions);
            return Err(ModelError::Config { what });
        }
        let zeros = |rows, cols| backend.zeros([1, rows, cols]);
        Ok(LlamaDecoder {
            part,
            capacity,
            past: 0,
            ids: backend.labels(part)?,
            hidden: [zeros(part, config.hidden)?, zeros(part, config.hidden)?],
            middle: zeros(part, config.hidden)?,
            act: BlockActivations::new(backend, config, part)?,
            remade: Remade::new(backend, config, part, [config.heads, part, capacity])?,
            keys: (0..config.layers)
                .map(|_| KeyValues::new(backend, config, capacity))
                .collect::<Result<_, BackendError>>()?,
            norm: zeros(part, config.hidden)?,
            stats: zeros(part, 1)?,
            logits: zeros(part, config.vocabulary)?,
            last: zeros(1, config.vocabulary)?,
            z: (0..SITES).map(|_| zeros(0, 0)).collect::<Result<_, BackendError>>()?,
        })
    }

    /// The logits after the last of these tokens, which begin a sequence.
    ///
    /// # Errors
    /// When there is no token, one is unknown, they don't fit the decoder, or the device fails.
    pub async fn begin(
        &self,
        backend: &B,
        decoder: &mut LlamaDecoder<B>,
        adapters: Option<&Adapters<B>>,
        tokens: &[u32],
    ) -> Result<Vec<B::Scalar>, ModelError> {
        decoder.past = 0;
        self.extend(backend, decoder, adapters, tokens).await
    }

    /// The logits after the last of these tokens, which continue the sequence.
    ///
    /// # Errors
    /// As [`Llama::begin`].
    pub async fn extend(
        &self,
        backend: &B,
        decoder: &mut LlamaDecoder<B>,
        adapters: Option<&Adapters<B>>,
        tokens: &[u32],
    ) -> Result<Vec<B::Scalar>, ModelError> {
        self.admit(backend, decoder, adapters, tokens)?;
        let parts = tokens.len().div_ceil(decoder.part);
        for (i, part) in tokens.chunks(decoder.part).enumerate() {
            let wanted = if i + 1 == parts { Logits::Last } else { Logits::None };
            self.run_part(backend, decoder, adapters, part, wanted)?;
        }
        Ok(backend.read(&decoder.last).await?)
    }

    /// Continues a prompt by the most likely token each, up to `most` of them or one of `stop`, which is not returned.
    ///
    /// # Errors
    /// As [`Llama::begin`]; where the decoder is full, the continuation ends.
    pub async fn generate(
        &self,
        backend: &B,
        decoder: &mut LlamaDecoder<B>,
        adapters: Option<&Adapters<B>>,
        prompt: &[u32],
        (most, stop): (usize, &[u32]),
    ) -> Result<Vec<u32>, ModelError> {
        let mut logits = self.begin(backend, decoder, adapters, prompt).await?;
        let mut said = Vec::new();
        while said.len() < most {
            let Some(next) = argmax(&logits) else {
                return Err(BackendError::NonFinite { item: 0 }.into());
            };
            if stop.contains(&(next as u32)) {
                break;
            }
            said.push(next as u32);
            if said.len() == most || decoder.past == decoder.capacity {
                break;
            }
            logits = self.extend(backend, decoder, adapters, &[next as u32]).await?;
        }
        Ok(said)
    }

    /// How likely each of the answers is after a prompt, which is computed once.
    ///
    /// # Errors
    /// When prompt or an answer is empty, a token is unknown, they don't fit the decoder, or the device fails.
    pub async fn likelihoods(
        &self,
        backend: &B,
        decoder: &mut LlamaDecoder<B>,
        adapters: Option<&Adapters<B>>,
        prompt: &[u32],
        answers: &[Vec<u32>],
    ) -> Result<Vec<Likelihood>, ModelError> {
        let after_prompt = self.begin(backend, decoder, adapters, prompt).await?;
        let mut found = Vec::with_capacity(answers.len());
        for answer in answers {
            decoder.past = prompt.len();
            self.admit(backend, decoder, adapters, answer)?;
            let mut sum = log_probability(&after_prompt, answer[0]);
            for (i, part) in answer[..answer.len() - 1].chunks(decoder.part).enumerate() {
                self.run_part(backend, decoder, adapters, part, Logits::All)?;
                let logits = backend.read(&decoder.logits).await?;
                let told = &answer[i * decoder.part + 1..];
                let rows = logits.chunks(self.config.vocabulary).take(part.len());
                sum += rows.zip(told).map(|(row, &token)| log_probability(row, token)).sum::<f64>();
            }
            found.push(Likelihood { sum, tokens: answer.len() });
        }
        Ok(found)
    }

    /// Checks tokens that are to follow, and makes room for adapters and merged corrections.
    fn admit(
        &self,
        backend: &B,
        decoder: &mut LlamaDecoder<B>,
        adapters: Option<&Adapters<B>>,
        tokens: &[u32],
    ) -> Result<(), ModelError> {
        let refuse = |what| Err(ModelError::Sequence { sample: 0, what });
        if tokens.is_empty() {
            return refuse("no tokens to go on from".into());
        }
        if decoder.past + tokens.len() > decoder.capacity {
            let (got, past, capacity) = (tokens.len(), decoder.past, decoder.capacity);
            return refuse(format!("{got} tokens after {past} in a decoder for {capacity}"));
        }
        self.check_tokens(0, tokens)?;
        for (place, linear) in self.linears().enumerate() {
            let width = linear.inner_width(adapters);
            fit_columns(backend, &mut decoder.z[place % SITES], decoder.part, width)?;
        }
        Ok(())
    }

    /// Sends up to a part of tokens through the blocks.
    fn run_part(
        &self,
        b: &B,
        decoder: &mut LlamaDecoder<B>,
        adapters: Option<&Adapters<B>>,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<(), BackendError> {
        let n = tokens.len();
        let step = Step { batch: 1, tokens: n, past: decoder.past };
        b.write_labels(&mut decoder.ids, tokens)?;
        let [before, after] = &mut decoder.hidden;
        b.gather(rows_mut(before, n), &self.embedding, &decoder.ids, false);
        for (l, keys) in decoder.keys.iter_mut().enumerate() {
            let buffers = BlockBuffers {
                before: &*before,
                middle: &mut decoder.middle,
                act: &mut decoder.act,
                remade: &mut decoder.remade,
                keys,
                z: &mut decoder.z,
            };
            self.block_forward(b, l, after, buffers, step, adapters);
            swap(before, after);
        }
        decoder.past += n;
        let (first, count, logits) = match wanted {
            Logits::None => return Ok(()),
            Logits::Last => (n - 1, 1, &mut decoder.last),
            Logits::All => (0, n, &mut decoder.logits),
        };
        let x = View::all(&*before).rows(first, count);
        b.rms_norm(rows_mut(&mut decoder.norm, count), &mut decoder.stats, x, &self.norm, self.config.rms_norm_epsilon);
        let head = View::all(self.head()).t();
        b.matmul_weights(ViewMut::all(logits).top(count), rows(&decoder.norm, count), head, Epilogue::default());
        Ok(())
    }
}
