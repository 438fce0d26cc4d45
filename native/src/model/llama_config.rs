//! `config.json` of a Llama: read, completed with Hugging Face's defaults, checked.

use eblora_core::model::llama::{LlamaConfig, Rope, RopeScaling};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::config_json::other_type;
use crate::formats::json;

/// The `model_type` that can be read.
const MODEL_TYPE: &str = "llama";
/// No extent in a config is larger: beyond it the file is damaged, and products could overflow.
pub(super) const LARGEST_EXTENT: usize = 1 << 20;

/// Why a config could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LlamaConfigError {
    /// Not JSON, or a key of the wrong type.
    #[error("{file}: at `{path}`: {reason}")]
    Json {
        /// The file.
        file: String,
        /// The key.
        path: String,
        /// What the parser says.
        reason: String,
    },
    /// The config of something else.
    #[error("{file}: {found}; only a Llama (`\"model_type\": \"{MODEL_TYPE}\"`) can be read")]
    OtherModel {
        /// The file.
        file: String,
        /// What it is instead.
        found: String,
    },
    /// A scaling of the rotary positions that is not known.
    #[error("{file}: rope scaling of type {kind:?}; none (\"default\") and \"llama3\" are known")]
    RopeScaling {
        /// The file.
        file: String,
        /// Its type.
        kind: String,
    },
    /// A value that no Llama can have, or that contradicts another.
    #[error("{file}: `{key}`: {reason}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// Extents that don't fit together.
    #[error("{file}: {source}")]
    Extents {
        /// The file.
        file: String,
        /// Which.
        source: eblora_core::model::ModelError,
    },
}

/// The checked content of `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfigFile {
    /// The extents.
    pub config: LlamaConfig,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Whether the linears of the attention have biases.
    pub attention_bias: bool,
    /// Whether those of the MLP have.
    pub mlp_bias: bool,
}

/// Parses and checks; `file` names the source in errors.
pub fn from_bytes(bytes: &[u8], file: &str) -> Result<LlamaConfigFile, LlamaConfigError> {
    // The type first: another model's config should not be told off for a key that a Llama lacks.
    let kind: Kind = parse(bytes, file)?;
    match other_type(kind.model_type.as_deref(), MODEL_TYPE) {
        None => parse::<Raw>(bytes, file)?.check(file),
        Some(found) => Err(LlamaConfigError::OtherModel { file: file.to_owned(), found }),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T, LlamaConfigError> {
    json::parse(bytes).map_err(|(path, reason)| LlamaConfigError::Json { file: file.to_owned(), path, reason })
}

#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

/// As in the file; what Hugging Face leaves out has the default of its `LlamaConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: String,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    attention_bias: bool,
    mlp_bias: bool,
    /// transformers 4.
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    /// transformers 5.
    rope_parameters: Option<RawRope>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            vocab_size: 32_000,
            hidden_size: 4096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            hidden_act: "silu".to_owned(),
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            rope_theta: None,
            rope_scaling: None,
            rope_parameters: None,
        }
    }
}

