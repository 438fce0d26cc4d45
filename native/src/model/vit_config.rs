//! `config.json` and `preprocessor_config.json` of a ViT: read, completed with Hugging Face's defaults, checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::config_json::Kind;
use crate::formats::json;

/// The `model_type` that can be read.
const MODEL_TYPE: &str = "vit";
/// No extent in a config is larger: beyond it the file is damaged, and products could overflow.
const LARGEST_EXTENT: usize = 1 << 16;

/// Why a config could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
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
    #[error("{file}: {found}; only a ViT for image classification (`\"model_type\": \"{MODEL_TYPE}\"`) can be read")]
    OtherModel {
        /// The file.
        file: String,
        /// What it is instead.
        found: String,
    },
    /// A value that no ViT can have, or that contradicts another.
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

/// What stands between the two linears of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenAct {
    /// `x·Φ(x)` with the error function.
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
}

/// How the tokens become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The class token.
    #[default]
    Cls,
    /// The mean of all tokens.
    Mean,
}

/// How that vector becomes logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// `W·pooled + b`.
    #[default]
    Linear,
    /// `logit_scale · P·pooled/‖pooled‖` with frozen prototypes `P`, no bias.
    Prototype,
}

/// The checked content of `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfigFile {
    /// Width d of a token.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Its activation.
    pub hidden_act: HiddenAct,
    /// ε of every layer norm.
    pub layer_norm_eps: f64,
    /// Height and width of an image.
    pub image_size: usize,
    /// Height and width p of a patch; divides `image_size`.
    pub patch_size: usize,
    /// Channels c of an image.
    pub num_channels: usize,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// The labels' names, in order.
    pub labels: Vec<String>,
    /// Whether a class token goes before the patches (ours; default true).
    pub use_class_token: bool,
    /// How tokens are pooled (ours; default `"cls"`).
    pub pooling: Pooling,
    /// The head (ours; default `"linear"`).
    pub head: Head,
    /// Factor of the prototype head (ours; default 1).
    pub logit_scale: f64,
}

impl VitConfigFile {
    /// Parses and checks; `file` names the source in errors.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self, ConfigError> {
        // The type first: another model's config should not be told off for a key that a ViT lacks.
        let kind: Kind = parse(bytes, file)?;
        if let Some(found) = kind.other_than(MODEL_TYPE, |only| only == "ViTForImageClassification") {
            return Err(ConfigError::OtherModel { file: file.to_owned(), found });
        }
        parse::<Raw>(bytes, file)?.check(file)
    }

    /// Number of patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Number of tokens: the patches and, where there is one, the class token.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.use_class_token)
    }

    /// Number of values in a patch, `c·p·p`.
    pub fn patch_len(&self) -> usize {
        self.num_channels * self.patch_size * self.patch_size
    }
}

/// How bytes become the model's input: `(byte·rescale_factor − mean)/std`, per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Mean per channel.
    pub image_mean: Vec<f64>,
    /// Standard deviation per channel.
    pub image_std: Vec<f64>,
    /// Factor of the bytes.
    pub rescale_factor: f64,
}

impl Preprocess {
    /// Hugging Face's default: bytes to −1…1.
    pub fn default_for(channels: usize) -> Self {
        Self { image_mean: vec![0.5; channels], image_std: vec![0.5; channels], rescale_factor: 1.0 / 255.0 }
    }

    /// Parses and checks `preprocessor_config.json` for a model of so many channels.
    pub fn from_bytes(bytes: &[u8], file: &str, channels: usize) -> Result<Self, ConfigError> {
        let raw: RawPreprocess = parse(bytes, file)?;
        let scale = if raw.do_rescale { raw.rescale_factor } else { 1.0 };
        if !(scale.is_finite() && scale > 0.0) {
            return Err(value(file, "rescale_factor", format!("{scale} is not a positive number")));
        }
        if !raw.do_normalize {
            return Ok(Self { image_mean: vec![0.0; channels], image_std: vec![1.0; channels], rescale_factor: scale });
        }
        let image_mean = per_channel(raw.image_mean, 0.5, channels, file, "image_mean")?;
        let image_std = per_channel(raw.image_std, 0.5, channels, file, "image_std")?;
        if let Some(bad) = image_std.iter().find(|&&s| s <= 0.0) {
            return Err(value(file, "image_std", format!("{bad} is not positive")));
        }
        Ok(Self { image_mean, image_std, rescale_factor: scale })
    }
}

