//! Our numbers against the references in `tests/fixtures` (see its README), in f64 and f32, and what happens when the
//! numbers go wrong. One subject a file.

mod fixtures;

mod bert;
mod faults;
mod geometry;
mod gguf;
mod llama;
mod methods;
mod ops;
mod optim;
mod resume;
mod retask;
mod targets;
mod text_ops;
mod threads;
mod vit;
