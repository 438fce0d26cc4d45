//! `eblora check` and `eblora train`: a config's run. Everything that can fail early is tried before training.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use super::args::{CheckArgs, ConfigArgs, TrainArgs};
use super::demo::style;
use super::{interrupt, print};
use crate::Error;
use crate::config::{Override, RunConfig};
use crate::hub;
use crate::progress;
use crate::report::{summary, table};
use crate::run::folder::RunFolder;
use crate::run::{self, AnySubject, Loaded, Subject, Trained};

fn read(args: &ConfigArgs) -> Result<RunConfig, Error> {
    let mut overrides = args.overrides.clone();
    if let Some(model) = &args.model {
        overrides.push(Override::base(&hub::named(model)));
    }
    Ok(RunConfig::read(&args.config, &overrides)?)
}

/// Reads everything that a run needs, and says what there is.
pub fn check(args: &CheckArgs) -> Result<(), Error> {
    let config = read(&args.config)?;
    let loaded = run::load(&config)?;
    RunFolder::check_place(&config)?;
    run::check_device(&config)?;
    print(&told(&config, &loaded));
    Ok(())
}

fn told(config: &RunConfig, loaded: &Loaded) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match &loaded.subject {
        AnySubject::Vit(subject) => describe(&mut text, subject.as_ref()),
        AnySubject::Bert(subject) => describe(&mut text, subject.as_ref()),
        AnySubject::Llama(subject) => describe(&mut text, subject.as_ref()),
    };
    if !loaded.labels.is_empty() {
        let _ = writeln!(text, "labels: {}", loaded.labels.join(", "));
    }
    for method in &config.methods {
        let rank = if method.name.has("rank") { format!(" of rank {}", method.rank()) } else { String::new() };
        let _ = writeln!(text, "method {}: {}{rank}", method.label(), method.name);
    }
    for note in &loaded.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let (steps, batch) = (config.train.steps, config.train.batch);
    let _ = writeln!(text, "{steps} steps of {batch} samples a task, seeds {:?}, into {}", config.seeds, config.out);
    text + "everything is there\n"
}

fn describe<S: Subject>(text: &mut String, subject: &S) -> std::fmt::Result {
    use eblora_core::model::Samples as _;
    writeln!(text, "base: {}", subject.base())?;
    let what = subject.family().samples();
    for task in subject.tasks() {
        let (train, test) = (task.train.len(), task.test.len());
        writeln!(text, "task {}: {train} {what} to train on, {test} to measure on", task.name)?;
    }
    Ok(())
}

/// Trains.
pub fn run(args: &TrainArgs) -> Result<ExitCode, Error> {
    let config = read(&args.config)?;
    let loaded = run::load(&config)?;
    let stop = interrupt::watch();
    let mut sink = progress::standard(args.quiet);
    loaded.notes.iter().for_each(|note| sink.report(progress::Event::Note(note)));
    let trained = run::train(&config, &loaded, args.start.start(), stop, sink.as_mut())?;
    drop(sink); // the bars must be gone before the table
    match trained {
        Trained::Finished(results) => {
            match results.as_slice() {
                [one] => print(&table::render(one, style())),
                all => print(&summary::markdown(all)?),
            }
            let pages: Vec<_> = (config.seeds.iter())
                .map(|&seed| RunFolder::of(&config, seed).path().join("report.html").display().to_string())
                .collect();
            print(&format!("\nreport: {}\n", pages.join(" ")));
            Ok(ExitCode::SUCCESS)
        }
        Trained::Stopped { seed, method, task, step } => {
            // Nobody may be listening; the exit code still tells.
            let _ = writeln!(
                std::io::stderr(),
                "stopped at seed {seed}, {method}, task {task}, step {step}; all of it is saved in {}: the same command \
                 with --resume goes on",
                config.out
            );
            Ok(ExitCode::from(interrupt::EXIT_CODE))
        }
    }
}
