//! The real binary, killed, interrupted and out of room again and again: it ends with the result of a run that was not.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use eblora::core::random::Random;
use eblora::report::result::RunResult;
use tempfile::TempDir;

/// A small run of all that the real one does.
const SMALL: [&str; 13] = [
    "demo",
    "--methods",
    "lora-ft,eblora",
    "--steps",
    "5",
    "--test-images",
    "6",
    "--checkpoint-every",
    "1",
    "--seed",
    "5",
    "--threads",
    "1",
];

/// Longer than any of these runs takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn command(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eblora"));
    command.args(SMALL).args(flags).current_dir(folder);
    command
}

fn output(folder: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(folder, flags).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn start(folder: &Path, flags: &[&str]) -> Child {
    command(folder, flags).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The result without what may differ between two runs of one seed; Rust's shortest decimal tells any two bit patterns
/// apart.
fn numbers(folder: &Path) -> String {
    let json = fs::read(folder.join("eblora-demo/result.json")).unwrap();
    let mut result = RunResult::from_json(&json, "result.json").unwrap();
    for method in &mut result.methods {
        assert!(method.seconds > 0.0);
        (method.seconds, method.peak_memory_bytes) = (0.0, None);
    }
    format!("{result:#?}")
}

/// What a run gives that nobody interrupts.
fn whole() -> &'static str {
    static WHOLE: OnceLock<String> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (code, stderr) = output(folder.path(), &[]);
        assert_eq!(code, Some(0), "{stderr}");
        finished(folder.path())
    })
}

/// The numbers of a run that has finished, and has tidied up.
fn finished(folder: &Path) -> String {
    assert!(!folder.join("eblora-demo/checkpoints").exists(), "checkpoints are left");
    numbers(folder)
}

/// The headers of all checkpoints.
fn headers(folder: &Path) -> Vec<PathBuf> {
    let methods = fs::read_dir(folder.join("eblora-demo/checkpoints")).into_iter().flatten().flatten();
    let files = methods.flat_map(|method| fs::read_dir(method.path()).into_iter().flatten().flatten());
    let mut headers: Vec<_> =
        files.map(|file| file.path()).filter(|f| f.extension().is_some_and(|e| e == "json")).collect();
    headers.sort();
    headers
}

/// Waits until so many new checkpoints were saved, or the run has ended.
fn wait_for(child: &mut Child, folder: &Path, saves: usize) {
    let (begun, mut last, mut left) = (Instant::now(), headers(folder), saves);
    while left > 0 && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the run makes no progress");
        sleep(Duration::from_millis(2));
        let now = headers(folder);
        if now != last {
            (last, left) = (now, left - 1);
        }
    }
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits for the end: exit code, and what it said.
fn ended(child: Child) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_result() {
    let (mut rng, mut kills) = (Random::new(20, "kills"), 0);
    // A chain of sittings ends when one of them gets to the end; there are as many chains as it takes.
    while kills < 20 {
        let folder = tempfile::tempdir().unwrap();
        let (mut flags, mut sittings): (&[&str], _) = (&["--quiet"], 0);
        loop {
            let mut child = start(folder.path(), flags);
            // Any moment: while it starts, loads, takes a gradient, steps, measures or saves.
            wait_for(&mut child, folder.path(), rng.below(4));
            sleep(Duration::from_micros(rng.below(60_000) as u64));
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "{}", ended(child).1);
                break;
            }
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            (kills, sittings, flags) = (kills + 1, sittings + 1, &["--quiet", "--resume"]);
            assert!(sittings < 200, "no end of it");
        }
        assert!(finished(folder.path()) == whole(), "after {sittings} kills");
    }
}

/// A folder where Ctrl-C has stopped the run after some steps.
fn stopped() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), &[]);
    wait_for(&mut child, folder.path(), 3);
    interrupt(&child);
    let (code, stderr) = ended(child);
    assert_eq!(code, Some(130), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("stopped at ") && last.contains("--resume"), "{stderr}");
    folder
}

#[test]
fn ctrl_c_saves_the_run_and_nothing_but_resume_or_restart_touches_it() {
    let folder = stopped();
    let before: Vec<_> = headers(folder.path()).into_iter().map(|f| (fs::read(&f).unwrap(), f)).collect();
    // Neither a careless new run nor one with other settings.
    let (code, stderr) = output(folder.path(), &[]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--resume") && stderr.contains("--restart") && stderr.contains("--out"), "{stderr}");
    for (flags, what) in [
        (["--resume", "--rank", "4"], "rank was 8 and is 4"),
        (["--resume", "--lora-rate", "1"], "lora rate was 0.00122 and is 1"),
        (["--resume", "--split", "validation"], "split was test and is validation"),
        (["--resume", "--gradient-at", "base"], "gradient at was Merged and is Base"),
    ] {
        let (code, stderr) = output(folder.path(), &flags);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(what) && stderr.lines().last().unwrap().starts_with("error: lora-ft: "), "{stderr}");
    }
    let after: Vec<_> = headers(folder.path()).into_iter().map(|f| (fs::read(&f).unwrap(), f)).collect();
    assert_eq!(before, after);
    let (code, stderr) = output(folder.path(), &["--resume"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("goes on from its checkpoint at "), "{stderr}");
    assert!(finished(folder.path()) == whole());
    // Nothing is left to go on from.
    let (code, stderr) = output(folder.path(), &["--resume"]);
    assert!(code == Some(0) && stderr.contains("they start anew"), "{stderr}");
    assert!(finished(folder.path()) == whole());
}

#[test]
fn restart_discards_what_was_saved() {
    let folder = stopped();
    let (code, stderr) = output(folder.path(), &["--restart"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("goes on") && finished(folder.path()) == whole(), "{stderr}");
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_loses_only_what_was_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), &["--quiet"]);
    wait_for(&mut child, folder.path(), 3);
    for _ in 0..20 {
        if child.try_wait().unwrap().is_none() {
            interrupt(&child);
        }
    }
    assert_eq!(ended(child).0, Some(130));
    let (code, stderr) = output(folder.path(), &["--resume"]);
    assert!(code == Some(0) && finished(folder.path()) == whole(), "{stderr}");
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let folder = stopped();
    let newest = headers(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let (code, stderr) = output(folder.path(), &["--resume"]);
    assert_eq!(code, Some(0), "{stderr}");
    let name = newest.file_name().unwrap().to_str().unwrap();
    assert!(stderr.contains(name) && stderr.contains("the checkpoint before it is used"), "{stderr}");
    assert!(finished(folder.path()) == whole());
}

/// A limit on the size of files stands in for a full disk: the checkpoints grow with the tasks, until one doesn't fit.
#[test]
fn a_full_disk_is_one_message_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("trap '' XFSZ; ulimit -f 1200; exec \"$0\" {} --quiet", SMALL.join(" "));
    let full = Command::new("sh").args(["-c", &line, env!("CARGO_BIN_EXE_eblora")]).current_dir(folder.path()).output();
    let Output { status, stderr, .. } = full.unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    assert!(stderr.contains("could not be saved: cannot write ") && stderr.contains("--resume"), "{stderr}");
    assert!(!headers(folder.path()).is_empty(), "{stderr}");
    let (code, stderr) = output(folder.path(), &["--resume"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("goes on from its checkpoint") && !stderr.contains("is used"), "{stderr}");
    assert!(finished(folder.path()) == whole());
}
