//! Node.js and the packages that the page is built and tested with, in a folder of their own.

use crate::apt;
use crate::process::{command, output, root, run, succeeds};
use std::fs;
use std::path::{Path, PathBuf};

/// Names the packages and their versions.
const MANIFEST: &str = "wasm/tests/package.json";
const PACKAGES: [&str; 2] = ["nodejs", "npm"];
/// The test runner that the browser's tests use came with it.
const OLDEST: u32 = 20;

/// Where the tools of the web build lie.
pub fn tools() -> PathBuf {
    root().join("target/web-tools")
}

/// Sees to it that there is a Node.js, and the packages of [`MANIFEST`] in `node_modules` of [`tools`].
pub fn prepare() -> Result<(), String> {
    let is_there = || {
        let version = output(&mut command("node", &["--version"]));
        version.is_some_and(|version| is_new_enough(&version)) && succeeds(&mut command("npm", &["--version"]))
    };
    let install = || apt::install(&PACKAGES, "the page's tools run on Node.js") && is_there();
    if !(is_there() || install()) {
        return Err(format!(
            "Node.js {OLDEST} or newer with npm is needed for the page and its tests: please install it"
        ));
    }
    let manifest = root().join(MANIFEST);
    let wanted = fs::read_to_string(&manifest).map_err(|error| format!("{MANIFEST}: {error}"))?;
    // Written last: what is there is whole, and of this manifest.
    let stamp = tools().join("installed.json");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let copy = |to: &Path| fs::create_dir_all(tools()).and_then(|()| fs::write(to, &wanted));
    let manifest = tools().join("package.json");
    copy(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let install = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix"];
    run(command("npm", &install).arg(tools()))?;
    copy(&stamp).map_err(|error| format!("{}: {error}", stamp.display()))
}

fn is_new_enough(version: &str) -> bool {
    let major = version.trim_start_matches('v').split('.').next();
    major.and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_new_enough("v20.20.2") && is_new_enough("v100.0.0"));
        assert!(!is_new_enough("v18.19.0") && !is_new_enough("") && !is_new_enough("v9.0.0"));
    }
}
