//! Models as they stand in files: plain data, checked, under names that do not depend on who wrote the file.

pub mod bert_config;
pub mod bert_folder;
pub mod chat;
mod config_json;
mod family;
pub mod llama;
pub mod llama_config;
pub mod llama_gguf;
#[cfg(feature = "cli")]
pub mod llama_tokenizer;
#[cfg(feature = "cli")]
pub mod tokenizer;
pub mod vit;
pub mod vit_checksum;
pub mod vit_config;
pub mod vit_folder;
pub mod vit_names;
pub(crate) mod weights_checksum;

pub use family::Family;
