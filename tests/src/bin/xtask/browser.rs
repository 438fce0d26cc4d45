//! The page's tests in a real browser: Chromium, with WebGPU by its software adapter.

use crate::process::{command, program, root, run, succeeds};
use crate::{apt, node, web};
use std::path::PathBuf;

const PACKAGES: [&str; 1] = ["chromium"];
const TESTS: &str = "wasm/tests";
/// Where a Chromium may be, beside what the variable `CHROMIUM` names.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Builds the page and runs its tests.
pub fn test() -> Result<(), String> {
    web::build()?;
    let parity = web::build_parity()?;
    let chromium = chromium()?;
    let mut tests: Vec<PathBuf> = (root().join(TESTS).read_dir().map_err(|error| format!("{TESTS}: {error}"))?)
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".test.js"))
        .collect();
    tests.sort();
    if tests.is_empty() {
        return Err(format!("there are no tests in {TESTS}"));
    }
    // One after the other: a browser takes all cores.
    let mut node = command("node", &["--test", "--test-concurrency=1", "--test-reporter=spec"]);
    node.args(tests)
        .env("CHROMIUM", chromium)
        .env("EBLORA", program("eblora")?)
        .env("EBLORA_WEB", web::folder())
        .env("EBLORA_PARITY", parity)
        .env("EBLORA_WEB_TOOLS", node::tools());
    run(&mut node)
}

fn chromium() -> Result<PathBuf, String> {
    let named = std::env::var_os("CHROMIUM").filter(|name| !name.is_empty()).map(PathBuf::from);
    let find = || {
        let known = PROGRAMS.iter().map(PathBuf::from);
        named.clone().into_iter().chain(known).find(|program| succeeds(&mut command(program, &["--version"])))
    };
    let why = "the page is tested in a real browser";
    let found = find().or_else(|| apt::install(&PACKAGES, why).then(find)?);
    let found = found.ok_or("Chromium is needed for the page's tests: please install it, or name it in CHROMIUM")?;
    // The tests want a path.
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&folders).map(|folder| folder.join(&found)).find(|path| path.is_file());
    Ok(path.unwrap_or(found))
}
