//! The models whose training step is measured: the bundled vision transformer, and two with the extents of MiniLM-L6 and
//! of SmolLM2-135M. Those have random weights: a step takes as long with any, and nothing has to be fetched.

use eblora_core::backend::{Activation, Backend};
use eblora_core::model::bert::{
    Bert, BertConfig, BertWeights, Encoder, EncoderOptions, Head, LayerWeights, LinearWeights, NormWeights, TextSet,
};
use eblora_core::model::llama::{
    BlockWeights, LinearWeights as LlamaLinear, Llama, LlamaConfig, LlamaWeights, Rope, RopeScaling, TokenSet, Window,
};
use eblora_core::model::vit::{ImageSet, Vit, VitConfig, VitWeights};
use eblora_core::model::{HostValues, Model, ModelError, Samples};
use eblora_core::random::Random;

use super::SEED;
use crate::Error;
use crate::data::{bundled, mix};
use crate::formats::{gguf_blocks::BlockFormat, packed::PackedTensor};
use crate::model::vit;

/// A model with a batch of samples.
pub trait StepSubject {
    /// What its figures are called.
    const NAME: &'static str;
    /// Samples of a step.
    const BATCH: usize;
    /// Tokens of a sample.
    const TOKENS: usize;
    /// Directions of M that EBLoRA's step projects off in each layer.
    const MEMORY: usize;
    /// Whether a step is out of proportion for a software adapter.
    const LARGE: bool;
    /// The samples.
    type Samples: Samples;
    /// The model on a device.
    type Model<B: Backend<Scalar = f32>>: Model<B, Samples = Self::Samples>;
    /// The model on this device.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Self::Model<B>, ModelError>;
    /// The samples of the step, and perhaps more.
    fn samples(&self) -> &Self::Samples;
}

/// The bundled vision transformer.
pub struct VitStep {
    config: VitConfig,
    weights: VitWeights,
    images: ImageSet,
}

impl VitStep {
    /// From the bundle.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read() -> Result<Self, Error> {
        let folder = bundled::base()?;
        let images = mix::tasks()?.swap_remove(0).train;
        Ok(Self { config: vit::config(&folder), weights: vit::weights(&folder), images })
    }
}

impl StepSubject for VitStep {
    const NAME: &'static str = "vit";
    const BATCH: usize = 32;
    const TOKENS: usize = 16;
    const MEMORY: usize = 16;
    const LARGE: bool = false;
    type Samples = ImageSet;
    type Model<B: Backend<Scalar = f32>> = Vit<B>;

    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Vit<B>, ModelError> {
        Vit::new(backend, &self.config, &self.weights)
    }

    fn samples(&self) -> &ImageSet {
        &self.images
    }
}

/// `count` values of a small spread: a few thousand random ones over and over.
fn small(count: usize, rng: &mut Random) -> Vec<f32> {
    let some: Vec<f32> = rng.normals(4099);
    some.iter().map(|x| 0.02 * x).cycle().take(count).collect()
}

/// The same as bf16, used where they are, as those of a mapped file.
fn small_bf16(count: usize, rng: &mut Random) -> HostValues {
    let some: Vec<[u8; 2]> = small(4099, rng).iter().map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
    let mut bytes = Vec::with_capacity(2 * count); // exactly: its size is measured
    bytes.extend(some.into_iter().cycle().take(count).flatten());
    PackedTensor::new(bytes.into(), 0..2 * count, BlockFormat::Bf16).into_values()
}

/// Tokens of a sample, never a special one.
fn tokens(count: usize, vocabulary: usize, rng: &mut Random) -> Vec<u32> {
    (0..count).map(|_| (200 + rng.below(vocabulary - 200)) as u32).collect()
}

/// An encoder with the extents of MiniLM-L6 under a linear head, and texts that all have the most tokens.
pub struct MiniLmStep {
    texts: TextSet,
}

impl MiniLmStep {
    const CLASSES: usize = 29;

    /// Random texts.
    pub fn new() -> Self {
        let (mut rng, config) = (Random::new(SEED, "bench/minilm/texts"), Self::config());
        let mut texts = TextSet::new();
        for i in 0..Self::BATCH {
            texts.push(&tokens(Self::TOKENS, config.vocabulary, &mut rng), (i % Self::CLASSES) as u32);
        }
        Self { texts }
    }

    fn config() -> BertConfig {
        BertConfig {
            vocabulary: 30_522,
            hidden: 384,
            layers: 6,
            heads: 12,
            mlp: 1536,
            positions: 512,
            token_types: 2,
            layer_norm_epsilon: 1e-12,
            activation: Activation::Gelu,
        }
    }

    fn weights(config: &BertConfig) -> BertWeights {
        let mut rng = Random::new(SEED, "bench/minilm");
        let (d, mlp) = (config.hidden, config.mlp);
        let norm = || NormWeights { weight: vec![1.0; d], bias: vec![0.0; d] };
        let mut linear = |name: String, out: usize, inp: usize| LinearWeights {
            name,
            weight: HostValues::F32(small(out * inp, &mut rng)),
            bias: vec![0.0; out],
        };
        let layers = (0..config.layers).map(|layer| LayerWeights {
            query: linear(format!("{layer}.query"), d, d),
            key: linear(format!("{layer}.key"), d, d),
            value: linear(format!("{layer}.value"), d, d),
            output: linear(format!("{layer}.output"), d, d),
            norm1: norm(),
            fc1: linear(format!("{layer}.fc1"), mlp, d),
            fc2: linear(format!("{layer}.fc2"), d, mlp),
            norm2: norm(),
        });
        let layers = layers.collect();
        let mut table = |rows: usize| HostValues::F32(small(rows * d, &mut rng));
        let (words, positions) = (table(config.vocabulary), table(config.positions));
        BertWeights { words, positions, token_types: table(config.token_types), norm: norm(), layers }
    }
}

