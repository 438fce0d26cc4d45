//! eblora: continual low-rank adaptation, the library behind the command line.
//!
//! | module | what it holds |
//! |---|---|
//! | [`formats`] | files of every format in, files out that are whole or not at all |
//! | [`hub`] | base models by name, fetched into the cache |
//! | [`model`] | Hugging Face folders (ViT, BERT) as plain data, tokenizers |
//! | [`data`] | users' records, texts, prompts and images; the bundled sequence of tasks and base model |
//! | [`config`] | the TOML file that describes a run |
//! | [`run`] | runs: methods over tasks, saved while they go on |
//! | [`demo`] | the run of the bundled sequence |
//! | [`checkpoint`] | the state of a run on disk, from which it goes on |
//! | [`peft`] | adapters as PEFT folders, sets of them, and models with adapters merged in |
//! | [`mod@bench`] | the training step, timed |
//! | [`report`] | `result.json`, the table, the HTML page and its figures |
//! | [`progress`], [`memory`] | what a run says and needs while it goes on |
//! | [`experiment`] | the paper's claims, one test each |
//! | [`serve`] | the page in the browser, on this machine |
//! | [`cli`] | the `eblora` command |
//!
//! The numerics are in [`crate::core`], which is `eblora_core`.
#![deny(missing_docs)]

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod demo;
pub mod device;
mod error;
pub mod experiment;
pub mod formats;
pub mod hub;
pub mod memory;
pub mod model;
pub mod peft;
pub mod progress;
pub mod report;
pub mod run;
pub mod serve;

pub use eblora_core as core;
pub use error::Error;

/// Runs the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
