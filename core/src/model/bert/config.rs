//! Extents of a BERT encoder and its weights as plain host data.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::backend::Activation;
use crate::model::{HostValues, ModelError};

/// Extents of a BERT encoder (Devlin et al. 2019), as Hugging Face's `BertModel`.
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Number of tokens that the model knows.
    pub vocabulary: usize,
    /// Width d of the hidden states.
    pub hidden: usize,
    /// Number of layers L.
    pub layers: usize,
    /// Attention heads; they divide d.
    pub heads: usize,
    /// Width of the MLP.
    pub mlp: usize,
    /// Most tokens of a text: rows of the position embeddings.
    pub positions: usize,
    /// Rows of the token type embeddings, of which the first is used.
    pub token_types: usize,
    /// ε of the layer norms.
    pub layer_norm_epsilon: f64,
    /// The activation of the MLP.
    pub activation: Activation,
}

impl BertConfig {
    /// Checks that the extents fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] says what does not.
    pub fn check(&self) -> Result<(), ModelError> {
        let refuse = |what: String| Err(ModelError::Config { what });
        let extents = [
            ("size of the vocabulary", self.vocabulary),
            ("hidden size", self.hidden),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("MLP size", self.mlp),
            ("number of positions", self.positions),
            ("number of token types", self.token_types),
        ];
        for (name, value) in extents {
            if value == 0 {
                return refuse(format!("the {name} is 0"));
            }
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return refuse(format!("{} heads don't divide the hidden size {}", self.heads, self.hidden));
        }
        if self.vocabulary > u32::MAX as usize {
            return refuse(format!("a vocabulary of {} is more than 32 bits can number", self.vocabulary));
        }
        if !(self.layer_norm_epsilon.is_finite() && self.layer_norm_epsilon > 0.0) {
            return refuse(format!("the ε of the layer norms is {}, not a positive number", self.layer_norm_epsilon));
        }
        Ok(())
    }
}

/// One frozen linear layer on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeights {
    /// The tensor's name in its file, without `.weight`; it names the site.
    pub name: String,
    /// out×in, row-major, as stored.
    pub weight: HostValues,
    /// out values.
    pub bias: Vec<f32>,
}

/// Gain and shift of a layer norm, d values each.
#[derive(Clone, Debug, PartialEq)]
pub struct NormWeights {
    /// γ.
    pub weight: Vec<f32>,
    /// β.
    pub bias: Vec<f32>,
}

/// One layer on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWeights {
    /// Query projection, d×d.
    pub query: LinearWeights,
    /// Key projection, d×d.
    pub key: LinearWeights,
    /// Value projection, d×d.
    pub value: LinearWeights,
    /// Attention output projection, d×d.
    pub output: LinearWeights,
    /// Norm after the attention.
    pub norm1: NormWeights,
    /// First MLP layer, mlp×d.
    pub fc1: LinearWeights,
    /// Second MLP layer, d×mlp.
    pub fc2: LinearWeights,
    /// Norm after the MLP.
    pub norm2: NormWeights,
}

impl LayerWeights {
    /// Its linear layers in the order of the forward pass.
    pub fn linears(&self) -> [&LinearWeights; 6] {
        [&self.query, &self.key, &self.value, &self.output, &self.fc1, &self.fc2]
    }
}

/// All weights of a BERT encoder on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct BertWeights {
    /// vocabulary×d.
    pub words: HostValues,
    /// positions×d.
    pub positions: HostValues,
    /// token types×d.
    pub token_types: HostValues,
    /// Norm of the sum of the three.
    pub norm: NormWeights,
    /// The layers, first to last.
    pub layers: Vec<LayerWeights>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn extents_that_do_not_fit_are_named() {
        let good = BertConfig {
            vocabulary: 9,
            hidden: 8,
            layers: 1,
            heads: 2,
            mlp: 6,
            positions: 5,
            token_types: 2,
            layer_norm_epsilon: 1e-12,
            activation: Activation::Gelu,
        };
        assert_eq!(good.check(), Ok(()));
        let message = |config: BertConfig| config.check().unwrap_err().to_string();
        assert_eq!(message(BertConfig { heads: 3, ..good.clone() }), "3 heads don't divide the hidden size 8");
        assert_eq!(message(BertConfig { mlp: 0, ..good.clone() }), "the MLP size is 0");
        assert_eq!(message(BertConfig { vocabulary: 0, ..good.clone() }), "the size of the vocabulary is 0");
        for epsilon in [0.0, -1.0, f64::NAN] {
            assert!(message(BertConfig { layer_norm_epsilon: epsilon, ..good.clone() }).contains("positive"));
        }
    }
}
