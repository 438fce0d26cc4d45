//! A Hugging Face folder of a BERT encoder, alone (`BertModel`) or under a head, as plain data for the core.
//!
//! A head's own weights are not read: ours stand on the mean of the tokens' states, Hugging Face's on a pooler.

use std::fs;
use std::path::Path;

use eblora_core::model::HostValues;
use eblora_core::model::bert::{BertConfig, BertWeights, LayerWeights, LinearWeights, NormWeights};
use thiserror::Error;

use super::bert_config::{self, BertConfigError};
use crate::formats::safetensors::{SafetensorsError, Tensors};

/// What stands before the encoder's names where it is under a head.
const PREFIX: &str = "bert.";
const WORDS: &str = "embeddings.word_embeddings.weight";

/// Why a BERT folder could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BertError {
    /// The system refused.
    #[error("cannot read {file}: {source}; a Hugging Face BERT folder is expected")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The config.
    #[error(transparent)]
    Config(#[from] BertConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] SafetensorsError),
    /// The weights of something else.
    #[error("{file}: neither `{WORDS}` nor `{PREFIX}{WORDS}` is there: not the weights of a BERT encoder")]
    NoEncoder {
        /// The file or folder.
        file: String,
    },
}

/// Config and weights of a BERT encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct BertFolder {
    /// Where it comes from, for messages and reports.
    pub source: String,
    /// The extents.
    pub config: BertConfig,
    /// The tensors; each linear layer is called as in the file.
    pub weights: BertWeights,
}

impl BertFolder {
    /// Reads a folder: `config.json` and the weights (single or sharded).
    ///
    /// # Errors
    /// When it is not the folder of a BERT encoder.
    pub fn read(folder: &Path) -> Result<Self, BertError> {
        let path = folder.join("config.json");
        let file = path.display().to_string();
        let bytes = fs::read(&path).map_err(|source| BertError::Read { file: file.clone(), source })?;
        let config = bert_config::from_bytes(&bytes, &file)?;
        Self::from_parts(folder.display().to_string(), config, Tensors::read_folder(folder)?)
    }

    /// Takes the weights of an encoder with these extents out of `tensors`; what is left over is ignored.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn from_parts(source: String, config: BertConfig, mut tensors: Tensors) -> Result<Self, BertError> {
        let prefix = match ["", PREFIX].into_iter().find(|prefix| tensors.contains(&format!("{prefix}{WORDS}"))) {
            Some(prefix) => prefix,
            None => return Err(BertError::NoEncoder { file: tensors.source().to_owned() }),
        };
        let weights = Encoder { tensors: &mut tensors, prefix }.weights(&config)?;
        Ok(Self { source, config, weights })
    }
}

/// The encoder's tensors under their names.
struct Encoder<'a> {
    tensors: &'a mut Tensors,
    prefix: &'static str,
}

