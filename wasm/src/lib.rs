//! The browser front: a thin wasm-bindgen API over `eblora-core` (and `eblora-gpu` once it exists).
//!
//! Nothing is here yet: this release runs natively. The crate holds the name and the place in the workspace.
#![no_std]
