//! The engine of every run: each method in turn over the same tasks, from the same base, on one device.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use eblora_core::backend::cpu::keep_awake;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::method::{Method, Value};
use eblora_core::model::{Model, Site};
use eblora_core::train::{self, LearntTask, Observer, RunRecord, RunState, TrainConfig, Trainer};

use super::metrics::Metrics;
use super::saved::{Saved, Saving};
use super::subject::Subject;
use super::watcher::Watcher;
use super::{MethodConfig, RunError};
use crate::checkpoint::{Keeper, Loaded, Sittings};
use crate::device::{self, Device};
use crate::progress::{Event, ProgressSink};
use crate::{Error, memory};

/// What all methods of a run share.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The methods, in order; their labels differ.
    pub methods: &'a [MethodConfig],
    /// Budget, data order and what is recorded; its `facts` are the subject's, where a run is saved.
    pub train: TrainConfig,
    /// Threads of the CPU.
    pub threads: usize,
    /// Where to compute.
    pub device: Device,
    /// The run's folder, where each method keeps its metrics in a folder of its own; `None`: nowhere.
    pub folder: Option<&'a Path>,
}

/// What a method left behind.
#[derive(Clone, Debug)]
pub struct MethodRun {
    /// The method.
    pub method: MethodConfig,
    /// Its settings as they were resolved, by name.
    pub settings: Vec<(&'static str, String)>,
    /// Numbers that are kept at the end for later tasks: what the method remembers, and samples.
    pub stored: usize,
    /// What was measured.
    pub record: RunRecord,
    /// The adapters of each task, if states were saved.
    pub learnt: Vec<LearntTask<f32>>,
    /// The layers that carry adapters.
    pub sites: Vec<Site>,
    /// Wall-clock time, evaluation included.
    pub seconds: f64,
    /// Most resident memory, where it can be measured.
    pub peak_memory_bytes: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Ran {
    /// Every method is measured.
    Finished {
        /// In their order.
        methods: Vec<MethodRun>,
        /// What computed.
        device: String,
    },
    /// It was asked to stop, and its state is saved.
    Stopped {
        /// Label of the method at hand.
        method: String,
        /// Name of the task at hand.
        task: String,
        /// Steps taken in it.
        step: usize,
    },
}

/// How a method ended.
enum Done {
    Measured(Box<MethodRun>),
    Stopped { task: usize, step: usize },
}

/// What one method needs to save its states.
struct Sitting<'a> {
    saved: &'a mut Saved,
    stop: &'a AtomicBool,
}

/// Runs every method of the plan. The same plan and subject give the same numbers bit for bit on the CPU, with any number
/// of threads, and however often it was stopped and resumed.
///
/// # Errors
/// When a checkpoint can't be written, is there and nobody asked for it, or is of another run; when the device can't be had;
/// when training fails.
pub fn run<S: Subject + Sync>(
    plan: &Plan<'_>,
    subject: &S,
    saving: Option<&Saving<'_>>,
    progress: &mut dyn ProgressSink,
) -> Result<Ran, Error>
where
    S::Samples: Sync,
{
    let methods = plan.methods;
    let pool = pool(plan.threads)?;
    let gpu = match &plan.device {
        Device::Cpu => None,
        Device::Gpu(wanted) => {
            let (gpu, warning) = device::open(wanted)?;
            warning.iter().for_each(|text| progress.report(Event::Note(text)));
            Some(gpu)
        }
    };
    // Once the device is there: a restart discards what is saved.
    let mut saved = saving.map(|saving| saving.open(methods, progress)).transpose()?;
    let tasks = subject.tasks();
    let names: Vec<String> = tasks.iter().map(|task| task.name.to_owned()).collect();
    let parts = Parts { plan, subject, tasks };
    let mut done = Vec::with_capacity(methods.len());
    for (i, method) in methods.iter().enumerate() {
        progress.report(Event::Method { name: method.label(), number: i + 1, of: methods.len() });
        let mut watcher = Watcher::new(progress, names.clone(), plan.train.steps);
        let (current, later) = match saved.as_mut().and_then(|saved| saved[i..].split_first_mut()) {
            Some((current, later)) => (Some(current), &*later),
            None => (None, &[][..]),
        };
        // All of them are checked before the first one trains.
        let others: Vec<_> = match i {
            0 => methods[1..].iter().zip(later.iter().map(|saved| saved.from.as_ref())).collect(),
            _ => Vec::new(),
        };
        let sitting = current.zip(saving).map(|(saved, saving)| Sitting { saved, stop: saving.stop });
        let measured = match &gpu {
            None => {
                let cpu = Cpu::<f32>::new();
                pool.install(|| keep_awake(|| parts.measure(&cpu, method, sitting, &others, &mut watcher)))?
            }
            Some(gpu) => parts.measure(gpu, method, sitting, &others, &mut watcher)?,
        };
        match measured {
            Done::Measured(run) => done.push(*run),
            Done::Stopped { task, step } => {
                let task = names.get(task).cloned().unwrap_or_default();
                return Ok(Ran::Stopped { method: method.label().to_owned(), task, step });
            }
        }
        progress.report(Event::Done);
    }
    let device = gpu.as_ref().map_or_else(|| Cpu::<f32>::new().name(), Backend::name);
    Ok(Ran::Finished { methods: done, device })
}

/// The threads of a run.
pub(super) fn pool(threads: usize) -> Result<rayon::ThreadPool, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|source| RunError::Threads { threads, source }.into())
}

