//! A Hugging Face `ViTForImageClassification` folder as plain data.

use eblora_core::model::HostValues;
use eblora_core::model::vit::class_row;
use thiserror::Error;

use super::vit_config::{ConfigError, Head, Preprocess, VitConfigFile};
use super::vit_names::{self as names, Site};
use crate::formats::files::At;
use crate::formats::safetensors::{SafetensorsError, Tensors};

/// Why a ViT folder could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VitError {
    /// The system refused.
    #[error("cannot read {file}: {source}; a Hugging Face ViT folder is expected")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// One of the configs.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] SafetensorsError),
    /// A tensor is there under none of its names.
    #[error("{file}: no tensor `{}` (transformers 4) nor `{}` (transformers 5)", .names[0], .names[1])]
    MissingSite {
        /// The file or folder.
        file: String,
        /// Its two names.
        names: [String; 2],
    },
    /// The weights have no head.
    #[error("{file}: no tensor `classifier.weight`: a ViT without a head; save it as ViTForImageClassification")]
    NoHead {
        /// The file or folder.
        file: String,
    },
    /// The head has another number of labels than the config.
    #[error("{file}: `classifier.weight` has {found} rows, but config.json names {labels} labels")]
    Labels {
        /// The file or folder.
        file: String,
        /// Rows of the weight.
        found: usize,
        /// Labels of the config.
        labels: usize,
    },
    /// A prototype head with a bias.
    #[error("{file}: `classifier.bias` is there, but a head of prototypes (`\"head\": \"prototype\"`) has none")]
    PrototypeBias {
        /// The file or folder.
        file: String,
    },
    /// A class token where the config says there is none.
    #[error("{file}: `{}` is there, but config.json says `\"use_class_token\": false`", names::CLASS_TOKEN)]
    ClassToken {
        /// The file or folder.
        file: String,
    },
}

/// Config, preprocessing and weights of a ViT.
#[derive(Clone, Debug, PartialEq)]
pub struct VitFolder {
    /// Where it comes from, for messages and reports.
    pub source: String,
    /// `config.json`.
    pub config: VitConfigFile,
    /// `preprocessor_config.json`, or the default.
    pub preprocess: Preprocess,
    /// The tensors.
    pub weights: VitWeights,
}

/// All weights; matrices row by row in the `[out, in]` orientation.
#[derive(Clone, Debug, PartialEq)]
pub struct VitWeights {
    /// Patch projection as a linear `[d, c·p·p]`.
    pub patch_projection: LinearWeights,
    /// Positions `[tokens, d]`.
    pub position: Vec<f32>,
    /// Class token `[d]`.
    pub class_token: Option<Vec<f32>>,
    /// The layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Layer norm after the last layer.
    pub final_norm: NormWeights,
    /// The head `[labels, d]`.
    pub classifier: LinearWeights,
}

/// One layer: `x + o(attention(q, k, v of ln1(x)))`, then `x + fc2(act(fc1(ln2(x))))`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWeights {
    /// Layer norm before the attention.
    pub ln1: NormWeights,
    /// Query `[d, d]`.
    pub q: LinearWeights,
    /// Key `[d, d]`.
    pub k: LinearWeights,
    /// Value `[d, d]`.
    pub v: LinearWeights,
    /// Output of the attention `[d, d]`.
    pub o: LinearWeights,
    /// Layer norm before the MLP.
    pub ln2: NormWeights,
    /// First linear of the MLP `[intermediate, d]`.
    pub fc1: LinearWeights,
    /// Second linear of the MLP `[d, intermediate]`.
    pub fc2: LinearWeights,
}

impl LayerWeights {
    /// The linear at a site.
    pub fn linear(&self, site: Site) -> &LinearWeights {
        match site {
            Site::Q => &self.q,
            Site::K => &self.k,
            Site::V => &self.v,
            Site::O => &self.o,
            Site::Fc1 => &self.fc1,
            Site::Fc2 => &self.fc2,
        }
    }
}

/// Weight `[rows, cols]` = `[out, in]` and bias `[rows]` of a linear.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeights {
    /// The file's own name, without `.weight`.
    pub file_name: String,
    /// Output size.
    pub rows: usize,
    /// Input size.
    pub cols: usize,
    /// `rows·cols` values, row by row, as the file stores them.
    pub weight: HostValues,
    /// `rows` values.
    pub bias: Option<Vec<f32>>,
}

