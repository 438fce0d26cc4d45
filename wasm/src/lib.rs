//! The browser front: a thin wasm-bindgen API over the library `eblora`, as `wasm/package/worker.js` uses it in a worker.
//! What others use is `wasm/package/eblora.js`, which is typed by `eblora.d.ts`.
//!
//! | module | what it holds |
//! |---|---|
//! | `session` | everything that crosses the border to JavaScript |
//! | `device` | WebGPU, or the CPU and why |
//! | `base` | the base model, bundled or the reader's own |
//! | `tasks`, `split` | tasks out of bundled images, files and drawings |
//! | `learner`, `course` | a method with what it has learnt; how a training is watched, held and stopped |
//! | `predict`, `results` | what a learner says of an image, and what it has measured |
//! | `adapters` | adapters out and in |
//! | `saved` | a learner as bytes, and back |
//! | `bench` | how fast a device is |
//! | `error` | what goes wrong, with a code |
//!
//! On any other machine the crate is empty.
#![deny(missing_docs)]
#![cfg(target_arch = "wasm32")]

mod adapters;
mod base;
mod bench;
mod course;
mod device;
mod error;
mod learner;
#[cfg(feature = "parity")]
#[path = "../../gpu/tests/parity/main.rs"]
mod parity;
#[cfg(feature = "parity")]
mod parity_export;
mod predict;
mod results;
mod saved;
mod session;
mod split;
mod tasks;

pub use session::Session;

/// Runs once the module is there.
#[wasm_bindgen::prelude::wasm_bindgen(start)]
pub fn start() {
    error::throw_panics();
}
