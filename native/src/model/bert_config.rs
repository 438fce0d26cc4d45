//! `config.json` of a BERT encoder: read, completed with Hugging Face's defaults, checked.

use eblora_core::backend::Activation;
use eblora_core::model::bert::BertConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::config_json::Kind;
use crate::formats::json;

/// The `model_type` that can be read.
const MODEL_TYPE: &str = "bert";
/// No extent in a config is larger, but that of a vocabulary: beyond it the file is damaged, and products could overflow.
const LARGEST_EXTENT: usize = 1 << 16;
const LARGEST_VOCABULARY: usize = 1 << 24;

/// Why a config could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BertConfigError {
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
    #[error("{file}: {found}; only a BERT encoder (`\"model_type\": \"{MODEL_TYPE}\"`) can be read")]
    OtherModel {
        /// The file.
        file: String,
        /// What it is instead.
        found: String,
    },
    /// A value that no BERT can have, that contradicts another, or that we can't compute with.
    #[error("{file}: `{key}`: {reason}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// Parses and checks the config of a `BertModel`, alone or under any head; `file` names the source in errors.
///
/// # Errors
/// When it is not such a config.
pub fn from_bytes(bytes: &[u8], file: &str) -> Result<BertConfig, BertConfigError> {
    // The type first: another model's config should not be told off for a key that a BERT lacks.
    if let Some(found) = parse::<Kind>(bytes, file)?.other_than(MODEL_TYPE, |only| only.starts_with("Bert")) {
        return Err(BertConfigError::OtherModel { file: file.to_owned(), found });
    }
    parse::<Raw>(bytes, file)?.check(file)
}

/// As in the file; what Hugging Face leaves out has the default of its `BertConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    position_embedding_type: Option<String>,
    is_decoder: bool,
    add_cross_attention: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            position_embedding_type: None,
            is_decoder: false,
            add_cross_attention: false,
        }
    }
}

impl Raw {
    fn check(self, file: &str) -> Result<BertConfig, BertConfigError> {
        let wrong = |key, reason: String| Err(BertConfigError::Value { file: file.to_owned(), key, reason });
        for (key, extent, largest) in [
            ("vocab_size", self.vocab_size, LARGEST_VOCABULARY),
            ("hidden_size", self.hidden_size, LARGEST_EXTENT),
            ("num_hidden_layers", self.num_hidden_layers, LARGEST_EXTENT),
            ("num_attention_heads", self.num_attention_heads, LARGEST_EXTENT),
            ("intermediate_size", self.intermediate_size, LARGEST_EXTENT),
            ("max_position_embeddings", self.max_position_embeddings, LARGEST_EXTENT),
            ("type_vocab_size", self.type_vocab_size, LARGEST_EXTENT),
        ] {
            if !(1..=largest).contains(&extent) {
                return wrong(key, format!("{extent} is not in 1..={largest}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let reason = format!("{} heads do not divide hidden_size {}", self.num_attention_heads, self.hidden_size);
            return wrong("num_attention_heads", reason);
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return wrong("layer_norm_eps", format!("{} is not a positive number", self.layer_norm_eps));
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => return wrong("position_embedding_type", format!("{other:?} is not known; \"absolute\" is")),
        }
        for (key, set) in [("is_decoder", self.is_decoder), ("add_cross_attention", self.add_cross_attention)] {
            if set {
                return wrong(key, "a decoder is not an encoder of texts".to_owned());
            }
        }
        let activation = match self.hidden_act.as_str() {
            "gelu" | "gelu_python" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "silu" | "swish" => Activation::Silu,
            other => {
                let reason = format!("{other:?} can't be computed; \"gelu\", \"gelu_new\" and \"silu\" can");
                return wrong("hidden_act", reason);
            }
        };
        Ok(BertConfig {
            vocabulary: self.vocab_size,
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            mlp: self.intermediate_size,
            positions: self.max_position_embeddings,
            token_types: self.type_vocab_size,
            layer_norm_epsilon: self.layer_norm_eps,
            activation,
        })
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T, BertConfigError> {
    json::parse(bytes).map_err(|(path, reason)| BertConfigError::Json { file: file.to_owned(), path, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(keys: &str) -> String {
        from_bytes(format!(r#"{{"model_type":"bert",{keys}}}"#).as_bytes(), "config.json").unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_hugging_face() {
        let config = from_bytes(br#"{"model_type":"bert","unknown":[1]}"#, "f").unwrap();
        assert_eq!((config.vocabulary, config.hidden, config.layers, config.heads), (30522, 768, 12, 12));
        assert_eq!((config.mlp, config.positions, config.token_types), (3072, 512, 2));
        assert_eq!((config.layer_norm_epsilon, config.activation), (1e-12, Activation::Gelu));
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn activations_have_several_names() {
        for (name, kind) in [
            ("gelu", Activation::Gelu),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("swish", Activation::Silu),
        ] {
            let json = format!(r#"{{"model_type":"bert","hidden_act":"{name}"}}"#);
            assert_eq!(from_bytes(json.as_bytes(), "f").unwrap().activation, kind, "{name}");
        }
        assert!(message(r#""hidden_act":"relu""#).contains("`hidden_act`: \"relu\" can't be computed"));
    }

    #[test]
    fn each_fault_has_one_precise_message() {
        assert_eq!(message(r#""hidden_size":"x""#).split(": ").nth(1), Some("at `hidden_size`"));
        assert!(message(r#""num_attention_heads":5"#).contains("5 heads do not divide hidden_size 768"));
        assert!(message(r#""vocab_size":0"#).contains("`vocab_size`: 0 is not in 1..="));
        assert!(message(r#""intermediate_size":100000"#).contains("100000 is not in"));
        assert!(message(r#""layer_norm_eps":0"#).contains("not a positive number"));
        assert!(message(r#""position_embedding_type":"relative_key""#).contains("\"relative_key\" is not known"));
        assert!(message(r#""is_decoder":true"#).contains("`is_decoder`"));
        assert!(message(r#""add_cross_attention":true"#).contains("`add_cross_attention`"));
    }

    #[test]
    fn configs_of_others_are_told_apart() {
        let message = |json: &str| from_bytes(json.as_bytes(), "f").unwrap_err().to_string();
        assert!(message(r#"{"model_type":"roberta","hidden_size":"x"}"#).contains("`\"model_type\": \"roberta\"`"));
        let other = message(r#"{"model_type":"bert","architectures":["RobertaModel"]}"#);
        assert!(other.contains("the config of a RobertaModel"));
        for ours in ["BertModel", "BertForSequenceClassification", "BertForMaskedLM"] {
            let json = format!(r#"{{"model_type":"bert","architectures":["{ours}"]}}"#);
            assert!(from_bytes(json.as_bytes(), "f").is_ok(), "{ours}");
        }
        assert!(message("{}").contains("no `model_type`"));
        assert!(matches!(from_bytes(b"not json", "f"), Err(BertConfigError::Json { .. })));
        assert!(matches!(from_bytes(b"[]", "f"), Err(BertConfigError::Json { .. })));
    }
}