/// Gain and bias of a layer norm, `[d]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct NormWeights {
    /// Gain.
    pub weight: Vec<f32>,
    /// Bias.
    pub bias: Vec<f32>,
}

impl VitFolder {
    /// Reads a folder: `config.json`, `preprocessor_config.json` if there, and the weights (single or sharded).
    pub fn read(folder: impl Into<At>) -> Result<Self, VitError> {
        let folder = folder.into();
        let named = |file: &str| folder.join(file).path().display().to_string();
        let read = |file: &str| folder.join(file).read().map_err(|source| VitError::Read { file: named(file), source });
        let config = VitConfigFile::from_bytes(&read("config.json")?, &named("config.json"))?;
        let processor = "preprocessor_config.json";
        let preprocess = if folder.join(processor).exists() {
            Preprocess::from_bytes(&read(processor)?, &named(processor), config.num_channels)?
        } else {
            Preprocess::default_for(config.num_channels)
        };
        Self::from_parts(folder.path().display().to_string(), config, preprocess, Tensors::read_folder(folder)?)
    }

    /// Takes the weights of a model with this config out of `tensors`; what is left over is ignored.
    pub fn from_parts(
        source: String,
        config: VitConfigFile,
        preprocess: Preprocess,
        mut tensors: Tensors,
    ) -> Result<Self, VitError> {
        let weights = read_weights(&config, &mut tensors)?;
        Ok(Self { source, config, preprocess, weights })
    }

    /// Gives the frozen head a row for a class that it doesn't know: [`class_row`], and the mean of the biases.
    pub fn add_class(&mut self, name: &str) {
        let head = &mut self.weights.classifier;
        let mut rows = head.weight.to_f32();
        rows.extend(class_row(&rows, head.cols, name));
        head.weight = HostValues::F32(rows);
        if let Some(bias) = &mut head.bias {
            bias.push(bias.iter().sum::<f32>() / bias.len().max(1) as f32);
        }
        head.rows += 1;
        self.config.labels.push(name.to_owned());
    }

    /// Every linear that can be adapted, layer by layer in the order of the forward pass.
    pub fn adapted(&self) -> impl Iterator<Item = (usize, Site, &LinearWeights)> {
        self.weights
            .layers
            .iter()
            .enumerate()
            .flat_map(|(i, layer)| Site::ALL.map(|site| (i, site, layer.linear(site))))
    }
}

fn read_weights(config: &VitConfigFile, tensors: &mut Tensors) -> Result<VitWeights, VitError> {
    let (d, mlp) = (config.hidden_size, config.intermediate_size);
    let file = tensors.source().to_owned();
    let patch = [d, config.num_channels, config.patch_size, config.patch_size];
    let patch_projection = LinearWeights {
        file_name: names::PATCH_PROJECTION.to_owned(),
        rows: d,
        cols: config.patch_len(),
        weight: tensors.take_stored_shaped(&format!("{}.weight", names::PATCH_PROJECTION), &patch)?,
        bias: Some(tensors.take_shaped(&format!("{}.bias", names::PATCH_PROJECTION), &[d])?),
    };
    let position = tensors.take_shaped(names::POSITION, &[1, config.tokens(), d])?;
    let class_token = match (config.use_class_token, tensors.contains(names::CLASS_TOKEN)) {
        (true, _) => Some(tensors.take_shaped(names::CLASS_TOKEN, &[1, 1, d])?),
        (false, true) => return Err(VitError::ClassToken { file }),
        (false, false) => None,
    };
    let mut layers = Vec::new();
    for layer in 0..config.num_hidden_layers {
        let mut site = |site: Site, rows, cols, bias| {
            let name = present(tensors, site.candidates(layer))?;
            linear(tensors, name, rows, cols, bias)
        };
        let [q, k, v] = [Site::Q, Site::K, Site::V].map(|s| site(s, d, d, config.qkv_bias));
        let o = site(Site::O, d, d, true)?;
        let fc1 = site(Site::Fc1, mlp, d, true)?;
        let fc2 = site(Site::Fc2, d, mlp, true)?;
        let mut layer_norm = |which| {
            let name = present(tensors, names::layer_norm(layer, which))?;
            norm(tensors, &name, d)
        };
        let (ln1, ln2) = (layer_norm("layernorm_before")?, layer_norm("layernorm_after")?);
        layers.push(LayerWeights { ln1, q: q?, k: k?, v: v?, o, ln2, fc1, fc2 });
    }
    let final_norm = norm(tensors, names::FINAL_NORM, d)?;
    Ok(VitWeights { patch_projection, position, class_token, layers, final_norm, classifier: head(config, tensors)? })
}