/// What all methods of a run share.
struct Parts<'a, S: Subject> {
    plan: &'a Plan<'a>,
    subject: &'a S,
    tasks: Vec<train::Task<'a, S::Samples>>,
}

impl<S: Subject> Parts<'_, S> {
    /// What a method's tasks are trained on, where that is not their own samples alone.
    fn train_sets(&self, method: &MethodConfig) -> Vec<Option<S::Samples>> {
        method.regime().train_sets(&self.tasks, self.plan.train.seed)
    }

    /// The tasks with these training samples.
    fn composed<'t>(&'t self, sets: &'t [Option<S::Samples>]) -> Vec<train::Task<'t, S::Samples>> {
        let tasks = self.tasks.iter().zip(sets);
        tasks.map(|(task, set)| train::Task { train: set.as_ref().unwrap_or(task.train), ..*task }).collect()
    }

    /// Trains and measures one method. `others` are the methods to come, whose checkpoints must be of this run too.
    fn measure<B: Backend<Scalar = f32> + 'static>(
        &self,
        backend: &B,
        method: &MethodConfig,
        sitting: Option<Sitting<'_>>,
        others: &[(&MethodConfig, Option<&Loaded>)],
        watcher: &mut Watcher<'_>,
    ) -> Result<Done, Error> {
        let start = Instant::now();
        memory::reset_peak();
        let subject = self.subject;
        let own_sets = self.train_sets(method);
        let tasks = &self.composed(&own_sets);
        let trainer = Trainer::new(backend, self.plan.train.clone(), || subject.model(backend));
        let mut trainer = trainer.map_err(|source| RunError::Model { base: subject.base().to_owned(), source })?;
        let own = sitting.as_ref().and_then(|sitting| sitting.saved.from.as_ref());
        for (method, loaded) in [(method, own)].iter().chain(others) {
            if let Some(loaded) = loaded {
                let sets = self.train_sets(method);
                let tasks = &self.composed(&sets);
                let fits = trainer.check(method.make::<B>().as_ref(), tasks, &loaded.state);
                fits.map_err(|source| RunError::Foreign { method: method.label().to_owned(), source })?;
            }
        }
        let mut made = method.make::<B>();
        let failed = |source| RunError::Train { method: method.label().to_owned(), source: Box::new(source) };
        let sites = trainer.model().sites().to_vec();
        let folder = self.plan.folder.map(|folder| folder.join(method.label()));
        let run = |made: &dyn Method<B>, record, learnt, seconds, peak_memory_bytes| {
            let remembered: usize = made.remembered().values().map(Value::numbers).sum();
            let run = MethodRun {
                method: method.clone(),
                settings: made.settings(),
                stored: remembered + method.regime().stored(&self.tasks, self.plan.train.seed),
                record,
                learnt,
                sites: sites.clone(),
                seconds,
                peak_memory_bytes,
            };
            Done::Measured(Box::new(run))
        };
        let Some(Sitting { saved, stop }) = sitting else {
            let record = pollster::block_on(trainer.run(made.as_mut(), tasks, watcher)).map_err(failed)?;
            return Ok(run(made.as_ref(), record, Vec::new(), start.elapsed().as_secs_f64(), memory::peak_bytes()));
        };
        let (mut state, mut before) = (None, Sittings::default());
        if let Some(loaded) = saved.from.take() {
            watcher.goes_on(&loaded, &backend.name());
            (state, before) = (Some(loaded.state), loaded.sittings);
        }
        let complete = state.as_ref().is_some_and(RunState::is_complete);
        let mut metrics =
            folder.as_deref().map(|folder| Metrics::begin(folder, tasks, &sites, state.as_ref())).transpose()?;
        let mut keeper = Keeper::new(&mut saved.store, stop, before.clone(), backend.name());
        let mut observer = Both { watcher, metrics: metrics.as_mut() };
        let ended = trainer.run_from(made.as_mut(), tasks, state, &mut observer, &mut keeper);
        Ok(match pollster::block_on(ended).map_err(failed)? {
            train::Outcome::Stopped { task, step } => Done::Stopped { task, step },
            train::Outcome::Finished { record, learnt } => {
                // Reading what was finished earlier is no part of the method's time.
                let Sittings { seconds, peak_memory_bytes, .. } = if complete { before } else { keeper.sittings() };
                if let Some(metrics) = metrics {
                    metrics.finish(&record)?;
                }
                run(made.as_ref(), *record, learnt, seconds, peak_memory_bytes)
            }
        })
    }
}

/// Two observers.
struct Both<'a, 'w> {
    watcher: &'a mut Watcher<'w>,
    metrics: Option<&'a mut Metrics>,
}

impl Observer for Both<'_, '_> {
    fn progress(&mut self, progress: train::Progress<'_>) {
        if let Some(metrics) = &mut self.metrics {
            metrics.progress(progress.clone());
        }
        self.watcher.progress(progress);
    }
}
