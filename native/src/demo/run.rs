//! The run itself: the engine on the mix and the base.

use std::borrow::Cow;

use eblora_core::model::Targets;
use eblora_core::model::vit::ImageSet;

use super::{DemoConfig, DemoError, Split};
use crate::Error;
use crate::data::mix::Task;
use crate::model::Family;
use crate::model::vit_folder::VitFolder;
use crate::progress::ProgressSink;
use crate::report::result::{MethodResult, RunConfig, RunResult};
use crate::run::engine::{self, Plan, Ran};
use crate::run::subject::{Named, Subject as _, VitSubject};
use crate::run::{MethodConfig, RunError, Saving, method_result};

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Everything is measured.
    Finished(Box<RunResult>),
    /// It was asked to stop, and its state is saved.
    Stopped {
        /// The method at hand.
        method: String,
        /// Name of the task at hand.
        task: String,
        /// Steps taken in it.
        step: usize,
    },
}

/// Runs every method of `config` over `tasks`, starting from the model in `folder`.
///
/// All accuracies are in per cent, on the split of `config`. The same settings give the same numbers bit for bit, with
/// any number of threads.
///
/// # Errors
/// When the settings don't suit tasks or base ([`DemoConfig::check`]), or training fails.
pub fn run(
    config: &DemoConfig,
    tasks: &[Task],
    folder: &VitFolder,
    progress: &mut dyn ProgressSink,
) -> Result<RunResult, Error> {
    match go(config, tasks, folder, None, progress)? {
        Outcome::Finished(result) => Ok(*result),
        Outcome::Stopped { method, .. } => Err(DemoError::Stopped(method).into()), // nobody can ask for it
    }
}

/// As [`run`], saving the run's state while it goes on, or going on from a saved one: with the same result, bit for bit on
/// the CPU, but for the time and memory that it took. The checkpoints stay until the caller removes them
/// ([`clear_checkpoints`](crate::run::clear_checkpoints)), once the result is safe.
///
/// # Errors
/// As [`run`]; when a checkpoint can't be written, is there and nobody asked for it, or is of another run.
pub fn run_saved(
    config: &DemoConfig,
    tasks: &[Task],
    folder: &VitFolder,
    saving: &Saving<'_>,
    progress: &mut dyn ProgressSink,
) -> Result<Outcome, Error> {
    go(config, tasks, folder, Some(saving), progress)
}

fn go(
    config: &DemoConfig,
    tasks: &[Task],
    folder: &VitFolder,
    saving: Option<&Saving<'_>>,
    progress: &mut dyn ProgressSink,
) -> Result<Outcome, Error> {
    config.check(tasks, folder)?;
    let subject = VitSubject::new(folder, Targets::default(), tasks.iter().map(|task| named(task, config)).collect());
    let methods: Vec<MethodConfig> = config.methods.iter().map(|&name| config.method(name)).collect();
    let mut train = config.train();
    if let Some(saving) = saving {
        train.checkpoint_every = saving.every;
        train.facts.extend(subject.facts());
    }
    let plan = Plan { methods: &methods, train, threads: config.threads, device: config.device.clone(), folder: None };
    let (runs, device) = match engine::run(&plan, &subject, saving, progress)? {
        Ran::Finished { methods, device } => (methods, device),
        Ran::Stopped { method, task, step } => return Ok(Outcome::Stopped { method, task, step }),
    };
    let results: Result<Vec<MethodResult>, _> = runs.iter().map(method_result).collect();
    let names = tasks.iter().map(|task| task.name.clone()).collect();
    let run = run_config(config, tasks, folder);
    let methods = results.map_err(RunError::from)?;
    Ok(Outcome::Finished(Box::new(RunResult::new(config.seed, device, config.threads, run, names, methods))))
}

fn named<'a>(task: &'a Task, config: &DemoConfig) -> Named<'a, ImageSet> {
    Named { name: task.name.clone(), train: Cow::Borrowed(&task.train), test: measured(task, config) }
}

fn run_config(config: &DemoConfig, tasks: &[Task], folder: &VitFolder) -> RunConfig {
    RunConfig {
        base: folder.source.clone(),
        family: Family::Vit,
        steps: config.steps,
        batch: config.batch,
        gradient_at: config.gradient_at.as_str().to_owned(),
        split: config.split.as_str().to_owned(),
        train_samples: tasks.iter().map(|task| task.train.len()).max().unwrap_or(0),
        measured_samples: tasks.iter().map(|task| measured(task, config).len()).max().unwrap_or(0),
        resolved: None,
    }
}

/// The images that accuracies are measured on.
fn measured<'a>(task: &'a Task, config: &DemoConfig) -> Cow<'a, ImageSet> {
    let all = match config.split {
        Split::Test => &task.test,
        Split::Validation => &task.validation,
    };
    match config.test_images {
        Some(images) if images < all.len() => Cow::Owned(all.slice(0..images)),
        _ => Cow::Borrowed(all),
    }
}