impl Encoder<'_> {
    fn weights(&mut self, config: &BertConfig) -> Result<BertWeights, SafetensorsError> {
        let (d, mlp) = (config.hidden, config.mlp);
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            layers.push(LayerWeights {
                query: self.linear(&name("attention.self.query"), d, d)?,
                key: self.linear(&name("attention.self.key"), d, d)?,
                value: self.linear(&name("attention.self.value"), d, d)?,
                output: self.linear(&name("attention.output.dense"), d, d)?,
                norm1: self.norm(&name("attention.output.LayerNorm"), d)?,
                fc1: self.linear(&name("intermediate.dense"), mlp, d)?,
                fc2: self.linear(&name("output.dense"), d, mlp)?,
                norm2: self.norm(&name("output.LayerNorm"), d)?,
            });
        }
        Ok(BertWeights {
            words: self.stored(WORDS, &[config.vocabulary, d])?,
            positions: self.stored("embeddings.position_embeddings.weight", &[config.positions, d])?,
            token_types: self.stored("embeddings.token_type_embeddings.weight", &[config.token_types, d])?,
            norm: self.norm("embeddings.LayerNorm", d)?,
            layers,
        })
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, SafetensorsError> {
        self.tensors.take_shaped(&format!("{}{name}", self.prefix), shape)
    }

    fn stored(&mut self, name: &str, shape: &[usize]) -> Result<HostValues, SafetensorsError> {
        self.tensors.take_stored_shaped(&format!("{}{name}", self.prefix), shape)
    }

    fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<LinearWeights, SafetensorsError> {
        Ok(LinearWeights {
            name: format!("{}{name}", self.prefix),
            weight: self.stored(&format!("{name}.weight"), &[rows, cols])?,
            bias: self.take(&format!("{name}.bias"), &[rows])?,
        })
    }

    /// Files converted from TensorFlow, as BERT's own are, say γ and β.
    fn norm(&mut self, name: &str, d: usize) -> Result<NormWeights, SafetensorsError> {
        let old = self.tensors.contains(&format!("{}{name}.gamma", self.prefix));
        let [weight, bias] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        Ok(NormWeights {
            weight: self.take(&format!("{name}.{weight}"), &[d])?,
            bias: self.take(&format!("{name}.{bias}"), &[d])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::safetensors::tests::counting_file;
    use safetensors::tensor::Dtype;

    const CONFIG: &str = r#"{"model_type":"bert","vocab_size":7,"hidden_size":4,"num_hidden_layers":1,
        "num_attention_heads":2,"intermediate_size":6,"max_position_embeddings":5}"#;

    type Shapes = Vec<(String, Vec<usize>)>;

    /// Names and shapes of a small encoder.
    fn shapes(prefix: &str, norm: [&str; 2]) -> Shapes {
        let mut all: Vec<(String, Vec<usize>)> = vec![
            ("embeddings.word_embeddings.weight".into(), vec![7, 4]),
            ("embeddings.position_embeddings.weight".into(), vec![5, 4]),
            ("embeddings.token_type_embeddings.weight".into(), vec![2, 4]),
        ];
        for (part, rows, cols) in [
            ("attention.self.query", 4, 4),
            ("attention.self.key", 4, 4),
            ("attention.self.value", 4, 4),
            ("attention.output.dense", 4, 4),
            ("intermediate.dense", 6, 4),
            ("output.dense", 4, 6),
        ] {
            all.push((format!("encoder.layer.0.{part}.weight"), vec![rows, cols]));
            all.push((format!("encoder.layer.0.{part}.bias"), vec![rows]));
        }
        for name in ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"] {
            all.extend(norm.map(|part| (format!("{name}.LayerNorm.{part}"), vec![4])));
        }
        all.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect()
    }

    fn read(config: &str, list: &Shapes, kind: Dtype) -> Result<BertFolder, BertError> {
        let config = bert_config::from_bytes(config.as_bytes(), "config.json")?;
        BertFolder::from_parts(
            "test".into(),
            config,
            Tensors::from_bytes(counting_file(list, kind), "model.safetensors")?,
        )
    }

    /// All matrices in f32.
    fn widened(mut folder: BertFolder) -> BertFolder {
        let weights = &mut folder.weights;
        let mut all = vec![&mut weights.words, &mut weights.positions, &mut weights.token_types];
        for layer in &mut weights.layers {
            let LayerWeights { query, key, value, output, fc1, fc2, .. } = layer;
            all.extend([query, key, value, output, fc1, fc2].map(|linear| &mut linear.weight));
        }
        all.into_iter().for_each(|values| *values = HostValues::F32(values.to_f32()));
        folder
    }

    #[test]
    fn prefix_norm_names_and_float_type_make_no_difference() {
        let plain = read(CONFIG, &shapes("", ["weight", "bias"]), Dtype::F32).unwrap();
        assert_eq!(plain.weights.layers[0].fc1.name, "encoder.layer.0.intermediate.dense");
        assert_eq!(
            plain.weights.layers[0].query.weight.to_f32()[..5],
            [12.0, 13.0, 14.0, 15.0, 12.0],
            "the fourth tensor"
        );
        for kind in [Dtype::F16, Dtype::BF16] {
            let other = read(CONFIG, &shapes("", ["weight", "bias"]), kind).unwrap();
            assert_ne!(other, plain, "weights stay as they are stored");
            assert_eq!(widened(other), plain);
        }
        let mut under = read(CONFIG, &shapes("bert.", ["gamma", "beta"]), Dtype::F32).unwrap();
        let layer = &mut under.weights.layers[0];
        for linear in
            [&mut layer.query, &mut layer.key, &mut layer.value, &mut layer.output, &mut layer.fc1, &mut layer.fc2]
        {
            linear.name = linear.name.strip_prefix("bert.").unwrap().to_owned();
        }
        assert_eq!(under, plain);
    }

    #[test]
    fn each_fault_has_one_precise_message() {
        let all = shapes("bert.", ["weight", "bias"]);
        for (name, _) in &all {
            let list = all.iter().filter(|(n, _)| n != name).cloned().collect();
            let message = read(CONFIG, &list, Dtype::F32).unwrap_err().to_string();
            let told = if name.ends_with(WORDS) { "not the weights of a BERT encoder" } else { name };
            assert!(message.contains(told), "{message}");
        }
        for (i, (name, shape)) in all.iter().enumerate() {
            let mut list = all.clone();
            list[i].1[0] += 1;
            let message = read(CONFIG, &list, Dtype::F32).unwrap_err().to_string();
            assert!(message.contains(&format!("tensor `{name}` has shape {:?}", list[i].1)), "{message}");
            assert!(message.contains(&format!("{shape:?} is due")), "{message}");
        }
        let deeper = CONFIG.replace(r#""num_hidden_layers":1"#, r#""num_hidden_layers":2"#);
        let message = read(&deeper, &all, Dtype::F32).unwrap_err().to_string();
        assert!(message.contains("no tensor `bert.encoder.layer.1.attention.self.query.weight`"), "{message}");
        assert!(matches!(BertFolder::read(Path::new("no/such/folder")), Err(BertError::Read { .. })));
    }

    #[test]
    fn folders_are_read_and_their_faults_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
        write("config.json", b"{");
        assert!(matches!(BertFolder::read(folder), Err(BertError::Config(BertConfigError::Json { .. }))));
        write("config.json", br#"{"model_type":"vit"}"#);
        assert!(matches!(BertFolder::read(folder), Err(BertError::Config(BertConfigError::OtherModel { .. }))));
        write("config.json", CONFIG.as_bytes());
        assert!(matches!(BertFolder::read(folder), Err(BertError::Weights(SafetensorsError::NoWeights { .. }))));
        let whole = counting_file(&shapes("", ["weight", "bias"]), Dtype::F32);
        write("model.safetensors", &whole[..whole.len() / 2]);
        assert!(matches!(BertFolder::read(folder), Err(BertError::Weights(SafetensorsError::Truncated { .. }))));
        write("model.safetensors", &whole);
        assert_eq!(BertFolder::read(folder).unwrap().config.vocabulary, 7);
    }
}
