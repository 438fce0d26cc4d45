//! A run that is killed again and again, or can't write any more, ends with the files of one that was not.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use eblora::core::random::Random;
use eblora::report::result::RunResult;

use crate::files::Project;

const KILLS: usize = 20;

/// Every file below a folder, but for what tells the time and memory that it took.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name == "result.json" {
                let mut result = RunResult::from_json(&fs::read(&path).unwrap(), &name).unwrap();
                result.methods.iter_mut().for_each(|m| (m.seconds, m.peak_memory_bytes) = (0.0, None));
                all.insert(name, format!("{result:#?}").into_bytes());
            } else if name != "report.html" {
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn a_run_killed_twenty_times_leaves_the_same_files() {
    let (whole, broken) = (Project::images(), Project::images());
    whole.succeeds(&["train", "run.toml", "-q"]);
    let mut rng = Random::new(7, "kills");
    let (mut kills, mut share) = (0, 1.0);
    while kills < KILLS {
        let mut child = broken
            .command(&["train", "run.toml", "--resume", "-q"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Longer and longer, so that the run comes to its end on a slow machine as well.
        let patience = share * (100.0 + 40.0 * kills as f64);
        sleep(Duration::from_millis((patience * (0.5 + rng.normal().abs().min(1.0))) as u64));
        if child.try_wait().unwrap().is_some() {
            // It was through: begin anew, there are kills left.
            fs::remove_dir_all(broken.path("run")).unwrap();
            share *= 0.7;
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    ends_the_same(&whole, &broken);
}

/// Goes on with the broken run to its end, and compares it with the whole one.
fn ends_the_same(whole: &Project, broken: &Project) {
    broken.succeeds(&["train", "run.toml", "--resume", "-q"]);
    let (a, b) = (files(&whole.path("run")), files(&broken.path("run")));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    // The resolved configs name two folders.
    for (name, content) in a.iter().filter(|(name, _)| !["config.toml", "result.json"].contains(&name.as_str())) {
        let same = |path: &Project| path.path("").display().to_string();
        let text = |bytes: &[u8], path: &Project| String::from_utf8_lossy(bytes).replace(&same(path), "");
        assert!(text(content, whole) == text(&b[name], broken), "{name} differs");
    }
    let numbers = |project: &Project| {
        let json = project.read("run/result.json");
        let mut result = RunResult::from_json(json.as_bytes(), "result.json").unwrap();
        result.methods.iter_mut().for_each(|m| (m.seconds, m.peak_memory_bytes) = (0.0, None));
        format!("{:#?}", result.methods)
    };
    assert_eq!(numbers(whole), numbers(broken));
}

/// The binary with files that may not become larger than so many kilobytes: what a full disk is, without one.
fn runs_within(project: &Project, kilobytes: usize) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" train run.toml --resume -q", 2 * kilobytes);
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_eblora")]).current_dir(project.path(""));
    shell.output().unwrap()
}

#[test]
fn a_run_that_cannot_write_says_so_and_keeps_what_it_has() {
    let (whole, broken) = (Project::texts(), Project::texts());
    whole.succeeds(&["train", "run.toml", "-q"]);
    // Checkpoints grow from task to task: with more and more room, it breaks off later and later.
    let (mut refusals, mut kept, mut kilobytes) = (0, 0, 1);
    while refusals == 0 || kilobytes < 4096 {
        let output = runs_within(&broken, kilobytes);
        if output.status.success() {
            break;
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.starts_with("error: ") && told.lines().count() == 1 && told.contains("too large"), "{told}");
        let checkpoints = broken.path("run/checkpoints/eblora");
        let there = fs::read_dir(&checkpoints).map_or(0, |found| found.flatten().count());
        assert!(there >= kept, "{kilobytes} kB: {there} files of checkpoints, where there were {kept}");
        kept = there.min(4); // two checkpoints of two files each
        refusals += 1;
        kilobytes = kilobytes * 5 / 4 + 1;
    }
    assert!(refusals >= 2 && kept > 0, "{refusals} refusals, {kept} files kept");
    ends_the_same(&whole, &broken);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_training() {
    let project = Project::texts();
    project.write("file", "no folder");
    let message = project.refuses(&["train", "run.toml", "out=file/run"]);
    assert!(message.ends_with("file is not a folder; choose another one"), "{message}");
    #[cfg(target_os = "linux")]
    {
        // Nobody can write there, not even root.
        let message = project.refuses(&["train", "run.toml", "out=/proc/eblora-run"]);
        assert!(message.contains("/proc/eblora-run"), "{message}");
    }
}
