//! eblora: continual low-rank adaptation, the library behind the command line.
//!
//! | module | what it holds |
//! |---|---|
//! | [`formats`] | idx and safetensors files in, files out that are whole or not at all |
//! | [`model`] | Hugging Face folders (ViT, BERT) as plain data, tokenizers |
//! | [`data`] | images, transforms, the bundled sequence of tasks and base model |
//! | [`demo`] | the run: settings in, result out |
//! | [`checkpoint`] | the state of a run on disk, from which it goes on |
//! | [`mod@bench`] | the training step, timed |
//! | [`report`] | `result.json`, the table, the HTML page and its figures |
//! | [`progress`], [`memory`] | what a run says and needs while it goes on |
//! | [`cli`] | the `eblora` command |
//!
//! The numerics are in [`crate::core`], which is `eblora_core`.
#![deny(missing_docs)]

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod demo;
pub mod device;
mod error;
pub mod formats;
pub mod memory;
pub mod model;
pub mod progress;
pub mod report;

pub use eblora_core as core;
pub use error::Error;

/// Runs the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
