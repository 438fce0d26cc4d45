//! A whole Hugging Face folder of a Llama that lies in a GGUF file, with an adapter's updates added to its weights.
//!
//! Blocks of few bits can't hold an update, so the weights are unpacked: to 16 bits, or to 32 where the file has any matrix
//! of 32. No more than one of them is in memory at a time. Tokenizer and config come from the file's metadata.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use eblora_core::backend::Stored;
use eblora_core::faer::Mat;
use eblora_core::model::llama::{LinearWeights, LlamaConfig, LlamaWeights};
use half::f16;
use safetensors::tensor::Dtype;
use serde_json::{Value as Json, json};

use super::merged::prepare_empty;
use super::modules::{Target, assign};
use super::{PeftAdapter, PeftError, PeftLayer};
use crate::Error;
use crate::formats::atomic::{self, WriteError};
use crate::formats::gguf::{Gguf, Value};
use crate::formats::safetensors::SINGLE_FILE;
use crate::model::llama::LlamaFolder;
use crate::model::llama_tokenizer;

/// Values that are unpacked at a time.
const PIECE: usize = 1 << 14;

/// One tensor of the folder.
struct Tensor<'a> {
    name: String,
    shape: Vec<usize>,
    values: Stored<'a>,
    update: Option<&'a PeftLayer>,
}

/// Writes the folder to `out`, which must be new or empty. The config comes last: a folder that has it is whole.
///
/// # Errors
/// When the file is no Llama that can be read, a module of the adapter matches no weight, a sum is not finite in the type of
/// the weights, or something can't be written.
pub fn write_unpacked(file: &Path, adapter: &PeftAdapter, out: &Path) -> Result<(), Error> {
    if adapter.layers.is_empty() {
        return Err(PeftError::Empty { what: "cannot be merged".to_owned() }.into());
    }
    let gguf = Gguf::read_file(file).map_err(crate::model::llama::LlamaError::from)?;
    let LlamaFolder { config, weights, .. } = LlamaFolder::from_gguf(&gguf)?;
    let tensors = tensors(&config, &weights, adapter, &file.display().to_string())?;
    let wide = tensors.iter().any(|t| t.shape.len() == 2 && matches!(t.values, Stored::F32(_)));
    let dtype = if wide { Dtype::F32 } else { Dtype::F16 };
    prepare_empty(out)?;
    let text = |name: &str, value: Json| atomic::write(&out.join(name), (format!("{value:#}\n")).as_bytes());
    text("tokenizer.json", llama_tokenizer::description(&gguf)?)?;
    text("tokenizer_config.json", tokenizer_config(&gguf))?;
    let target = out.join(SINGLE_FILE);
    atomic::write_by(&target, |file| write_tensors(file, &target, &tensors, dtype))?;
    Ok(text("config.json", model_config(&gguf, &config, &weights, dtype))?)
}

/// Everything under the names of a `LlamaForCausalLM`, each adapted layer with its update.
fn tensors<'a>(
    config: &LlamaConfig,
    weights: &'a LlamaWeights,
    adapter: &'a PeftAdapter,
    place: &str,
) -> Result<Vec<Tensor<'a>>, PeftError> {
    let shapes = config.linear_shapes();
    let mut all = Vec::new();
    let plain = |name: String, shape: Vec<usize>, values| Tensor { name, shape, values, update: None };
    let table = vec![config.vocabulary, config.hidden];
    all.push(plain("model.embed_tokens.weight".into(), table.clone(), weights.embedding.stored()));
    let mut targets = Vec::new();
    let mut places = Vec::new();
    for (l, block) in weights.blocks.iter().enumerate() {
        for (name, norm) in [("input_layernorm", &block.norm1), ("post_attention_layernorm", &block.norm2)] {
            let name = format!("model.layers.{l}.{name}.weight");
            all.push(plain(name, vec![norm.len()], Stored::F32(norm)));
        }
        for (linear, (rows, cols)) in block.linears().into_iter().zip(shapes) {
            targets.push(Target::weight(&linear.name, (rows, cols), false));
            places.push(all.len());
            all.push(plain(format!("{}.weight", linear.name), vec![rows, cols], linear.weight.stored()));
            if let Some(bias) = &linear.bias {
                all.push(plain(format!("{}.bias", linear.name), vec![rows], Stored::F32(bias)));
            }
        }
    }
    all.push(plain("model.norm.weight".into(), vec![weights.norm.len()], Stored::F32(&weights.norm)));
    if let Some(head) = &weights.head {
        all.push(plain("lm_head.weight".into(), table, head.stored()));
    }
    for (layer, target) in adapter.layers.iter().zip(assign(&adapter.layers, &targets, place)?) {
        all[places[target]].update = Some(layer);
    }
    Ok(all)
}