impl StepSubject for MiniLmStep {
    const NAME: &'static str = "minilm";
    const BATCH: usize = 16;
    const TOKENS: usize = 32;
    const MEMORY: usize = 64;
    const LARGE: bool = true;
    type Samples = TextSet;
    type Model<B: Backend<Scalar = f32>> = Bert<B>;

    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Bert<B>, ModelError> {
        let config = Self::config();
        let encoder = Encoder::new(backend, &config, &Self::weights(&config), &EncoderOptions::new(Self::TOKENS))?;
        let weight = small(Self::CLASSES * config.hidden, &mut Random::new(SEED, "bench/minilm/head"));
        Bert::new(backend, encoder, &Head::Linear { weight, bias: None })
    }

    fn samples(&self) -> &TextSet {
        &self.texts
    }
}

/// A decoder with the extents of SmolLM2-135M in bf16, with or without gradient checkpointing, and prompts that all have the
/// most tokens.
pub struct SmolLm2Step<const CHECKPOINTED: bool = false> {
    prompts: TokenSet,
}

impl<const CHECKPOINTED: bool> SmolLm2Step<CHECKPOINTED> {
    /// Tokens of an answer.
    const ANSWER: usize = 8;

    /// Random prompts.
    ///
    /// # Errors
    /// None that can happen: each has an answer.
    pub fn new() -> Result<Self, ModelError> {
        let (mut rng, config) = (Random::new(SEED, "bench/smollm2/prompts"), Self::config());
        let mut prompts = TokenSet::new();
        for _ in 0..Self::BATCH {
            let all = tokens(Self::TOKENS, config.vocabulary, &mut rng);
            let (prompt, answer) = all.split_at(Self::TOKENS - Self::ANSWER);
            prompts.push_pair(prompt, answer)?;
        }
        Ok(Self { prompts })
    }

    fn config() -> LlamaConfig {
        LlamaConfig {
            vocabulary: 49_152,
            hidden: 576,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_size: 64,
            mlp: 1536,
            positions: 8192,
            rms_norm_epsilon: 1e-5,
            rope: Rope { theta: 100_000.0, scaling: RopeScaling::None },
        }
    }

    fn weights(config: &LlamaConfig) -> LlamaWeights {
        let mut rng = Random::new(SEED, "bench/smollm2");
        let (d, shapes) = (config.hidden, config.linear_shapes());
        let blocks = (0..config.layers).map(|block| {
            let mut index = 0;
            let mut linear = || {
                let (out, inp) = shapes[index];
                let name = format!("{block}.{index}");
                index += 1;
                LlamaLinear { name, weight: small_bf16(out * inp, &mut rng), bias: None }
            };
            BlockWeights {
                norm1: vec![1.0; d],
                query: linear(),
                key: linear(),
                value: linear(),
                output: linear(),
                norm2: vec![1.0; d],
                gate: linear(),
                up: linear(),
                down: linear(),
            }
        });
        let blocks = blocks.collect();
        let embedding = small_bf16(config.vocabulary * d, &mut rng);
        LlamaWeights { embedding, blocks, norm: vec![1.0; d], head: None }
    }
}

impl<const CHECKPOINTED: bool> StepSubject for SmolLm2Step<CHECKPOINTED> {
    const NAME: &'static str = if CHECKPOINTED { "smollm2_checkpointed" } else { "smollm2" };
    const BATCH: usize = 2;
    const TOKENS: usize = 64;
    const MEMORY: usize = 64;
    const LARGE: bool = true;
    type Samples = TokenSet;
    type Model<B: Backend<Scalar = f32>> = Llama<B>;

    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Llama<B>, ModelError> {
        let (config, window) = (Self::config(), Window { tokens: Self::TOKENS, answer: Self::ANSWER });
        Ok(Llama::new(backend, &config, window, Self::weights(&config))?.checkpointing(CHECKPOINTED))
    }

    fn samples(&self) -> &TokenSet {
        &self.prompts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::backend::Cpu;

    /// The extents are those of the real models: their parameters and adaptable layers are counted.
    #[test]
    fn the_extents_are_those_of_the_real_models() {
        let bert = MiniLmStep::config();
        let weights = MiniLmStep::weights(&bert);
        let linear = |w: &LinearWeights| w.weight.stored().len() + w.bias.len();
        let norms = |layers: usize| 2 * bert.hidden * (2 * layers + 1);
        let tables: usize =
            [&weights.words, &weights.positions, &weights.token_types].iter().map(|table| table.stored().len()).sum();
        let linears: usize = weights.layers.iter().flat_map(LayerWeights::linears).map(linear).sum();
        assert_eq!(tables + linears + norms(bert.layers), 22_565_376, "MiniLM-L6-v2 without its pooler");

        let llama = SmolLm2Step::<false>::config();
        let shapes: usize = llama.linear_shapes().iter().map(|(out, inp)| out * inp).sum();
        let norms = llama.hidden * (2 * llama.layers + 1);
        assert_eq!(llama.vocabulary * llama.hidden + llama.layers * shapes + norms, 134_515_008, "SmolLM2-135M");

        let model = MiniLmStep::new().model(&Cpu::<f32>::new()).unwrap();
        assert_eq!(model.sites().len(), 36);
    }
}
