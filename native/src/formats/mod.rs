//! Files as bytes: what is read and written, each format with errors that say what is wrong and where.

pub mod atomic;
pub mod gguf;
pub mod gguf_blocks;
mod gguf_header;
pub mod idx;
pub mod safetensors;
