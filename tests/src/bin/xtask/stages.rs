//! The stages that run on this machine. All of them use cargo's `dev` profile, which optimises, and build the workspace
//! with the same set of targets, so that the heavy dependencies compile once.

use crate::process::{built, cargo, command, output, program, root, run, succeeds};
use crate::{models, python, vulkan};
use std::time::Instant;

/// The manifest of the bare-metal program, which is outside the workspace.
pub const BARE_METAL: &str = "tests/no_std/Cargo.toml";

pub fn fmt() -> Result<(), String> {
    component("rustfmt", "fmt", "formatting is checked with it")?;
    let hint =
        |error| format!("{error}; `cargo fmt --all` puts it right (`--manifest-path {BARE_METAL}` for that crate)");
    run(&mut cargo(&["fmt", "--all", "--check"])).map_err(hint)?;
    run(&mut cargo(&["fmt", "--manifest-path", BARE_METAL, "--check"])).map_err(hint)
}

pub fn clippy() -> Result<(), String> {
    component("clippy", "clippy", "the lints are its")?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run(&mut cargo(&["clippy", "--package", "eblora-core", "--no-default-features", "--lib", "--", "-D", "warnings"]))
}

pub fn doc() -> Result<(), String> {
    run(cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

pub fn build() -> Result<(), String> {
    run(&mut cargo(&["build", "--workspace", "--all-targets"]))
}

pub fn unit() -> Result<(), String> {
    vulkan::prepare()?;
    models::prepare()?;
    let targets = ["--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"];
    if succeeds(&mut cargo(&["nextest", "--version"])) {
        return run(cargo(&["nextest", "run"]).args(targets));
    }
    println!("(cargo-nextest would run the tests side by side and is not installed; `cargo test` does as well)");
    run(cargo(&["test"]).args(targets))
}

/// The tests that need Python are ignored by `unit`.
pub fn peft() -> Result<(), String> {
    let python = python::prepare()?;
    let test = ["--workspace", "--test", "peft_python"];
    if succeeds(&mut cargo(&["nextest", "--version"])) {
        let all = ["--run-ignored", "all"];
        return run(cargo(&["nextest", "run"]).args(test).args(all).env("EBLORA_PYTHON", python));
    }
    run(cargo(&["test"]).args(test).args(["--", "--ignored"]).env("EBLORA_PYTHON", python))
}

pub fn doctest() -> Result<(), String> {
    run(&mut cargo(&["test", "--workspace", "--doc"]))
}

/// Runs the examples as `build` left them: `cargo run --package …` would choose other features and compile anew.
pub fn examples() -> Result<(), String> {
    let mut names = Vec::new();
    for member in ["core", "gpu", "native"] {
        for entry in root().join(member).join("examples").read_dir().into_iter().flatten().flatten() {
            names.push((member, entry.path()));
        }
    }
    names.sort();
    if names.is_empty() {
        return Err("there are no examples in core/examples or native/examples".into());
    }
    let empty = built()?.join("examples-run");
    std::fs::create_dir_all(&empty).map_err(|error| format!("{} can't be made: {error}", empty.display()))?;
    for (member, source) in names {
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let example = program(&format!("examples/{name}"))?;
        println!("{member}/examples/{name}:");
        let begun = Instant::now();
        run(command(example, &[]).current_dir(&empty))?;
        println!("({:.1} s)", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Installs a component of the Rust toolchain where cargo's subcommand is missing.
fn component(name: &str, subcommand: &str, why: &str) -> Result<(), String> {
    if output(&mut cargo(&[subcommand, "--version"])).is_some() {
        return Ok(());
    }
    println!("{name} is missing and {why}: installing it with rustup");
    run(&mut command("rustup", &["component", "add", name]))
        .map_err(|error| format!("{error}; please install {name} for your Rust toolchain"))
}
