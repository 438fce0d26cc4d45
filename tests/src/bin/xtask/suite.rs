//! The stages of the suite: their order, their choice by name, and the run that times them.

use crate::{bare_metal, browser, stages};
use std::time::{Duration, Instant};

/// One step of the suite.
pub struct Stage {
    /// How `--only` calls it.
    pub name: &'static str,
    /// What it proves, in a line.
    pub about: &'static str,
    /// The stages whose results it uses.
    needs: &'static [&'static str],
    run: fn() -> Result<(), String>,
}

/// The suite, in the order in which it runs: the quickest verdicts first, then what builds upon the build.
pub const STAGES: [Stage; 10] = [
    Stage { name: "fmt", about: "the sources are formatted as rustfmt.toml says", needs: &[], run: stages::fmt },
    Stage {
        name: "clippy",
        about: "no lint fires, in any target, with and without core's `std`",
        needs: &[],
        run: stages::clippy,
    },
    Stage { name: "doc", about: "the documentation builds and its links lead somewhere", needs: &[], run: stages::doc },
    Stage { name: "build", about: "every library, binary, test and example compiles", needs: &[], run: stages::build },
    Stage {
        name: "unit",
        about: "unit, property, fixture, architecture and end-to-end tests",
        needs: &["build"],
        run: stages::unit,
    },
    Stage {
        name: "peft",
        about: "stock PEFT and transformers load what we write to the same logits",
        needs: &["build"],
        run: stages::peft,
    },
    Stage { name: "doctest", about: "the code in the documentation runs", needs: &["build"], run: stages::doctest },
    Stage { name: "examples", about: "every example runs to its end", needs: &["build"], run: stages::examples },
    Stage {
        name: "no_std",
        about: "eblora-core links into a bare-metal program: `core` and `alloc` only",
        needs: &[],
        run: bare_metal::prove,
    },
    Stage {
        name: "browser",
        about: "the page is built, and trains in a real browser, by WebGPU and without",
        needs: &["build"],
        run: browser::test,
    },
];

/// The position of the stage called `name`.
pub fn find(name: &str) -> Option<usize> {
    STAGES.iter().position(|stage| stage.name == name)
}

/// The stages called `names` and what they need, in the suite's order.
pub fn choose(names: &[&str]) -> Result<Vec<usize>, String> {
    let mut chosen = Vec::new();
    for name in names {
        let stage = find(name).ok_or_else(|| {
            let known: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
            format!("there is no stage `{name}`; there are {}", known.join(", "))
        })?;
        chosen.extend(STAGES[stage].needs.iter().filter_map(|need| find(need)));
        chosen.push(stage);
    }
    if chosen.is_empty() {
        return Err("no stage is named".into());
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// One line per stage.
pub fn list() -> String {
    STAGES.iter().map(|stage| format!("  {:<10}{}\n", stage.name, stage.about)).collect()
}

/// Runs the chosen stages up to the first failure and prints what each took; true when all passed.
pub fn run(chosen: &[usize]) -> bool {
    let start = Instant::now();
    let mut rows = Vec::new();
    let mut failure = None;
    for (turn, &index) in chosen.iter().enumerate() {
        let stage = &STAGES[index];
        if failure.is_some() {
            rows.push((stage.name, "not run", None));
            continue;
        }
        println!("\n━━ [{}/{}] {}: {}", turn + 1, chosen.len(), stage.name, stage.about);
        let begun = Instant::now();
        let outcome = (stage.run)();
        rows.push((stage.name, if outcome.is_ok() { "ok" } else { "FAILED" }, Some(begun.elapsed())));
        failure = outcome.err().map(|message| (stage.name, message));
    }
    print!("\n{}", table(&rows, start.elapsed()));
    match failure {
        None => println!("\nEverything passed."),
        Some((stage, message)) => {
            eprintln!("\nerror: stage `{stage}` failed: {message}\nagain: cargo xtask test --only {stage}");
            return false;
        }
    }
    true
}

fn table(rows: &[(&str, &str, Option<Duration>)], total: Duration) -> String {
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let mut text = format!("{:<10}{:<9}{:>9}\n{}\n", "stage", "result", "time", "─".repeat(28));
    for (name, result, time) in rows {
        text += &format!("{name:<10}{result:<9}{:>9}\n", time.map_or("–".into(), seconds));
    }
    text + &format!("{:<19}{:>9}\n", "total", seconds(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_comes_before_the_stage_that_needs_it() {
        for (position, stage) in STAGES.iter().enumerate() {
            for need in stage.needs {
                assert!(find(need).is_some_and(|found| found < position), "{} needs {need}", stage.name);
            }
        }
    }

    #[test]
    fn the_table_tells_what_ran_what_failed_and_what_did_not_run() {
        let second = Duration::from_secs(1);
        let text =
            table(&[("fmt", "ok", Some(second)), ("doc", "FAILED", Some(second)), ("unit", "not run", None)], second);
        for part in ["fmt       ok           1.0 s", "FAILED", "not run          –", "total"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
