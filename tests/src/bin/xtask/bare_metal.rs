//! The no_std proof: a program for a machine without an operating system links `eblora-core`. On this target there is no
//! `std` at all, so a single use of it, here or in a dependency, fails the build.
//! There is no way that skips the proof.

use crate::process::{root, run};
use crate::stages::BARE_METAL;
use crate::toolchain::{self, Target};

const TARGET: Target = Target {
    triple: "thumbv7em-none-eabihf",
    parts: "core,alloc",
    debian_linker: "/usr/bin/ld.lld-22",
    why: "the no_std proof",
};
const PROGRAM: &str = "eblora-no-std";
/// The modules of `eblora-core` that the program must contain.
const PROVEN: [&str; 3] = ["manifold", "gpm", "adapter"];

pub fn prove() -> Result<(), String> {
    let (ending, mut build) = toolchain::find(&TARGET)?;
    let folder = root().join("target").join(format!("no_std{ending}"));
    build
        .args(["build", "--locked", "--target", TARGET.triple, "--manifest-path", BARE_METAL, "--target-dir"])
        .arg(&folder);
    run(&mut build).map_err(|error| {
        format!("{error}; if its lock file is out of date: `cargo update --workspace --manifest-path {BARE_METAL}`")
    })?;
    let program = folder.join(TARGET.triple).join("debug").join(PROGRAM);
    let bytes = std::fs::read(&program).map_err(|error| format!("{} can't be read: {error}", program.display()))?;
    inspect(&bytes).map_err(|error| format!("{}: {error}", program.display()))?;
    println!(
        "{PROGRAM} is an ARM program without an operating system, {} kB, with eblora-core in it",
        bytes.len() / 1000
    );
    Ok(())
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
