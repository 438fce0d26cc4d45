//! The browser front: a thin wasm-bindgen API over the library `eblora`. On any other machine the crate is empty.
#![cfg(target_arch = "wasm32")]