/// A safetensors file: the length of the header, the header, the tensors.
fn write_tensors(file: &mut File, target: &Path, tensors: &[Tensor<'_>], dtype: Dtype) -> Result<(), PeftError> {
    let failed = |source: io::Error| PeftError::from(WriteError::File { file: target.to_owned(), source });
    let size = if dtype == Dtype::F32 { 4 } else { 2 };
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut start = 0;
    for tensor in tensors {
        let end = start + size * tensor.values.len();
        let entry = json!({ "dtype": dtype.to_string(), "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut header = Json::Object(header).to_string();
    // Data are aligned.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut out = BufWriter::new(file);
    out.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| out.write_all(header.as_bytes()))
        .map_err(failed)?;
    let mut piece = vec![0.0_f32; PIECE];
    let mut bytes = Vec::with_capacity(4 * PIECE);
    for tensor in tensors {
        let delta: Option<Mat<f32>> = tensor.update.map(|layer| layer.lora.delta());
        for first in (0..tensor.values.len()).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(tensor.values.len() - first)];
            tensor.values.unpack(first, piece);
            if let Some(delta) = &delta {
                let cols = delta.ncols();
                piece.iter_mut().enumerate().for_each(|(i, x)| *x += delta[((first + i) / cols, (first + i) % cols)]);
            }
            bytes.clear();
            let mut finite = true;
            for &x in &*piece {
                if dtype == Dtype::F32 {
                    bytes.extend(x.to_le_bytes());
                    finite &= x.is_finite();
                } else {
                    let half = f16::from_f32(x);
                    bytes.extend(half.to_le_bytes());
                    finite &= half.is_finite();
                }
            }
            if !finite {
                let (tensor, dtype) = (tensor.name.clone(), dtype.to_string());
                return Err(PeftError::Overflow { file: target.to_owned(), tensor, dtype });
            }
            out.write_all(&bytes).map_err(failed)?;
        }
    }
    out.flush().map_err(failed)
}

fn model_config(gguf: &Gguf, config: &LlamaConfig, weights: &LlamaWeights, dtype: Dtype) -> Json {
    let has = |which: &[usize]| {
        let has = |linear: &LinearWeights| linear.bias.is_some();
        weights.blocks.iter().any(|block| which.iter().any(|&i| has(block.linears()[i])))
    };
    let dtype = if dtype == Dtype::F32 { "float32" } else { "float16" };
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.positions,
        "rms_norm_eps": config.rms_norm_epsilon,
        "rope_theta": config.rope.theta,
        "tie_word_embeddings": weights.head.is_none(),
        "attention_bias": has(&[0, 1, 2, 3]),
        "mlp_bias": has(&[4, 5, 6]),
        "torch_dtype": dtype,
        "bos_token_id": token(gguf, "bos"),
        "eos_token_id": token(gguf, "eos"),
    })
}

fn tokenizer_config(gguf: &Gguf) -> Json {
    let text = |which: &str| {
        let id = token(gguf, which).and_then(|id| usize::try_from(id).ok())?;
        match gguf.list("tokenizer.ggml.tokens").ok()?.get(id)? {
            Value::String(text) => Some(text.clone()),
            _ => None,
        }
    };
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text("bos"),
        "eos_token": text("eos"),
        "unk_token": text("unknown"),
        "pad_token": text("padding"),
        "chat_template": gguf.text("tokenizer.chat_template").ok(),
        "clean_up_tokenization_spaces": false,
    })
}

fn token(gguf: &Gguf, which: &str) -> Option<u64> {
    let key = format!("tokenizer.ggml.{which}_token_id");
    gguf.count(&key, None).ok().map(|id| id as u64)
}
