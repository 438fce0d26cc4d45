//! `eblora train`: a config's run, seed by seed, into its folder.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use eblora_core::train::Fact;

use super::engine::{self, MethodRun, Plan, Ran};
use super::folder::{CONFIG, PAGES, RESULT, RunFolder};
use super::subject::Subject;
use super::{
    AnySubject, Labels, Loaded, MethodConfig, RunError, Saving, Start, checkpoint_folder, clear_checkpoints,
    method_result,
};
use crate::Error;
use crate::config::RunConfig;
use crate::device::{self, Device};
use crate::formats::atomic;
use crate::hub;
use crate::peft::AdapterSet;
use crate::progress::{Event, ProgressSink};
use crate::report::html;
use crate::report::result::{MethodResult, RunConfig as Settings, RunResult};

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Trained {
    /// Every seed is measured, in their order.
    Finished(Vec<RunResult>),
    /// It was asked to stop, and its state is saved.
    Stopped {
        /// The seed at hand.
        seed: u64,
        /// Label of the method at hand.
        method: String,
        /// Name of the task at hand.
        task: String,
        /// Steps taken in it.
        step: usize,
    },
}

/// Trains every seed of a config, saving the state while it goes on and the adapters and the report of each seed once it
/// is through. The run saves its state and stops once `stop` is set.
///
/// # Errors
/// When the folder holds a run and nobody said what to do with it, or another one than this; when something can't be
/// written; when training fails. What was saved before stays.
pub fn train(
    config: &RunConfig,
    loaded: &Loaded,
    start: Start,
    stop: &AtomicBool,
    progress: &mut dyn ProgressSink,
) -> Result<Trained, Error> {
    let folders: Vec<_> = config.seeds.iter().map(|&seed| (seed, RunFolder::of(config, seed))).collect();
    let facts = loaded.subject.facts();
    // Everything that can refuse does before the first seed trains, and before anything is discarded.
    RunFolder::check_place(config)?;
    check_device(config)?;
    let mut before = Vec::with_capacity(folders.len());
    for (seed, folder) in &folders {
        let earlier = earlier(config, (*seed, folder), start, &facts)?;
        if earlier.is_none() {
            saving(config, &checkpoint_folder(folder.path()), start, stop).check()?;
        }
        before.push(earlier);
    }
    let mut results = Vec::with_capacity(folders.len());
    for ((seed, folder), earlier) in folders.iter().zip(before) {
        if config.seeds.len() > 1 {
            progress.report(Event::Note(&format!("seed {seed}, into {}", folder.path().display())));
        }
        let known = match earlier {
            Some(result) if config.methods.iter().all(|method| holds(&result.methods, method)) => {
                progress.report(Event::Note(&format!("{} holds the finished run", folder.path().display())));
                if folder.was_left() {
                    let _lock = folder.take()?;
                    clear(config, folder)?;
                }
                results.push(result);
                continue;
            }
            Some(result) => {
                let labels: Vec<_> = result.methods.iter().map(|method| method.name.as_str()).collect();
                let note = format!("{} holds {}: the others are trained", folder.path().display(), labels.join(", "));
                progress.report(Event::Note(&note));
                result.methods
            }
            None => Vec::new(),
        };
        let _lock = folder.take()?;
        if start == Start::Restart {
            discard(&folder.path().join(RESULT))?;
        }
        folder.write_config(config)?;
        Labels::of(loaded).write(folder.path())?;
        let run = SeedRun { config, seed: *seed, folder, facts: &facts, known };
        let done = match &loaded.subject {
            AnySubject::Vit(subject) => run.train(subject.as_ref(), start, stop, progress),
            AnySubject::Bert(subject) => run.train(subject.as_ref(), start, stop, progress),
            AnySubject::Llama(subject) => run.train(subject.as_ref(), start, stop, progress),
        };
        match done? {
            Ok(result) => results.push(result),
            Err((method, task, step)) => return Ok(Trained::Stopped { seed: *seed, method, task, step }),
        }
    }
    Ok(Trained::Finished(results))
}

