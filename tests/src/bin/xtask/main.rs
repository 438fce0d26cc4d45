//! The test command: `cargo xtask test` installs what is missing and runs every check of the repository, in order,
//! each one timed. Nothing but `std` is used, so it starts at once on a fresh machine.

mod apt;
mod bare_metal;
mod browser;
mod claims;
mod models;
mod node;
mod page;
mod process;
mod python;
mod results;
mod stages;
mod suite;
mod toolchain;
mod vulkan;
mod web;

use std::process::ExitCode;
use suite::STAGES;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match parse(&arguments) {
        Ok(Task::Help) => {
            print!("{}", help());
            Ok(())
        }
        Ok(Task::List) => {
            print!("{}", suite::list());
            Ok(())
        }
        Ok(Task::Results(names)) => results::make(&names),
        Ok(Task::Claims(names)) => claims::make(&names),
        Ok(Task::Web) => web::build(),
        Ok(Task::Python) => python::prepare().map(|python| println!("{}", python.display())),
        Ok(Task::Test(chosen)) => return if suite::run(&chosen) { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        Err(message) => {
            eprintln!("error: {message}\n\n{}", help());
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Task {
    Help,
    List,
    Python,
    Web,
    /// The benchmarks whose tables the page is to have; none: all.
    Results(Vec<String>),
    /// The experiments whose findings the page is to have anew; none: all.
    Claims(Vec<String>),
    /// Indices into [`STAGES`], rising.
    Test(Vec<usize>),
}

fn help() -> String {
    format!(
        "\
cargo xtask test                  run every check, in order, stopping at the first failure
cargo xtask test --only fmt,unit  run these stages only (and what they need)
cargo xtask test --list           what the stages are
cargo xtask results [NAME …]      run every benchmark config, or these, and write (their) tables to docs/results.md
cargo xtask claims [NAME …]       run every experiment of the paper, or these, in full and write docs/claims.md
cargo xtask web                   build the page into target/web (`eblora serve` shows it)
cargo xtask python                make the Python that the `peft` stage needs, and say where it is
cargo xtask help                  this text

Stages:
{}",
        suite::list()
    )
}

fn parse(arguments: &[String]) -> Result<Task, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "--help" | "-h", ..] | ["test", "--help" | "-h"] => Ok(Task::Help),
        ["python"] => Ok(Task::Python),
        ["web"] => Ok(Task::Web),
        ["results", names @ ..] => Ok(Task::Results(names.iter().map(|&name| name.to_owned()).collect())),
        ["claims", names @ ..] => Ok(Task::Claims(names.iter().map(|&name| name.to_owned()).collect())),
        ["test"] => Ok(Task::Test((0..STAGES.len()).collect())),
        ["test", "--list"] => Ok(Task::List),
        ["test", "--only"] => Err("--only takes the names of stages, such as --only fmt,unit".into()),
        ["test", "--only", names @ ..] => {
            let names = names.iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
            suite::choose(&names.collect::<Vec<_>>()).map(Task::Test)
        }
        ["test", other, ..] => Err(format!("`cargo xtask test` has no option `{other}`")),
        [other, ..] => Err(format!("there is no task `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, String> {
        parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_plain_test_runs_every_stage() {
        assert_eq!(parsed("test"), Ok(Task::Test((0..STAGES.len()).collect())));
    }

    #[test]
    fn only_takes_commas_and_spaces_and_keeps_the_order_of_the_suite() {
        let (fmt, clippy) = (suite::find("fmt").unwrap(), suite::find("clippy").unwrap());
        assert_eq!(parsed("test --only clippy,fmt"), Ok(Task::Test(vec![fmt, clippy])));
        assert_eq!(parsed("test --only clippy fmt"), Ok(Task::Test(vec![fmt, clippy])));
    }

    #[test]
    fn a_stage_brings_what_it_needs() {
        let (build, unit) = (suite::find("build").unwrap(), suite::find("unit").unwrap());
        assert_eq!(parsed("test --only unit"), Ok(Task::Test(vec![build, unit])));
    }

    #[test]
    fn a_wrong_word_is_named() {
        for (line, word) in [("test --only fmt,typo", "typo"), ("tset", "tset"), ("test --fast", "--fast")] {
            assert!(parsed(line).unwrap_err().contains(word), "{line}");
        }
        assert_eq!((parsed("python"), parsed("web")), (Ok(Task::Python), Ok(Task::Web)));
        assert_eq!(parsed("results"), Ok(Task::Results(Vec::new())));
        assert_eq!(parsed("results text"), Ok(Task::Results(vec!["text".to_owned()])));
        assert_eq!(parsed("claims rank order"), Ok(Task::Claims(vec!["rank".to_owned(), "order".to_owned()])));
        assert!(parsed("test --only").is_err());
        assert!(parsed("test --only ,").is_err());
    }

    #[test]
    fn help_names_every_stage() {
        assert_eq!(parsed(""), Ok(Task::Help));
        assert!(STAGES.iter().all(|stage| help().contains(stage.name)));
    }
}
