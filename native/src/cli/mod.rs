//! The command line: parses, runs a verb, turns an error into one message and an exit code.

mod args;
mod ask;
mod bench;
mod demo;
mod devices;
mod experiment;
mod export;
mod init;
mod inspect;
mod interrupt;
mod merge;
mod report;
mod serve;
mod train;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Verb};

/// Exit code of any error, clap's own included.
const USER_ERROR: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Some(Verb::Demo(args)) => demo::run(&args),
        Some(Verb::Init(args)) => init::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Check(args)) => train::check(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Train(args)) => train::run(&args),
        Some(Verb::Eval(args)) => ask::eval(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Predict(args)) => ask::predict(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Bench(args)) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Devices(args)) => devices::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Report(args)) => report::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Inspect(args)) => inspect::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Merge(args)) => merge::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Export(args)) => export::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Experiment(args)) => experiment::run(&args).map(|()| ExitCode::SUCCESS),
        Some(Verb::Serve(args)) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        None => demo::run(&cli.demo),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be listening; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(USER_ERROR)
        }
    }
}

/// Writes to standard output; a reader that has left is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
