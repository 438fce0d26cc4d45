//! The names of a ViT's tensors: ours, those of transformers 4 (and of every file that `save_pretrained` writes, also
//! in transformers 5), and those of the modules of transformers 5.

use std::fmt;

/// A linear of a layer that can be adapted, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Output projection of the attention.
    O,
    /// First linear of the MLP.
    Fc1,
    /// Second linear of the MLP.
    Fc2,
}

impl Site {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Q, Self::K, Self::V, Self::O, Self::Fc1, Self::Fc2];

    /// Our name of this site in layer `layer`: `layers.3.fc1`.
    pub fn name(self, layer: usize) -> String {
        format!("layers.{layer}.{self}")
    }

    /// The module's name in transformers 4, which is also that of saved files: `vit.encoder.layer.3.intermediate.dense`.
    pub fn transformers4(self, layer: usize) -> String {
        let part = match self {
            Self::Q => "attention.attention.query",
            Self::K => "attention.attention.key",
            Self::V => "attention.attention.value",
            Self::O => "attention.output.dense",
            Self::Fc1 => "intermediate.dense",
            Self::Fc2 => "output.dense",
        };
        format!("vit.encoder.layer.{layer}.{part}")
    }

    /// The module's name in transformers 5: `vit.layers.3.mlp.fc1`.
    pub fn transformers5(self, layer: usize) -> String {
        let part = match self {
            Self::Q => "attention.q_proj",
            Self::K => "attention.k_proj",
            Self::V => "attention.v_proj",
            Self::O => "attention.o_proj",
            Self::Fc1 => "mlp.fc1",
            Self::Fc2 => "mlp.fc2",
        };
        format!("vit.layers.{layer}.{part}")
    }

    /// The names under which a file may hold it.
    pub fn candidates(self, layer: usize) -> [String; 2] {
        [self.transformers4(layer), self.transformers5(layer)]
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::O => "o",
            Self::Fc1 => "fc1",
            Self::Fc2 => "fc2",
        })
    }
}

/// A layer norm of layer `layer` (`layernorm_before` or `layernorm_after`), under the names a file may hold it.
pub fn layer_norm(layer: usize, which: &str) -> [String; 2] {
    [format!("vit.encoder.layer.{layer}.{which}"), format!("vit.layers.{layer}.{which}")]
}

/// The class token `[1, 1, d]`.
pub const CLASS_TOKEN: &str = "vit.embeddings.cls_token";
/// The positions `[1, tokens, d]`.
pub const POSITION: &str = "vit.embeddings.position_embeddings";
/// The patch projection, weight `[d, c, p, p]` and bias `[d]`.
pub const PATCH_PROJECTION: &str = "vit.embeddings.patch_embeddings.projection";
/// The layer norm after the last layer.
pub const FINAL_NORM: &str = "vit.layernorm";
/// The head, weight `[labels, d]` and, where it has one, bias `[labels]`.
pub const CLASSIFIER: &str = "classifier";
