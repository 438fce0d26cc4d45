//! Running other programs, visibly.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command run from the repository's root.
pub fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The cargo that runs us.
pub fn cargo(arguments: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// Prints the command, runs it with its output shown, and turns anything but success into a message.
pub fn run(command: &mut Command) -> Result<(), String> {
    let line = line(command);
    println!("$ {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}")),
        Err(error) => Err(format!("`{line}` could not be started: {error}")),
    }
}

/// Whether the command succeeds; its output is not shown.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// What the command prints, when it succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository's root")
}

/// Where cargo puts what the suite builds: the folder in which this very program lies.
pub fn built() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("our own path is unknown: {error}"))?;
    Ok(program.parent().expect("a program lies in a folder").to_path_buf())
}

/// One of the programs that the suite builds.
pub fn program(name: &str) -> Result<PathBuf, String> {
    Ok(built()?.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// The command as one would type it; cargo and paths in the repository without their folders.
fn line(command: &Command) -> String {
    let show = |text: &OsStr| text.to_string_lossy().replace(&format!("{}/", root().display()), "");
    let program = Path::new(command.get_program());
    let program =
        if program.file_stem().is_some_and(|name| name == "cargo") { OsStr::new("cargo") } else { program.as_os_str() };
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), shell_word(&show(value?)))))
        .collect();
    words.push(show(program));
    words.extend(command.get_args().map(|argument| shell_word(&show(argument))));
    words.join(" ")
}

fn shell_word(text: &str) -> String {
    if text.contains(' ') { format!("'{text}'") } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let message = run(&mut command("a-program-that-is-not-there", &["--flag"])).unwrap_err();
        assert!(message.contains("a-program-that-is-not-there --flag"), "{message}");
        assert!(run(&mut cargo(&["no-such-command"])).unwrap_err().contains("`cargo no-such-command` ended with"));
    }

    #[test]
    fn the_line_reads_as_one_would_type_it() {
        let path = root().join("tests/no_std");
        let mut command = cargo(&["doc", &path.display().to_string()]);
        command.env("RUSTDOCFLAGS", "-D warnings").env_remove("HOME");
        assert_eq!(line(&command), "RUSTDOCFLAGS='-D warnings' cargo doc tests/no_std");
    }
}
