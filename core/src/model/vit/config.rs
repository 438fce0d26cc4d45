//! Extents of a ViT and its weights as plain host data.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backend::Activation;
use crate::model::{HostValues, ModelError};

/// How the final hidden states become one feature vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The class token's state (Hugging Face's default).
    Class,
    /// The mean over all tokens.
    Mean,
}

/// How features become logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// `W·f + b`.
    Linear,
    /// `scale·P·f/‖f‖` with frozen prototypes P in the rows of the classifier weight.
    Prototype {
        /// Factor of the cosines.
        scale: f64,
    },
}

/// Extents and switches of a Vision Transformer (pre-norm, as Hugging Face's `ViTForImageClassification`).
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Width d of the hidden states.
    pub hidden: usize,
    /// Number of blocks L.
    pub layers: usize,
    /// Attention heads; they divide d.
    pub heads: usize,
    /// Width of the MLP.
    pub mlp: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Height and width of the image.
    pub image: usize,
    /// Height and width of a patch; it divides the image.
    pub patch: usize,
    /// Number of labels.
    pub classes: usize,
    /// ε of the layer norms.
    pub layer_norm_epsilon: f64,
    /// The activation of the MLP.
    pub gelu: Activation,
    /// Whether a class token stands before the patches.
    pub class_token: bool,
    /// Pooling of the final states.
    pub pooling: Pooling,
    /// The classifier.
    pub head: Head,
    /// Pixel scaling: `(byte·rescale − mean[c])/std[c]`.
    pub preprocess: Preprocess,
}

/// How bytes become the model's input: `(byte·rescale − mean[c])/std[c]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Factor of the byte, 1/255 as a rule.
    pub rescale: f64,
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel.
    pub std: Vec<f64>,
}

impl VitConfig {
    /// Tokens of a sequence, the class token included.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.class_token)
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        (self.image / self.patch) * (self.image / self.patch)
    }

    /// Values of a patch: channels × patch².
    pub fn patch_values(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// Values of an image.
    pub fn pixels(&self) -> usize {
        self.channels * self.image * self.image
    }

    /// Checks that the extents fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] says what does not.
    pub fn check(&self) -> Result<(), ModelError> {
        let refuse = |what: String| Err(ModelError::Config { what });
        let extents = [
            ("hidden size", self.hidden),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("MLP size", self.mlp),
            ("number of channels", self.channels),
            ("image size", self.image),
            ("patch size", self.patch),
            ("number of labels", self.classes),
        ];
        for (name, value) in extents {
            if value == 0 {
                return refuse(format!("the {name} is 0"));
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return refuse(format!("{} heads don't divide the hidden size {}", self.heads, self.hidden));
        }
        if !self.image.is_multiple_of(self.patch) {
            return refuse(format!("patches of {0}×{0} don't tile an image of {1}×{1}", self.patch, self.image));
        }
        if self.pooling == Pooling::Class && !self.class_token {
            return refuse("class-token pooling without a class token".into());
        }
        for (name, list) in [("means", &self.preprocess.mean), ("standard deviations", &self.preprocess.std)] {
            if list.len() != self.channels {
                return refuse(format!("{} {name} for {} channels", list.len(), self.channels));
            }
        }
        if self.preprocess.std.iter().any(|&s| s <= 0.0 || !s.is_finite()) {
            return refuse("a standard deviation of the pixels is not positive".into());
        }
        Ok(())
    }
}

/// One frozen linear layer on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeights {
    /// The tensor's name in its file, without `.weight`; it names the site.
    pub name: String,
    /// out×in, row-major, as the file stores them.
    pub weight: HostValues,
    /// out values.
    pub bias: Option<Vec<f32>>,
}

/// Gain and shift of a layer norm.
#[derive(Clone, Debug, PartialEq)]
pub struct NormWeights {
    /// γ.
    pub weight: Vec<f32>,
    /// β.
    pub bias: Vec<f32>,
}

/// One block on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockWeights {
    /// Norm before the attention.
    pub norm1: NormWeights,
    /// Query projection, d×d.
    pub query: LinearWeights,
    /// Key projection, d×d.
    pub key: LinearWeights,
    /// Value projection, d×d.
    pub value: LinearWeights,
    /// Attention output projection, d×d.
    pub output: LinearWeights,
    /// Norm before the MLP.
    pub norm2: NormWeights,
    /// First MLP layer, mlp×d.
    pub fc1: LinearWeights,
    /// Second MLP layer, d×mlp.
    pub fc2: LinearWeights,
}

impl BlockWeights {
    /// Its linear layers in the order of the forward pass.
    pub(super) fn linears(&self) -> [&LinearWeights; 6] {
        [&self.query, &self.key, &self.value, &self.output, &self.fc1, &self.fc2]
    }
}

/// All weights of a ViT on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct VitWeights {
    /// d×(channels·patch²): the patch convolution, flattened; its bias has d values.
    pub patch: LinearWeights,
    /// tokens×d.
    pub position: Vec<f32>,
    /// d values, where the configuration has a class token.
    pub class_token: Option<Vec<f32>>,
    /// The blocks.
    pub blocks: Vec<BlockWeights>,
    /// The final norm.
    pub norm: NormWeights,
    /// classes×d: linear head, or the prototypes in its rows (then without a bias).
    pub classifier: LinearWeights,
}
