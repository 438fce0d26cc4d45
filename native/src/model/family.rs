//! The kinds of models there are.

use serde::{Deserialize, Serialize};

/// A kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Vision transformers: images to classes.
    Vit,
    /// BERT encoders: texts to classes.
    Bert,
    /// Llama decoders: prompts to answers.
    Llama,
}

impl Family {
    /// What its samples are called.
    pub fn samples(self) -> &'static str {
        match self {
            Self::Vit => "images",
            Self::Bert => "texts",
            Self::Llama => "prompts",
        }
    }
}
