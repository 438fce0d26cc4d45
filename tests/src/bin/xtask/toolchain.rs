//! A way to build for a target without an operating system of its own: the browser's, or bare metal.
//!
//! The target's standard library comes from the first of these that works:
//! 1. the current toolchain has the target, or `rustup target add` brings it;
//! 2. the current toolchain has its sources (`rust-src`) and builds them;
//! 3. Debian's packaged compiler builds them (installed with `apt-get` where we may).

use crate::apt;
use crate::process::{cargo, command, output, run};
use std::path::{Path, PathBuf};
use std::process::Command;

const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A target, and what building for it needs where rustup can't bring it.
pub struct Target {
    /// Its triple.
    pub triple: &'static str,
    /// The parts of the standard library that are built from their sources.
    pub parts: &'static str,
    /// Debian's linker for it.
    pub debian_linker: &'static str,
    /// What is built for it, for messages.
    pub why: &'static str,
}

/// The command that builds for `target`, short of its arguments, and an ending for the name of the folder that it may use:
/// another compiler has another one.
pub fn find(target: &Target) -> Result<(&'static str, Command), String> {
    let Target { triple, parts, debian_linker, why } = target;
    if has_target(triple) || add_target(triple, why) {
        return Ok(("", cargo(&[])));
    }
    let build_std = format!("-Zbuild-std={parts}");
    if has_sources(command("rustc", &[])) {
        println!("the current toolchain has the sources of the standard library: building {parts} for {triple}");
        let mut build = cargo(&[&build_std]);
        build.env("RUSTC_BOOTSTRAP", "1"); // `-Z` on a stable compiler
        return Ok(("", build));
    }
    if has_debian(debian_linker) || install_debian(debian_linker) {
        println!("Debian's compiler has the sources of the standard library: building {parts} for {triple}");
        return Ok(("-debian", debian(target, &build_std)));
    }
    Err(format!(
        "no way to build for {triple} was found. Please install one of: the target itself \
         (`rustup target add {triple}`); the compiler's sources (`rustup component add rust-src`); on Debian 12, \
         `apt-get install --no-install-recommends {}`",
        DEBIAN_PACKAGES.join(" ")
    ))
}

fn has_target(triple: &str) -> bool {
    let library = output(&mut command("rustc", &["--print", "target-libdir", "--target", triple]));
    library.is_some_and(|folder| Path::new(&folder).is_dir())
}

fn add_target(triple: &str, why: &str) -> bool {
    println!("the target {triple} is missing and {why} is built for it: installing it with rustup");
    let added = run(&mut command("rustup", &["target", "add", triple]));
    if let Err(error) = &added {
        println!("that did not work ({error}); trying the compiler's sources instead");
    }
    added.is_ok() && has_target(triple)
}

fn has_sources(mut rustc: Command) -> bool {
    let sysroot = output(rustc.args(["--print", "sysroot"]));
    sysroot.is_some_and(|folder| Path::new(&folder).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file())
}

fn has_debian(linker: &str) -> bool {
    [DEBIAN_RUSTC, DEBIAN_CARGO, linker].iter().all(|path| Path::new(path).is_file())
        && has_sources(clean(command(DEBIAN_RUSTC, &[])))
}

/// Installs Debian's compiler beside the current one; false where this is no Debian or we may not.
fn install_debian(linker: &str) -> bool {
    let why = "Debian's Rust compiler, beside the current toolchain, builds the standard library from its sources";
    apt::install(&DEBIAN_PACKAGES, why) && has_debian(linker)
}

/// Debian's cargo with Debian's rustc and linker.
fn debian(target: &Target, build_std: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&path));
    let mut build = clean(command(DEBIAN_CARGO, &[build_std]));
    let linker = format!("CARGO_TARGET_{}_LINKER", target.triple.to_uppercase().replace('-', "_"));
    build
        .env("PATH", std::env::join_paths(folders).unwrap_or(path))
        .env("RUSTC_BOOTSTRAP", "1")
        .env(linker, target.debian_linker);
    build
}

/// Takes away what the cargo that runs us tells its own tools: it would mislead another toolchain.
fn clean(mut command: Command) -> Command {
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
}
