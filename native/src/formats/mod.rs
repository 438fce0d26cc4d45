//! Files as bytes: what is read and written, each format with errors that say what is wrong and where.

pub mod atomic;
pub mod csv;
pub mod files;
pub mod gguf;
pub mod gguf_blocks;
mod gguf_header;
pub mod idx;
pub(crate) mod json;
pub mod json_tree;
pub mod mapped;
pub mod npy;
pub mod packed;
pub mod safetensors;
pub mod safetensors_layout;
