//! Real models against stock ones. They are no part of the repository: `cargo xtask test` fetches them into a cache,
//! and a test without its model fails.

mod minilm;
mod smollm2;

use std::path::PathBuf;

/// A model in the cache: a folder or a file.
fn model(name: &str) -> PathBuf {
    let named = std::env::var_os("EBLORA_CACHE").filter(|name| !name.is_empty()).map(PathBuf::from);
    let cache = named.or_else(|| Some(std::env::home_dir()?.join(".cache").join("eblora")));
    let path = cache.expect("a home folder, or EBLORA_CACHE").join(name);
    let why = "is not there; `python3 tests/python/fetch_models.py` fetches it, and so does `cargo xtask test`";
    assert!(path.exists(), "{} {why}", path.display());
    path
}

/// A file of the folder of references.
fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
