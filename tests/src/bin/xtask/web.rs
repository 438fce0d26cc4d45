//! `cargo xtask web`: builds the page into `target/web`, where any server of static files finds it.

use crate::node;
use crate::process::{cargo, command, output, root, run};
use crate::toolchain::{self, Target};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const TARGET: Target = Target {
    triple: "wasm32-unknown-unknown",
    parts: "std,panic_abort",
    debian_linker: "/usr/bin/wasm-ld-22",
    why: "the browser's module",
};
const BINDGEN: &str = "wasm-bindgen";
const MODULE: &str = "eblora_wasm";
/// What the module may use: every browser with WebGPU has it, and others since 2021.
const FEATURES: [&str; 7] =
    ["simd", "bulk-memory", "nontrapping-float-to-int", "sign-ext", "mutable-globals", "reference-types", "multivalue"];

/// Where the page is built.
pub fn folder() -> PathBuf {
    root().join("target/web")
}

/// Builds it all, or what has changed.
pub fn build() -> Result<(), String> {
    node::prepare()?;
    let bindgen = bindgen()?;
    let compiled = compile(&[])?;
    let package = folder().join("eblora");
    copy(&root().join("wasm/web"), &folder())?;
    copy(&root().join("wasm/package"), &package)?;
    for part in ["base", "mix"] {
        copy(&root().join("native/assets").join(part), &package.join("assets").join(part))?;
    }
    let plots = node::tools().join("node_modules/uplot/dist");
    for file in ["uPlot.esm.js", "uPlot.min.css"] {
        copy_file(&plots.join(file), &folder().join("vendor").join(file))?;
    }
    let module = package.join(format!("{MODULE}_bg.wasm"));
    if is_newer(&module, &compiled) {
        println!("{} is up to date", module.display());
    } else {
        bind(&bindgen, &compiled, &package, &module)?;
    }
    println!("{} is built: `eblora serve` shows it, or any server of static files", folder().display());
    Ok(())
}

/// Builds the module with the kernels' parity suite in it, for the browser's tests alone; returns its folder.
pub fn build_parity() -> Result<PathBuf, String> {
    let (bindgen, folder) = (bindgen()?, root().join("target/web-parity"));
    let compiled = compile(&["--features", "parity"])?;
    write_script(&bindgen, &compiled, &folder)?;
    Ok(folder)
}

/// The compiled module.
fn compile(more: &[&str]) -> Result<PathBuf, String> {
    let (ending, mut build) = toolchain::find(&TARGET)?;
    let folder = root().join("target").join(format!("wasm{ending}"));
    build
        .args(["build", "--release", "--locked", "--package", "eblora-wasm", "--target", TARGET.triple, "--target-dir"])
        .arg(&folder)
        .args(more)
        .env("RUSTFLAGS", "-C target-feature=+simd128");
    run(&mut build)?;
    Ok(folder.join(TARGET.triple).join("release").join(format!("{MODULE}.wasm")))
}

/// Writes the JavaScript around the module, and the module made small and fast. The module is put in place last.
fn bind(bindgen: &Path, compiled: &Path, package: &Path, module: &Path) -> Result<(), String> {
    let scratch = node::tools().join("bound");
    write_script(bindgen, compiled, &scratch)?;
    // Debian's wasm-opt is too old, and breaks the module without a word: npm's is taken.
    let script = node::tools().join("node_modules/binaryen/bin/wasm-opt");
    let (bound, small) = (scratch.join(format!("{MODULE}_bg.wasm")), scratch.join("small.wasm"));
    let mut optimise = command("node", &[]);
    optimise.arg(script).arg("-O3").args(FEATURES.map(|feature| format!("--enable-{feature}")));
    run(optimise.arg(&bound).arg("-o").arg(&small))?;
    for name in [format!("{MODULE}.js"), format!("{MODULE}.d.ts")] {
        copy_file(&scratch.join(&name), &package.join(&name))?;
    }
    copy_file(&small, module)
}

/// The JavaScript around the module, and the module as that wants it.
fn write_script(bindgen: &Path, compiled: &Path, folder: &Path) -> Result<(), String> {
    run(command(bindgen, &["--target", "web", "--out-name", MODULE, "--out-dir"]).arg(folder).arg(compiled))
}

/// wasm-bindgen's program of the very version that the module is compiled with.
fn bindgen() -> Result<PathBuf, String> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).map_err(|error| format!("Cargo.lock: {error}"))?;
    let version = locked(&lock, BINDGEN).ok_or("Cargo.lock names no wasm-bindgen")?;
    let program = node::tools().join("bin").join(format!("{BINDGEN}{}", std::env::consts::EXE_SUFFIX));
    let installed = output(&mut command(&program, &["--version"]));
    if installed.is_some_and(|installed| installed.split(' ').nth(1) == Some(version)) {
        return Ok(program);
    }
    println!("{BINDGEN} {version} writes the module's JavaScript: installing it (minutes, once)");
    // Unoptimised, it is there in half the time.
    let install = ["install", "--quiet", "--debug", "wasm-bindgen-cli", "--version", version, "--root"];
    run(cargo(&install).arg(node::tools()).arg("--target-dir").arg(node::tools().join("build")))?;
    Ok(program)
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let after = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?.1;
    Some(after.split_once('"')?.0)
}

/// Copies a folder's files over those of another one.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let entries = fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))?;
    for entry in entries.flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() { copy(&source, &target)? } else { copy_file(&source, &target)? }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    copied.map(drop).map_err(|error| format!("{} can't be copied to {}: {error}", from.display(), to.display()))
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let time = |file: &Path| -> Option<SystemTime> { fs::metadata(file).ok()?.modified().ok() };
    time(file).zip(time(than)).is_some_and(|(file, than)| file > than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package_itself() {
        let lock = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.50\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\nsource = \"x\"\n";
        assert_eq!(locked(lock, BINDGEN), Some("0.2.130"));
        assert_eq!(locked(lock, "other"), None);
    }
}
