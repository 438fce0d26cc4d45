//! Files as bytes: what is read and written, each format with errors that say what is wrong and where.

pub mod atomic;
pub mod idx;
pub mod safetensors;
