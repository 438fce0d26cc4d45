//! A Llama as it stands in a GGUF file: llama.cpp's keys and tensor names, and its order of query and key rows undone.

use std::path::Path;
use std::sync::Arc;

use eblora_core::backend::{Packed, Stored};
use eblora_core::model::HostValues;
use eblora_core::model::llama::{BlockWeights, LinearWeights, LlamaConfig, LlamaWeights, Rope, RopeScaling};

use super::llama::{LlamaError, LlamaFolder, site_name};
use super::llama_config::LARGEST_EXTENT;
use crate::formats::gguf::{Gguf, GgufError, Value};

const ARCHITECTURE: &str = "llama";

impl LlamaFolder {
    /// Reads a GGUF file; its sites have the names of the Hugging Face folder that it was made from.
    pub fn read_gguf(path: &Path) -> Result<Self, LlamaError> {
        Self::from_gguf(&Gguf::read_file(path)?)
    }

    /// Takes the model out of a GGUF file.
    pub fn from_gguf(file: &Gguf) -> Result<Self, LlamaError> {
        let config = config(file)?;
        let weights = weights(file, &config)?;
        Ok(Self { source: file.source().to_owned(), config, weights })
    }
}

fn unsupported<T>(file: &Gguf, reason: String) -> Result<T, LlamaError> {
    Err(LlamaError::Unsupported { file: file.source().to_owned(), reason })
}

fn config(file: &Gguf) -> Result<LlamaConfig, LlamaError> {
    let architecture = file.text("general.architecture")?;
    if architecture != ARCHITECTURE {
        return unsupported(
            file,
            format!("a model of the architecture {architecture:?}; {ARCHITECTURE:?} can be read"),
        );
    }
    let count = |key: &str, default| -> Result<usize, LlamaError> {
        let key = format!("{ARCHITECTURE}.{key}");
        let extent = file.count(&key, default)?;
        if (1..=LARGEST_EXTENT).contains(&extent) {
            return Ok(extent);
        }
        let reason = format!("{extent} is not in 1..={LARGEST_EXTENT}");
        Err(GgufError::Key { file: file.source().to_owned(), key, reason }.into())
    };
    if let Some(Value::String(kind)) =
        file.get("llama.rope.scaling.type").filter(|v| **v != Value::String("none".into()))
    {
        return unsupported(file, format!("rope scaling of type {kind:?}; only files without it can be read"));
    }
    if file.info("rope_freqs.weight").is_some() {
        let reason = "rope factors (`rope_freqs.weight`); read the Hugging Face folder of this model instead";
        return unsupported(file, reason.to_owned());
    }
    let (hidden, heads) = (count("embedding_length", None)?, count("attention.head_count", None)?);
    let vocabulary = match file.info("token_embd.weight").map(|info| &info.shape[..]) {
        Some(&[vocabulary, _]) => vocabulary,
        _ => count("vocab_size", None)?,
    };
    let head_size = count("attention.key_length", Some((hidden / heads).max(1)))?;
    let turned = count("rope.dimension_count", Some(head_size))?;
    if turned != head_size {
        return unsupported(file, format!("{turned} turned values in heads of {head_size}: they must be as many"));
    }
    let config = LlamaConfig {
        vocabulary,
        hidden,
        layers: count("block_count", None)?,
        heads,
        kv_heads: count("attention.head_count_kv", Some(heads))?,
        head_size,
        mlp: count("feed_forward_length", None)?,
        positions: count("context_length", None)?,
        rms_norm_epsilon: file.number("llama.attention.layer_norm_rms_epsilon", None)?,
        rope: Rope { theta: file.number("llama.rope.freq_base", Some(10_000.0))?, scaling: RopeScaling::None },
    };
    match config.check() {
        Ok(()) => Ok(config),
        Err(error) => unsupported(file, error.to_string()),
    }
}