/// Whether the device that a config wants is there.
///
/// # Errors
/// When it is not.
pub fn check_device(config: &RunConfig) -> Result<(), Error> {
    match config.device.parse().unwrap_or_default() {
        Device::Gpu(wanted) => Ok(device::open(&wanted).map(drop)?),
        Device::Cpu => Ok(()),
    }
}

fn discard(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(RunError::Read { file: file.to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

/// Whether the results have one of this method.
fn holds(results: &[MethodResult], method: &MethodConfig) -> bool {
    results.iter().any(|result| result.name == method.label())
}

/// The result of a folder whose run has finished before, perhaps with fewer methods, where it is to stay.
fn earlier(
    config: &RunConfig,
    (seed, folder): (u64, &RunFolder),
    start: Start,
    facts: &[Fact],
) -> Result<Option<RunResult>, Error> {
    folder.check_files()?;
    let result = folder.result();
    let there = !matches!(result, Ok(None));
    match start {
        Start::Anew if there => Err(RunError::Finished { folder: folder.path().to_owned() }.into()),
        // Also one that has not finished: its config must not be replaced by one that it can't go on with.
        Start::Resume if there || folder.path().join(CONFIG).exists() => {
            let before = folder.config()?;
            let other = |key: String| RunError::OtherConfig { folder: folder.path().to_owned(), key };
            if let Some(key) = first_difference(&before, &without_added(config, &before))? {
                return Err(other(key).into());
            }
            let result = result?;
            if let Some(result) = &result {
                if result.seed != seed {
                    return Err(other("seeds".to_owned()).into());
                }
                // Results of earlier versions don't know.
                let same = |fact: &&Fact| result.facts.get(&fact.name).is_none_or(|known| *known == fact.value);
                if let Some(fact) = facts.iter().find(|fact| !same(fact)) {
                    return Err(
                        RunError::OtherData { folder: folder.path().to_owned(), what: fact.name.clone() }.into()
                    );
                }
            }
            Ok(result)
        }
        _ => Ok(None),
    }
}

/// The config with the methods that were there `before`, where it has them all: what is added is trained beside them.
fn without_added(config: &RunConfig, before: &RunConfig) -> RunConfig {
    let same = |method: &MethodConfig| config.methods.iter().find(|now| now.label() == method.label()).cloned();
    let kept: Option<Vec<_>> = before.methods.iter().map(same).collect();
    let mut config = config.clone();
    config.methods = kept.unwrap_or(config.methods);
    config
}

/// The first key of the configs that matters for the numbers and is not the same.
fn first_difference(before: &RunConfig, now: &RunConfig) -> Result<Option<String>, Error> {
    let table = |config: &RunConfig| -> Result<toml::Table, Error> {
        let mut config = config.clone();
        // Where and by what it was computed, and which seeds beside, is no matter.
        (config.device, config.threads, config.out, config.seeds) = Default::default();
        config.model.gradient_checkpointing = false;
        config.train.checkpoint_every = 0;
        Ok(toml::from_str(&config.to_toml()?).unwrap_or_default()) // it was just written
    };
    let (before, now) = (table(before)?, table(now)?);
    Ok(difference("", &toml::Value::Table(before), &toml::Value::Table(now)))
}

fn difference(key: &str, a: &toml::Value, b: &toml::Value) -> Option<String> {
    let below = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match (a, b) {
        (toml::Value::Table(a), toml::Value::Table(b)) => {
            let missing =
                |x: &toml::Table, y: &toml::Table| x.keys().find(|key| !y.contains_key(*key)).map(|key| below(key));
            let inner = || a.iter().find_map(|(key, value)| difference(&below(key), value, b.get(key)?));
            missing(a, b).or_else(|| missing(b, a)).or_else(inner)
        }
        (toml::Value::Array(a), toml::Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(&below(&i.to_string()), a, b))
        }
        (a, b) => (a != b).then(|| key.to_owned()),
    }
}

/// Removes the checkpoints of the config's methods.
fn clear(config: &RunConfig, folder: &RunFolder) -> Result<(), Error> {
    let labels: Vec<_> = config.methods.iter().map(|method| method.label()).collect();
    clear_checkpoints(&checkpoint_folder(folder.path()), &labels)
}

fn saving<'a>(config: &RunConfig, folder: &'a Path, start: Start, stop: &'a AtomicBool) -> Saving<'a> {
    Saving { folder, every: config.train.checkpoint_every, start, stop }
}

/// Method, task and step of a run that was stopped.
type Place = (String, String, usize);

/// One seed of a run.
struct SeedRun<'a> {
    config: &'a RunConfig,
    seed: u64,
    folder: &'a RunFolder,
    /// What is known of model and data.
    facts: &'a [Fact],
    /// Results of the methods that were trained before.
    known: Vec<MethodResult>,
}

impl SeedRun<'_> {
    /// Trains the methods that are not known yet.
    fn train<S: Subject + Sync>(
        self,
        subject: &S,
        start: Start,
        stop: &AtomicBool,
        progress: &mut dyn ProgressSink,
    ) -> Result<Result<RunResult, Place>, Error>
    where
        S::Samples: Sync,
    {
        let Self { config, seed, folder, facts, known } = self;
        let device: Device = config.device.parse().unwrap_or_default(); // checked when the config was read
        let threads = config.threads();
        let mut train = config.train.trainer(seed);
        train.facts.extend_from_slice(facts);
        train.audit_every = usize::from(device == Device::Cpu);
        let methods: Vec<_> = config.methods.iter().filter(|method| !holds(&known, method)).cloned().collect();
        let plan = Plan { methods: &methods, train, threads, device, folder: Some(folder.path()) };
        let checkpoints = checkpoint_folder(folder.path());
        let saving = saving(config, &checkpoints, start, stop);
        let (runs, device) = match engine::run(&plan, subject, Some(&saving), progress)? {
            Ran::Finished { methods, device } => (methods, device),
            Ran::Stopped { method, task, step } => return Ok(Err((method, task, step))),
        };
        for run in &runs {
            write_adapters(config, subject, run, folder)?;
        }
        let mut methods = known;
        for run in &runs {
            methods.push(method_result(run).map_err(RunError::from)?);
        }
        let place = |result: &MethodResult| config.methods.iter().position(|method| method.label() == result.name);
        methods.sort_by_key(place);
        let names = config.tasks.iter().map(|task| task.name.clone()).collect();
        let mut result = RunResult::new(seed, device, threads, settings(config, subject)?, names, methods);
        result.facts = facts.iter().map(|fact| (fact.name.clone(), fact.value.clone())).collect();
        let [report, picture] = PAGES;
        atomic::write(&folder.path().join(report), html::render(&result).as_bytes())?;
        atomic::write(&folder.path().join(picture), html::forgetting_svg(&result).as_bytes())?;
        atomic::write(&folder.path().join(RESULT), result.to_json()?.as_bytes())?;
        clear(config, folder)?; // the result and the adapters hold everything
        Ok(Ok(result))
    }
}