/// One value for each channel, or one for all of them.
fn per_channel(
    given: Option<Vec<f64>>,
    default: f64,
    channels: usize,
    file: &str,
    key: &'static str,
) -> Result<Vec<f64>, ConfigError> {
    let mut values = given.unwrap_or_else(|| vec![default]);
    if values.len() == 1 {
        values = vec![values[0]; channels];
    }
    if values.len() != channels {
        return Err(value(file, key, format!("{} values for a model of {channels} channel(s)", values.len())));
    }
    match values.iter().find(|v| !v.is_finite()) {
        Some(bad) => Err(value(file, key, format!("{bad} is not finite"))),
        None => Ok(values),
    }
}

/// As in the file; what Hugging Face leaves out has the default of its `ViTConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    image_size: Side,
    patch_size: Side,
    num_channels: usize,
    qkv_bias: bool,
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<usize>,
    use_class_token: bool,
    pooling: Pooling,
    head: Head,
    logit_scale: f64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            image_size: Side::One(224),
            patch_size: Side::One(16),
            num_channels: 3,
            qkv_bias: true,
            id2label: None,
            num_labels: None,
            use_class_token: true,
            pooling: Pooling::default(),
            head: Head::default(),
            logit_scale: 1.0,
        }
    }
}

/// Hugging Face writes a side as `28` or as `[28, 28]`.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a number or a pair of numbers")]
enum Side {
    One(usize),
    Two(usize, usize),
}

impl Side {
    fn square(self, file: &str, key: &'static str) -> Result<usize, ConfigError> {
        match self {
            Self::One(side) => Ok(side),
            Self::Two(height, width) if height == width => Ok(height),
            Self::Two(height, width) => Err(value(file, key, format!("{height}×{width} is not square"))),
        }
    }
}

