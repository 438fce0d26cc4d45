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
//!
//! Two features, both default: `cli` is all that needs a file system, threads or a clock (the command line, runs into
//! folders, the hub, the benchmark), and `bundled` puts base model and images into the program. Without them this is what a
//! browser needs, and builds for `wasm32-unknown-unknown`.
#![deny(missing_docs)]

#[cfg(feature = "cli")]
pub mod bench;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod config;
pub mod data;
pub mod demo;
pub mod device;
mod error;
#[cfg(feature = "cli")]
pub mod experiment;
pub mod formats;
#[cfg(feature = "cli")]
pub mod hub;
#[cfg(feature = "cli")]
pub mod memory;
pub mod model;
pub mod peft;
#[cfg(feature = "cli")]
pub mod progress;
pub mod report;
pub mod run;
#[cfg(feature = "cli")]
pub mod serve;

pub use eblora_core as core;
pub use error::Error;

/// Runs the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
