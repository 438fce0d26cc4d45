//! Adapters as files: the LoRA folders of PEFT (`adapter_config.json` and `adapter_model.safetensors`), which stock PEFT
//! loads to the same logits, and what is made of them.
//!
//! | file | what |
//! |---|---|
//! | [`folder`] | one adapter's folder, read and written |
//! | `config` | its `adapter_config.json`: which scale each layer has |
//! | `keys` | the names of its tensors |
//! | [`modules`] | which linear layer a module's name means |
//! | [`sites`] | from and to the adapters of a model |
//! | [`sum`] | several adapters as one |
//! | [`set`] | a run's folder: one adapter per task |
//! | [`merged`] | a whole model with an adapter added to its weights |
//! | [`unpacked`] | the same of a GGUF file |
//! | [`inspection`] | spectra and norms of an adapter |
//!
//! A layer's update is `ΔW = scale·B·A`, out×in, with `A` r×in and `B` out×r. On writing the scale is folded into `B`, and
//! `lora_alpha = r`, so that PEFT scales by 1.

mod config;
mod error;
pub mod folder;
pub mod inspection;
mod keys;
#[cfg(feature = "cli")]
pub mod merged;
pub mod modules;
pub mod set;
pub mod sites;
pub mod sum;
#[cfg(feature = "cli")]
pub mod unpacked;

pub use error::PeftError;
pub use modules::module_of;
pub use set::{AdapterSet, SetTask};
#[cfg(feature = "cli")]
pub use unpacked::write_unpacked;

use eblora_core::adapter::LoraAdapter;

/// The update of one linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftLayer {
    /// The module's path in the model, such as `encoder.layer.0.attention.self.query`.
    pub module: String,
    /// `A` r×in, `B` out×r and the scale.
    pub lora: LoraAdapter<f32>,
}

/// A PEFT LoRA: updates of some of a model's linear layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeftAdapter {
    /// The layers; no module twice.
    pub layers: Vec<PeftLayer>,
    /// `base_model_name_or_path`: the model that it belongs to.
    pub base_model: Option<String>,
    /// `task_type`, such as `SEQ_CLS`.
    pub task_type: Option<String>,
}

impl PeftAdapter {
    /// Numbers in all factors.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| (layer.lora.outputs() + layer.lora.inputs()) * layer.lora.rank()).sum()
    }
}
