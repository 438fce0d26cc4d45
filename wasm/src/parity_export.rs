//! The kernel parity suite by name, for a page that runs it in a browser. A failed test is a panic, which is thrown.

use js_sys::Array;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::WebError;
use crate::parity::all;

fn name(file: &str, test: &str) -> String {
    format!("{file}::{test}")
}

/// The names of all tests.
#[wasm_bindgen(js_name = parityNames)]
pub fn parity_names() -> Array {
    all().map(|(file, (test, _))| JsValue::from(name(file, test))).collect()
}

/// Runs a test.
///
/// # Errors
/// When there is none of this name.
#[wasm_bindgen(js_name = parityRun)]
pub async fn parity_run(wanted: String) -> Result<(), JsValue> {
    let found = all().find(|(file, (test, _))| name(file, test) == wanted);
    let (_, (_, run)) = found.ok_or_else(|| WebError::input(format!("no test {wanted}")))?;
    run().await;
    Ok(())
}
