//! A Llama as it stands in a Hugging Face folder: extents and weights for the core's model, under the folder's names.

use std::fs;
use std::path::Path;

use eblora_core::model::llama::{BlockWeights, LinearWeights, LlamaConfig, LlamaWeights};
use thiserror::Error;

use super::llama_config::{self, LlamaConfigError};
use crate::formats::gguf::GgufError;
use crate::formats::safetensors::{SafetensorsError, Tensors};

/// Why a Llama could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LlamaError {
    /// The system refused.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The config can't be used.
    #[error(transparent)]
    Config(#[from] LlamaConfigError),
    /// The weights of a folder can't.
    #[error(transparent)]
    Weights(#[from] SafetensorsError),
    /// A GGUF file can't.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A GGUF file of something else, or with something that is not known.
    #[error("{file}: {reason}")]
    Unsupported {
        /// The file.
        file: String,
        /// What it holds.
        reason: String,
    },
}

/// A Llama on the host.
#[derive(Clone, Debug)]
pub struct LlamaFolder {
    /// Where it comes from, for messages.
    pub source: String,
    /// Its extents.
    pub config: LlamaConfig,
    /// Its weights: 16-bit ones as stored.
    pub weights: LlamaWeights,
}

/// The name of a linear's module in layer `layer`, such as `self_attn.q_proj`.
pub(super) fn site_name(layer: usize, module: &str) -> String {
    format!("model.layers.{layer}.{module}")
}

impl LlamaFolder {
    /// Reads a folder: `config.json` and the weights (single or sharded).
    pub fn read(folder: &Path) -> Result<Self, LlamaError> {
        let path = folder.join("config.json");
        let file = path.display().to_string();
        let bytes = fs::read(&path).map_err(|source| LlamaError::Read { file: file.clone(), source })?;
        let parsed = llama_config::from_bytes(&bytes, &file)?;
        Self::from_parts(folder.display().to_string(), parsed, Tensors::read_folder(folder)?)
    }

    /// Takes the weights of a model with this config out of `tensors`; what is left over is ignored.
    pub fn from_parts(
        source: String,
        file: llama_config::LlamaConfigFile,
        mut tensors: Tensors,
    ) -> Result<Self, LlamaError> {
        let weights = read_weights(&file, &mut tensors)?;
        Ok(Self { source, config: file.config, weights })
    }
}

fn read_weights(file: &llama_config::LlamaConfigFile, tensors: &mut Tensors) -> Result<LlamaWeights, LlamaError> {
    let config = &file.config;
    let (d, q, kv, mlp) = (config.hidden, config.query_width(), config.kv_width(), config.mlp);
    let embedding = tensors.take_stored_shaped("model.embed_tokens.weight", &[config.vocabulary, d])?;
    let mut blocks = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let mut norm = |which: &str| tensors.take_shaped(&format!("model.layers.{layer}.{which}.weight"), &[d]);
        let (norm1, norm2) = (norm("input_layernorm")?, norm("post_attention_layernorm")?);
        let mut linear = |module: &str, out: usize, inp: usize, bias: bool| -> Result<LinearWeights, LlamaError> {
            let name = site_name(layer, module);
            let weight = tensors.take_stored_shaped(&format!("{name}.weight"), &[out, inp])?;
            let bias = bias.then(|| tensors.take_shaped(&format!("{name}.bias"), &[out])).transpose()?;
            Ok(LinearWeights { name, weight, bias })
        };
        let (attention, inner) = (file.attention_bias, file.mlp_bias);
        blocks.push(BlockWeights {
            norm1,
            query: linear("self_attn.q_proj", q, d, attention)?,
            key: linear("self_attn.k_proj", kv, d, attention)?,
            value: linear("self_attn.v_proj", kv, d, attention)?,
            output: linear("self_attn.o_proj", d, q, attention)?,
            norm2,
            gate: linear("mlp.gate_proj", mlp, d, inner)?,
            up: linear("mlp.up_proj", mlp, d, inner)?,
            down: linear("mlp.down_proj", d, mlp, inner)?,
        });
    }
    let norm = tensors.take_shaped("model.norm.weight", &[d])?;
    let head = match file.tied {
        true => None,
        false => Some(tensors.take_stored_shaped("lm_head.weight", &[config.vocabulary, d])?),
    };
    Ok(LlamaWeights { embedding, blocks, norm, head })
}
