//! The no_std proof: a program for a machine without an operating system links `eblora-core`. On this target there is no
//! `std` at all, so a single use of it, here or in a dependency, fails the build.
//!
//! The target's `core` and `alloc` come from the first of these that works:
//! 1. the current toolchain has the target, or `rustup target add` brings it;
//! 2. the current toolchain has its sources (`rust-src`) and builds them;
//! 3. Debian's packaged compiler builds them (installed with `apt-get` where we may).
//!
//! There is no fourth way that skips the proof.

use crate::apt;
use crate::process::{cargo, command, output, root, run};
use crate::stages::BARE_METAL;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "thumbv7em-none-eabihf";
const PROGRAM: &str = "eblora-no-std";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LINKER: &str = "/usr/bin/ld.lld-22";
/// The modules of `eblora-core` that the program must contain.
const PROVEN: [&str; 3] = ["manifold", "gpm", "adapter"];
const BUILD_STD: &str = "-Zbuild-std=core,alloc";

pub fn prove() -> Result<(), String> {
    let (folder, mut build) = toolchain()?;
    let folder = root().join("target").join(folder);
    build.args(["build", "--locked", "--target", TARGET, "--manifest-path", BARE_METAL, "--target-dir"]).arg(&folder);
    run(&mut build).map_err(|error| {
        format!("{error}; if its lock file is out of date: `cargo update --workspace --manifest-path {BARE_METAL}`")
    })?;
    let program = folder.join(TARGET).join("debug").join(PROGRAM);
    let bytes = std::fs::read(&program).map_err(|error| format!("{} can't be read: {error}", program.display()))?;
    inspect(&bytes).map_err(|error| format!("{}: {error}", program.display()))?;
    println!(
        "{PROGRAM} is an ARM program without an operating system, {} kB, with eblora-core in it",
        bytes.len() / 1000
    );
    Ok(())
}

/// The command that builds for the target, short of its arguments, and the folder for what it builds.
fn toolchain() -> Result<(&'static str, Command), String> {
    if has_target() || add_target() {
        return Ok(("no_std", cargo(&[])));
    }
    if has_sources(command("rustc", &[])) {
        println!("the current toolchain has the sources of `core` and `alloc`: building them for {TARGET}");
        let mut build = cargo(&[BUILD_STD]);
        build.env("RUSTC_BOOTSTRAP", "1"); // `-Z` on a stable compiler
        return Ok(("no_std", build));
    }
    if has_debian() || install_debian() {
        println!("Debian's compiler has the sources of `core` and `alloc`: building them for {TARGET}");
        return Ok(("no_std-debian", debian()));
    }
    Err(format!(
        "no way to build for {TARGET} was found. Please install one of: the target itself \
         (`rustup target add {TARGET}`); the compiler's sources (`rustup component add rust-src`); on Debian 12, \
         `apt-get install --no-install-recommends {}`",
        DEBIAN_PACKAGES.join(" ")
    ))
}

fn has_target() -> bool {
    let library = output(&mut command("rustc", &["--print", "target-libdir", "--target", TARGET]));
    library.is_some_and(|folder| Path::new(&folder).is_dir())
}

fn add_target() -> bool {
    println!("the target {TARGET} is missing and the no_std proof is built for it: installing it with rustup");
    let added = run(&mut command("rustup", &["target", "add", TARGET]));
    if let Err(error) = &added {
        println!("that did not work ({error}); trying the compiler's sources instead");
    }
    added.is_ok() && has_target()
}

fn has_sources(mut rustc: Command) -> bool {
    let sysroot = output(rustc.args(["--print", "sysroot"]));
    sysroot.is_some_and(|folder| Path::new(&folder).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file())
}

fn has_debian() -> bool {
    [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_LINKER].iter().all(|path| Path::new(path).is_file())
        && has_sources(clean(command(DEBIAN_RUSTC, &[])))
}

/// Installs Debian's compiler beside the current one; false where this is no Debian or we may not.
fn install_debian() -> bool {
    let why = "Debian's Rust compiler and its sources, beside the current toolchain, build `core` and `alloc`";
    apt::install(&DEBIAN_PACKAGES, why) && has_debian()
}

/// Debian's cargo with Debian's rustc and linker; another version than the current one, so with a folder of its own.
fn debian() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&path));
    let mut build = clean(command(DEBIAN_CARGO, &[BUILD_STD]));
    build
        .env("PATH", std::env::join_paths(folders).unwrap_or(path))
        .env("RUSTC_BOOTSTRAP", "1")
        .env(format!("CARGO_TARGET_{}_LINKER", TARGET.to_uppercase().replace('-', "_")), DEBIAN_LINKER);
    build
}

/// Takes away what the cargo that runs us tells its own tools: it would mislead another toolchain.
fn clean(mut command: Command) -> Command {
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
}

/// Whether these are the bytes of a linked 32-bit ARM program that has our code in it.
fn inspect(elf: &[u8]) -> Result<(), String> {
    const CLASS_32: u8 = 1;
    const TYPE_PROGRAM: [u8; 2] = [2, 0];
    const MACHINE_ARM: [u8; 2] = [0x28, 0];
    if elf.len() < 52 || !elf.starts_with(b"\x7fELF") {
        return Err("this is no ELF file".into());
    }
    if elf[4] != CLASS_32 || elf[16..18] != TYPE_PROGRAM || elf[18..20] != MACHINE_ARM {
        return Err("this is no linked 32-bit ARM program".into());
    }
    for module in PROVEN {
        // A symbol's mangled name holds each part of its path behind the part's length.
        let symbol = format!("eblora_core{}{module}", module.len());
        if !elf.windows(symbol.len()).any(|window| window == symbol.as_bytes()) {
            return Err(format!("nothing of eblora_core::{module} is in it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm_program() -> Vec<u8> {
        let mut elf = vec![0; 52];
        elf[..5].copy_from_slice(b"\x7fELF\x01");
        (elf[16], elf[18]) = (2, 0x28);
        elf.extend(b"_ZN11eblora_core8manifold17h0E_ZN11eblora_core3gpm17h0E_ZN11eblora_core7adapter17h0E");
        elf
    }

    #[test]
    fn only_a_linked_arm_program_with_our_code_passes() {
        assert_eq!(inspect(&arm_program()), Ok(()));
        let spoil = |at: usize, byte: u8| {
            let mut elf = arm_program();
            elf[at] = byte;
            inspect(&elf).unwrap_err()
        };
        assert!(spoil(0, 0).contains("no ELF"));
        assert!(spoil(4, 2).contains("no linked"), "64 bits");
        assert!(spoil(16, 1).contains("no linked"), "an object file");
        assert!(spoil(18, 0x3e).contains("no linked"), "x86-64");
        assert!(spoil(60, b'?').contains("eblora_core::manifold"), "another program");
        assert!(inspect(b"\x7fELF").is_err());
    }
}