/// The head, which must have the labels of the config.
fn head(config: &VitConfigFile, tensors: &mut Tensors) -> Result<LinearWeights, VitError> {
    let file = tensors.source().to_owned();
    let (weight, bias) = (format!("{}.weight", names::CLASSIFIER), format!("{}.bias", names::CLASSIFIER));
    if !tensors.contains(&weight) {
        return Err(VitError::NoHead { file });
    }
    let labels = config.labels.len();
    if let Some(&[found, _]) = tensors.shape(&weight)
        && found != labels
    {
        return Err(VitError::Labels { file, found, labels });
    }
    let has_bias = tensors.contains(&bias);
    if has_bias && config.head == Head::Prototype {
        return Err(VitError::PrototypeBias { file });
    }
    linear(tensors, names::CLASSIFIER.to_owned(), labels, config.hidden_size, has_bias)
}

/// The one of the two names under which the file holds the module.
fn present(tensors: &Tensors, names: [String; 2]) -> Result<String, VitError> {
    match names.iter().find(|name| tensors.contains(&format!("{name}.weight"))) {
        Some(name) => Ok(name.clone()),
        None => Err(VitError::MissingSite {
            file: tensors.source().to_owned(),
            names: names.map(|name| format!("{name}.weight")),
        }),
    }
}

fn linear(
    tensors: &mut Tensors,
    name: String,
    rows: usize,
    cols: usize,
    bias: bool,
) -> Result<LinearWeights, VitError> {
    let weight = tensors.take_stored_shaped(&format!("{name}.weight"), &[rows, cols])?;
    let bias = bias.then(|| tensors.take_shaped(&format!("{name}.bias"), &[rows])).transpose()?;
    Ok(LinearWeights { file_name: name, rows, cols, weight, bias })
}