/// The adapters of a method's tasks, ready for PEFT.
fn write_adapters<S: Subject>(
    config: &RunConfig,
    subject: &S,
    run: &MethodRun,
    folder: &RunFolder,
) -> Result<(), Error> {
    let tasks: Vec<String> = config.tasks.iter().map(|task| task.name.clone()).collect();
    // A name is one on every machine.
    let base = config.model.base.strip_prefix(hub::PREFIX).unwrap_or_else(|| subject.base());
    let (base, family) = (Some(base.to_owned()), subject.family());
    let folder = folder.adapters(run.method.label());
    AdapterSet::write_run(&folder, base, family, &tasks, &run.learnt, &run.sites)?;
    Ok(())
}

fn settings<S: Subject>(config: &RunConfig, subject: &S) -> Result<Settings, Error> {
    use eblora_core::model::Samples as _;
    let tasks = subject.tasks();
    // A config that was read is a table of values that JSON has too.
    let resolved = toml::from_str::<serde_json::Value>(&config.to_toml()?).ok();
    Ok(Settings {
        base: subject.base().to_owned(),
        family: subject.family(),
        steps: config.train.steps,
        batch: config.train.batch,
        gradient_at: config.train.gradient_at.as_str().to_owned(),
        split: config.train.split.as_str().to_owned(),
        train_samples: tasks.iter().map(|task| task.train.len()).max().unwrap_or(0),
        measured_samples: tasks.iter().map(|task| task.test.len()).max().unwrap_or(0),
        resolved,
    })
}
