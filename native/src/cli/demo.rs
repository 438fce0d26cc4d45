//! `eblora demo`: everything that can fail early is tried before training.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use super::args::DemoArgs;
use super::{interrupt, print};
use crate::Error;
use crate::data::{bundled, mix};
use crate::demo::{self, Outcome};
use crate::formats::atomic;
use crate::model::vit_folder::VitFolder;
use crate::progress;
use crate::report::html;
use crate::report::result::RunResult;
use crate::report::table::{self, Style};
use crate::run::{self, Saving};

pub fn run(args: &DemoArgs) -> Result<ExitCode, Error> {
    let config = args.config();
    let folder = match &args.base {
        Some(path) => VitFolder::read(path)?,
        None => bundled::base()?,
    };
    let tasks = mix::tasks()?;
    config.check(&tasks, &folder)?;
    atomic::prepare_folder(&args.out)?;
    let checkpoints = run::checkpoint_folder(&args.out);
    let stop = interrupt::watch();
    let saving = Saving { folder: &checkpoints, every: args.checkpoint_every, start: args.start.start(), stop };
    let mut sink = progress::standard(args.quiet);
    let outcome = demo::run_saved(&config, &tasks, &folder, &saving, sink.as_mut())?;
    drop(sink); // the bars must be gone before the table
    let result = match outcome {
        Outcome::Finished(result) => result,
        Outcome::Stopped { method, task, step } => {
            // Nobody may be listening; the exit code still tells.
            let _ = writeln!(
                std::io::stderr(),
                "stopped at {method}, task {task}, step {step}; all of it is saved in {}: the same command with --resume \
                 goes on",
                checkpoints.display()
            );
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
    };
    atomic::write(&args.out.join("result.json"), result.to_json()?.as_bytes())?;
    write_report(&result, &args.out)?;
    run::clear_checkpoints(&checkpoints, &config.methods)?; // the result holds everything
    Ok(ExitCode::SUCCESS)
}

/// Table to standard output; page and picture into the folder.
pub fn write_report(result: &RunResult, folder: &Path) -> Result<(), Error> {
    atomic::write(&folder.join("report.html"), html::render(result).as_bytes())?;
    atomic::write(&folder.join("forgetting.svg"), html::forgetting_svg(result).as_bytes())?;
    print(&table::render(result, style()));
    print(&format!("\nreport: {}\n", folder.join("report.html").display()));
    Ok(())
}

/// Escapes only for a terminal whose user has not refused them (NO_COLOR).
pub fn style() -> Style {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !refused { Style::Ansi } else { Style::Plain }
}