fn norm(tensors: &mut Tensors, name: &str, d: usize) -> Result<NormWeights, VitError> {
    Ok(NormWeights {
        weight: tensors.take_shaped(&format!("{name}.weight"), &[d])?,
        bias: tensors.take_shaped(&format!("{name}.bias"), &[d])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::safetensors::tests::counting_file;
    use crate::model::vit_checksum::checksum;
    use safetensors::tensor::Dtype;
    use std::path::Path;

    const CONFIG: &str = r#"{"model_type":"vit","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":2,
        "intermediate_size":6,"image_size":4,"patch_size":2,"num_channels":1,"id2label":{"0":"a","1":"b","2":"c"}}"#;

    /// Names and shapes of a small model, under the names of one of the layouts.
    fn tensors(layout: usize) -> Vec<(String, Vec<usize>)> {
        let mut all: Vec<(String, Vec<usize>)> = vec![
            ("vit.embeddings.cls_token".into(), vec![1, 1, 4]),
            ("vit.embeddings.position_embeddings".into(), vec![1, 5, 4]),
            ("vit.embeddings.patch_embeddings.projection.weight".into(), vec![4, 1, 2, 2]),
            ("vit.embeddings.patch_embeddings.projection.bias".into(), vec![4]),
            ("classifier.weight".into(), vec![3, 4]),
            ("classifier.bias".into(), vec![3]),
        ];
        for site in Site::ALL {
            let (rows, cols) = match site {
                Site::Fc1 => (6, 4),
                Site::Fc2 => (4, 6),
                _ => (4, 4),
            };
            let name = site.candidates(0)[layout].clone();
            all.push((format!("{name}.weight"), vec![rows, cols]));
            all.push((format!("{name}.bias"), vec![rows]));
        }
        let mut norms =
            ["layernorm_before", "layernorm_after"].map(|n| names::layer_norm(0, n)[layout].clone()).to_vec();
        norms.push("vit.layernorm".into());
        for name in norms {
            all.extend(["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![4])));
        }
        all
    }

    fn read(config: &str, list: &[(String, Vec<usize>)]) -> Result<VitFolder, VitError> {
        read_stored(config, list, Dtype::F32)
    }

    fn read_stored(config: &str, list: &[(String, Vec<usize>)], kind: Dtype) -> Result<VitFolder, VitError> {
        let config = VitConfigFile::from_bytes(config.as_bytes(), "config.json")?;
        let tensors = Tensors::from_bytes(counting_file(list, kind), "model.safetensors")?;
        VitFolder::from_parts("test".into(), config, Preprocess::default_for(1), tensors)
    }

    #[test]
    fn both_layouts_give_the_same_weights_and_keep_their_names() {
        let (four, five) = (read(CONFIG, &tensors(0)).unwrap(), read(CONFIG, &tensors(1)).unwrap());
        assert_eq!(four.adapted().count(), 6);
        for ((_, site, a), (_, _, b)) in four.adapted().zip(five.adapted()) {
            assert_eq!((&a.weight, &a.bias), (&b.weight, &b.bias));
            assert_eq!((&a.file_name, &b.file_name), (&site.transformers4(0), &site.transformers5(0)));
        }
        assert_eq!(four.weights.layers[0].ln1, five.weights.layers[0].ln1);
        assert_eq!(four.weights.patch_projection.weight.stored().len(), 16);
        assert_eq!(
            four.weights.layers[0].fc1.weight.to_f32()[..5],
            [56.0, 57.0, 58.0, 59.0, 56.0],
            "fc1 is the fifteenth tensor"
        );
    }

    #[test]
    fn weights_stay_as_they_are_stored() {
        let plain = read(CONFIG, &tensors(0)).unwrap();
        for kind in [Dtype::F16, Dtype::BF16] {
            let mut stored = read_stored(CONFIG, &tensors(0), kind).unwrap();
            assert_eq!(checksum(&stored), checksum(&plain));
            for ((_, site, a), (_, _, b)) in stored.adapted().zip(plain.adapted()) {
                assert!(a != b && a.weight.stored().len() == a.rows * a.cols, "{site:?} is widened");
                assert_eq!((a.weight.to_f32(), &a.bias), (b.weight.to_f32(), &b.bias));
            }
            stored.add_class("d");
            assert_eq!(stored.weights.classifier.weight.stored().len(), 4 * 4);
        }
    }

    #[test]
    fn each_fault_has_one_precise_message() {
        let without = |name: &str| {
            let list: Vec<_> = tensors(0).into_iter().filter(|(n, _)| n != name).collect();
            read(CONFIG, &list).unwrap_err().to_string()
        };
        assert_eq!(
            without("vit.encoder.layer.0.output.dense.weight"),
            "model.safetensors: no tensor `vit.encoder.layer.0.output.dense.weight` (transformers 4) \
             nor `vit.layers.0.mlp.fc2.weight` (transformers 5)"
        );
        assert!(without("vit.encoder.layer.0.output.dense.bias").contains("output.dense.bias"));
        assert!(without("classifier.weight").contains("a ViT without a head"));
        assert!(without("vit.embeddings.cls_token").contains("no tensor `vit.embeddings.cls_token`"));
        let message = |from: &str, to: &str| read(&CONFIG.replace(from, to), &tensors(0)).unwrap_err().to_string();
        assert!(message(r#","2":"c""#, "").contains("has 3 rows, but config.json names 2 labels"));
        assert!(
            message(r#""intermediate_size":6"#, r#""intermediate_size":8"#).contains("[6, 4], where [8, 4] is due")
        );
        assert!(
            message(r#""model_type":"vit""#, r#""model_type":"vit","head":"prototype""#).contains("`classifier.bias`")
        );
        let mean = r#""model_type":"vit","use_class_token":false,"pooling":"mean","image_size":4"#;
        let mut positions = tensors(0);
        positions[1].1 = vec![1, 4, 4];
        let config = CONFIG.replace(r#""model_type":"vit""#, mean).replacen(r#","image_size":4"#, "", 1);
        assert!(matches!(read(&config, &positions), Err(VitError::ClassToken { .. })));
        assert!(matches!(VitFolder::read(Path::new("no/such/folder")), Err(VitError::Read { .. })));
    }
}