impl Raw {
    fn check(self, file: &str) -> Result<LlamaConfigFile, LlamaConfigError> {
        let wrong = |key, reason| Err(LlamaConfigError::Value { file: file.to_owned(), key, reason });
        for (key, extent) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads.unwrap_or(1)),
            ("head_dim", self.head_dim.unwrap_or(1)),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if !(1..=LARGEST_EXTENT).contains(&extent) {
                return wrong(key, format!("{extent} is not in 1..={LARGEST_EXTENT}"));
            }
        }
        if self.hidden_act != "silu" {
            return wrong("hidden_act", format!("{:?} is not known; \"silu\" is", self.hidden_act));
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let reason = format!("{} heads do not divide hidden_size {}", self.num_attention_heads, self.hidden_size);
            return wrong("num_attention_heads", reason);
        }
        let config = LlamaConfig {
            vocabulary: self.vocab_size,
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_size: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads),
            mlp: self.intermediate_size,
            positions: self.max_position_embeddings,
            rms_norm_epsilon: self.rms_norm_eps,
            rope: self.rope(file)?,
        };
        config.check().map_err(|source| LlamaConfigError::Extents { file: file.to_owned(), source })?;
        Ok(LlamaConfigFile {
            config,
            tied: self.tie_word_embeddings,
            attention_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
        })
    }

    fn rope(&self, file: &str) -> Result<Rope, LlamaConfigError> {
        let raw = self.rope_parameters.clone().or_else(|| self.rope_scaling.clone()).unwrap_or_default();
        let due = |key, value: Option<f64>| {
            let reason = "missing, but rope scaling \"llama3\" needs it".to_owned();
            value.ok_or(LlamaConfigError::Value { file: file.to_owned(), key, reason })
        };
        let scaling = match raw.rope_type.as_deref() {
            None | Some("default") => RopeScaling::None,
            Some("llama3") => RopeScaling::Llama3 {
                factor: due("factor", raw.factor)?,
                low_frequency: due("low_freq_factor", raw.low_freq_factor)?,
                high_frequency: due("high_freq_factor", raw.high_freq_factor)?,
                original_positions: raw.original_max_position_embeddings.unwrap_or(self.max_position_embeddings),
            },
            Some(kind) => {
                return Err(LlamaConfigError::RopeScaling { file: file.to_owned(), kind: kind.to_owned() });
            }
        };
        Ok(Rope { theta: raw.rope_theta.or(self.rope_theta).unwrap_or(10_000.0), scaling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Result<LlamaConfigFile, LlamaConfigError> {
        from_bytes(format!(r#"{{"model_type":"llama"{keys}}}"#).as_bytes(), "config.json")
    }

    #[test]
    fn what_is_left_out_has_hugging_faces_default() {
        let file = read("").unwrap();
        let config = &file.config;
        assert_eq!((config.hidden, config.kv_heads, config.head_size), (4096, 32, 128));
        assert_eq!((config.rope, file.tied), (Rope { theta: 10_000.0, scaling: RopeScaling::None }, false));
    }

    #[test]
    fn rope_is_read_as_both_generations_of_transformers_write_it() {
        let keys = r#""factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":32"#;
        let four = read(&format!(r#","rope_theta":5e5,"rope_scaling":{{"rope_type":"llama3",{keys}}}"#)).unwrap();
        let old = read(&format!(r#","rope_theta":5e5,"rope_scaling":{{"type":"llama3",{keys}}}"#)).unwrap();
        let five = read(&format!(r#","rope_parameters":{{"rope_theta":5e5,"rope_type":"llama3",{keys}}}"#)).unwrap();
        let (factor, low_frequency, high_frequency, original_positions) = (8.0, 1.0, 4.0, 32);
        let scaling = RopeScaling::Llama3 { factor, low_frequency, high_frequency, original_positions };
        for file in [four, old, five] {
            assert_eq!(file.config.rope, Rope { theta: 5e5, scaling });
        }
        let error = read(r#","rope_scaling":{"type":"yarn","factor":4}"#).unwrap_err();
        assert!(matches!(error, LlamaConfigError::RopeScaling { kind, .. } if kind == "yarn"));
        let error = read(r#","rope_scaling":{"rope_type":"llama3"}"#).unwrap_err();
        assert_eq!(error.to_string(), "config.json: `factor`: missing, but rope scaling \"llama3\" needs it");
    }

    #[test]
    fn each_fault_is_named() {
        let message = |keys: &str| read(keys).unwrap_err().to_string();
        assert!(from_bytes(b"{}", "f").unwrap_err().to_string().contains("no `model_type`"));
        assert!(from_bytes(br#"{"model_type":"vit"}"#, "f").unwrap_err().to_string().contains("another model"));
        assert!(message(r#","hidden_size":0"#).contains("`hidden_size`: 0 is not in"));
        assert!(message(r#","vocab_size":99999999999"#).contains("`vocab_size`"));
        assert!(message(r#","num_attention_heads":3"#).contains("3 heads do not divide hidden_size 4096"));
        assert!(message(r#","num_key_value_heads":5"#).contains("don't divide 32 heads"));
        assert!(message(r#","head_dim":3"#).contains("no halves to turn"));
        assert!(message(r#","hidden_act":"gelu""#).contains("\"gelu\" is not known"));
        assert!(message(r#","rms_norm_eps":-1"#).contains("not a positive number"));
        assert!(message(r#","rms_norm_eps":"x""#).contains("at `rms_norm_eps`"));
    }
}