fn weights(file: &Gguf, config: &LlamaConfig) -> Result<LlamaWeights, LlamaError> {
    let (d, q, kv, mlp) = (config.hidden, config.query_width(), config.kv_width(), config.mlp);
    let mut blocks = Vec::with_capacity(config.layers.min(1024));
    for layer in 0..config.layers {
        let norm = |which: &str| file.tensor_f32(&format!("blk.{layer}.{which}.weight"), &[d]);
        let linear = |part: &str, module: &str, out: usize, inp: usize| -> Result<LinearWeights, LlamaError> {
            let weight = file.tensor(&format!("blk.{layer}.{part}.weight"), &[out, inp])?;
            let bias = format!("blk.{layer}.{part}.bias");
            let bias = file.info(&bias).is_some().then(|| file.tensor_f32(&bias, &[out])).transpose()?;
            Ok(LinearWeights { name: site_name(layer, module), weight, bias })
        };
        let turned = |part: &str, module: &str, heads: usize| -> Result<LinearWeights, LlamaError> {
            let linear = linear(part, module, heads * config.head_size, d)?;
            let weight = in_halves(&linear.weight, config.head_size, d);
            let bias = linear.bias.map(|bias| halves(&bias, config.head_size, 1));
            Ok(LinearWeights { weight, bias, ..linear })
        };
        blocks.push(BlockWeights {
            norm1: norm("attn_norm")?,
            query: turned("attn_q", "self_attn.q_proj", config.heads)?,
            key: turned("attn_k", "self_attn.k_proj", config.kv_heads)?,
            value: linear("attn_v", "self_attn.v_proj", kv, d)?,
            output: linear("attn_output", "self_attn.o_proj", d, q)?,
            norm2: norm("ffn_norm")?,
            gate: linear("ffn_gate", "mlp.gate_proj", mlp, d)?,
            up: linear("ffn_up", "mlp.up_proj", mlp, d)?,
            down: linear("ffn_down", "mlp.down_proj", d, mlp)?,
        });
    }
    let table = [config.vocabulary, d];
    let head = file.info("output.weight").is_some().then(|| file.tensor("output.weight", &table)).transpose()?;
    Ok(LlamaWeights {
        embedding: file.tensor("token_embd.weight", &table)?,
        blocks,
        norm: file.tensor_f32("output_norm.weight", &[d])?,
        head,
    })
}

/// [`halves`] of a matrix: of blocks, as they are unpacked.
fn in_halves(values: &HostValues, head_size: usize, cols: usize) -> HostValues {
    match values.plain() {
        Stored::F32(values) => HostValues::F32(halves(values, head_size, cols)),
        Stored::F16(bits) => HostValues::F16(halves(bits, head_size, cols)),
        Stored::Bf16(bits) => HostValues::Bf16(halves(bits, head_size, cols)),
        Stored::Packed(of) => HostValues::Packed(Arc::new(InHalves { of: of.clone(), head_size, cols })),
    }
}

/// The file's row that is row `row` of queries or keys in Hugging Face's order. There the pairs that turn together lie in the
/// two halves of a head; llama.cpp's converter lays them side by side.
fn row_in_file(row: usize, head_size: usize) -> usize {
    let (head, place, half) = (row / head_size * head_size, row % head_size, head_size / 2);
    head + if place < half { 2 * place } else { 2 * (place - half) + 1 }
}

/// Rows of queries or keys in Hugging Face's order.
fn halves<T: Copy>(rows: &[T], head_size: usize, cols: usize) -> Vec<T> {
    let row = |row| &rows[row_in_file(row, head_size) * cols..][..cols];
    (0..rows.len() / cols).flat_map(row).copied().collect()
}

/// A matrix whose rows are in the order that [`halves`] gives.
#[derive(Debug)]
struct InHalves {
    of: Arc<dyn Packed>,
    head_size: usize,
    cols: usize,
}

impl Packed for InHalves {
    fn len(&self) -> usize {
        self.of.len()
    }

    fn plain(&self) -> Option<Stored<'_>> {
        None
    }

    fn unpack(&self, mut first: usize, mut dst: &mut [f32]) {
        while !dst.is_empty() {
            let (row, col) = (first / self.cols, first % self.cols);
            let (part, rest) = dst.split_at_mut(dst.len().min(self.cols - col));
            Stored::Packed(&self.of).unpack(row_in_file(row, self.head_size) * self.cols + col, part);
            first += part.len();
            dst = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::halves;

    #[test]
    fn pairs_side_by_side_go_to_the_halves_of_their_head() {
        // Two heads of four rows, two columns; row numbers in llama.cpp's order.
        let rows: Vec<u32> = (0..16).collect();
        let ordered = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];
        assert_eq!(halves(&rows, 4, 2), ordered);
    }
}