impl Raw {
    fn check(self, file: &str) -> Result<VitConfigFile, ConfigError> {
        let wrong = |key, reason: String| Err(value(file, key, reason));
        let image_size = self.image_size.square(file, "image_size")?;
        let patch_size = self.patch_size.square(file, "patch_size")?;
        for (key, extent) in [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("image_size", image_size),
            ("patch_size", patch_size),
            ("num_channels", self.num_channels),
        ] {
            if !(1..=LARGEST_EXTENT).contains(&extent) {
                return wrong(key, format!("{extent} is not in 1..={LARGEST_EXTENT}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let reason = format!("{} heads do not divide hidden_size {}", self.num_attention_heads, self.hidden_size);
            return wrong("num_attention_heads", reason);
        }
        if !image_size.is_multiple_of(patch_size) {
            return wrong("patch_size", format!("{patch_size} does not divide image_size {image_size}"));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return wrong("layer_norm_eps", format!("{} is not a positive number", self.layer_norm_eps));
        }
        if !(self.logit_scale.is_finite() && self.logit_scale > 0.0) {
            return wrong("logit_scale", format!("{} is not a positive number", self.logit_scale));
        }
        if self.pooling == Pooling::Cls && !self.use_class_token {
            return wrong("pooling", "\"cls\" needs a class token, but `use_class_token` is false".to_owned());
        }
        let hidden_act = match self.hidden_act.as_str() {
            "gelu" => HiddenAct::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => HiddenAct::GeluTanh,
            other => return wrong("hidden_act", format!("{other:?} is not known; \"gelu\" and \"gelu_new\" are")),
        };
        Ok(VitConfigFile {
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            image_size,
            patch_size,
            num_channels: self.num_channels,
            qkv_bias: self.qkv_bias,
            labels: labels(self.id2label, self.num_labels, file)?,
            use_class_token: self.use_class_token,
            pooling: self.pooling,
            head: self.head,
            logit_scale: self.logit_scale,
        })
    }
}

/// The labels' names in order; the ids must be exactly 0…n−1.
fn labels(
    id2label: Option<BTreeMap<String, String>>,
    num_labels: Option<usize>,
    file: &str,
) -> Result<Vec<String>, ConfigError> {
    let Some(given) = id2label else {
        let count = num_labels.unwrap_or(2); // Hugging Face's default
        if !(1..=LARGEST_EXTENT).contains(&count) {
            return Err(value(file, "num_labels", format!("{count} is not in 1..={LARGEST_EXTENT}")));
        }
        return Ok((0..count).map(|i| format!("LABEL_{i}")).collect());
    };
    let mut names = vec![None; given.len()];
    for (id, name) in given {
        match id.parse::<usize>().ok().and_then(|i| names.get_mut(i)) {
            Some(place) => *place = Some(name),
            None => {
                return Err(value(file, "id2label", format!("the ids must be 0 to {}, not {id:?}", names.len() - 1)));
            }
        }
    }
    match names.into_iter().collect::<Option<Vec<_>>>() {
        Some(names) if !names.is_empty() => Ok(names),
        _ => Err(value(file, "id2label", "the ids must be 0, 1, 2, …, each once".to_owned())),
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct RawPreprocess {
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
}

impl Default for RawPreprocess {
    fn default() -> Self {
        Self { do_rescale: true, rescale_factor: 1.0 / 255.0, do_normalize: true, image_mean: None, image_std: None }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T, ConfigError> {
    json::parse(bytes).map_err(|(path, reason)| ConfigError::Json { file: file.to_owned(), path, reason })
}

fn value(file: &str, key: &'static str, reason: String) -> ConfigError {
    ConfigError::Value { file: file.to_owned(), key, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<VitConfigFile, ConfigError> {
        VitConfigFile::from_bytes(json.as_bytes(), "config.json")
    }

    fn message(keys: &str) -> String {
        read(&format!(r#"{{"model_type":"vit",{keys}}}"#)).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_hugging_face() {
        let config = read(r#"{"model_type":"vit","unknown":[1]}"#).unwrap();
        assert_eq!((config.hidden_size, config.tokens(), config.patch_len()), (768, 197, 768));
        assert_eq!(config.labels, ["LABEL_0", "LABEL_1"]);
        assert_eq!((config.pooling, config.head, config.logit_scale), (Pooling::Cls, Head::Linear, 1.0));
    }

    #[test]
    fn our_own_keys_are_read() {
        let config = read(
            r#"{"model_type":"vit","image_size":[28,28],"patch_size":7,"use_class_token":false,"pooling":"mean",
                "head":"prototype","logit_scale":12,"id2label":{"1":"b","0":"a"}}"#,
        )
        .unwrap();
        assert_eq!((config.tokens(), config.pooling, config.head), (16, Pooling::Mean, Head::Prototype));
        assert_eq!(config.labels, ["a", "b"]);
    }

    #[test]
    fn each_fault_has_one_precise_message() {
        assert_eq!(message(r#""hidden_size":"x""#).split(": ").nth(1), Some("at `hidden_size`"));
        assert!(message(r#""num_attention_heads":5"#).contains("5 heads do not divide hidden_size 768"));
        assert!(message(r#""patch_size":15"#).contains("15 does not divide image_size 224"));
        assert!(message(r#""image_size":[28,32]"#).contains("28×32 is not square"));
        assert!(message(r#""hidden_size":0"#).contains("0 is not in 1..="));
        assert!(message(r#""hidden_act":"swish""#).contains("\"swish\" is not known"));
        assert!(message(r#""pooling":"max""#).contains("at `pooling`"));
        assert!(message(r#""use_class_token":false"#).contains("needs a class token"));
        assert!(message(r#""id2label":{"0":"a","2":"b"}"#).contains("must be 0 to 1, not \"2\""));
        assert!(message(r#""id2label":{"0":"a","00":"b"}"#).contains("each once"));
        assert!(message(r#""id2label":{}"#).contains("each once"));
        assert!(message(r#""layer_norm_eps":0"#).contains("not a positive number"));
    }

    #[test]
    fn configs_of_others_are_told_apart() {
        let message = |json: &str| read(json).unwrap_err().to_string();
        assert!(
            message(r#"{"model_type":"bert","hidden_size":"x"}"#)
                .contains("another model (`\"model_type\": \"bert\"`)")
        );
        assert!(
            message(r#"{"model_type":"vit","architectures":["ViTMAEModel"]}"#).contains("the config of a ViTMAEModel")
        );
        assert!(message("{}").contains("no `model_type`"));
        assert!(matches!(read("not json"), Err(ConfigError::Json { .. })));
    }

    #[test]
    fn preprocessing_is_completed_and_checked() {
        let read = |json: &str, channels| Preprocess::from_bytes(json.as_bytes(), "p.json", channels);
        assert_eq!(read("{}", 3).unwrap(), Preprocess::default_for(3));
        assert_eq!(read(r#"{"image_mean":[0.2],"image_std":[0.33]}"#, 2).unwrap().image_mean, [0.2, 0.2]);
        let off = read(r#"{"do_normalize":false,"do_rescale":false}"#, 1).unwrap();
        assert_eq!((off.rescale_factor, &off.image_mean[..], &off.image_std[..]), (1.0, &[0.0][..], &[1.0][..]));
        assert!(read(r#"{"image_std":[0.0]}"#, 1).unwrap_err().to_string().contains("`image_std`: 0 is not positive"));
        assert!(read(r#"{"image_mean":[1,2]}"#, 3).unwrap_err().to_string().contains("2 values for a model of 3"));
    }
}
