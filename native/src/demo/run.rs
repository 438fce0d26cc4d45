//! The run itself: each method in turn, measured.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use eblora_core::backend::cpu::keep_awake;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::metrics::Spectrum as Shape;
use eblora_core::model::vit::{ImageSet, Vit, VitConfig, VitWeights};
use eblora_core::train::{self, Fact, GradientOrigin, Observer, Progress, RunRecord, RunState, TrainConfig, Trainer};

use super::methods::{learning_rates, method};
use super::saved::{Saved, Saving};
use super::{DemoConfig, DemoError, GradientAt, MethodName, Split};
use crate::checkpoint::{Keeper, Loaded, Sittings};
use crate::data::mix::Task;
use crate::device::{self, Device};
use crate::model::vit_folder::VitFolder;
use crate::model::vit_names::Site;
use crate::model::{vit, vit_checksum};
use crate::progress::{Event, ProgressSink};
use crate::report::result::{DemoResult, LossPoint, MethodResult, RunConfig, SCHEMA, Spectrum, SubspaceSize, VERSION};
use crate::{Error, memory};

/// Losses are averaged over so many steps for the report.
const LOSS_POINT: usize = 10;

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Everything is measured.
    Finished(Box<DemoResult>),
    /// It was asked to stop, and its state is saved.
    Stopped {
        /// The method at hand.
        method: MethodName,
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
) -> Result<DemoResult, Error> {
    match go(config, tasks, folder, None, progress)? {
        Outcome::Finished(result) => Ok(*result),
        Outcome::Stopped { method, .. } => Err(DemoError::Stopped(method).into()), // nobody can ask for it
    }
}

/// As [`run`], saving the run's state while it goes on, or going on from a saved one: with the same result, bit for bit on
/// the CPU, but for the time and memory that it took. The checkpoints stay until the caller removes them
/// ([`clear_checkpoints`](super::clear_checkpoints)), once the result is safe.
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
    let mut saved = saving.map(|saving| saving.open(config, progress)).transpose()?;
    let threads = config.threads;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|source| DemoError::Threads { threads, source })?;
    let tested: Vec<_> = tasks.iter().map(|task| measured(task, config)).collect();
    let parts = Parts {
        config,
        tasks: (tasks.iter().zip(&tested))
            .map(|(task, test)| train::Task { name: &task.name, train: &task.train, test })
            .collect(),
        extents: vit::config(folder),
        weights: vit::weights(folder),
        checksum: vit_checksum::checksum(folder),
        every: saving.map_or(0, |saving| saving.every),
    };
    let gpu = match &config.device {
        Device::Cpu => None,
        Device::Gpu(wanted) => {
            let (gpu, warning) = device::open(wanted)?;
            warning.iter().for_each(|text| progress.report(Event::Note(text)));
            Some(gpu)
        }
    };
    let mut methods = Vec::with_capacity(config.methods.len());
    for (i, &name) in config.methods.iter().enumerate() {
        progress.report(Event::Method { name: name.as_str(), number: i + 1, of: config.methods.len() });
        let mut watcher = Watcher::new(progress, tasks, config.steps);
        let (current, later) = match saved.as_mut().and_then(|saved| saved[i..].split_first_mut()) {
            Some((current, later)) => (Some(current), &*later),
            None => (None, &[][..]),
        };
        // All of them are checked before the first one trains.
        let others: Vec<_> = match i {
            0 => config.methods[1..].iter().copied().zip(later.iter().map(|saved| saved.from.as_ref())).collect(),
            _ => Vec::new(),
        };
        let sitting = current.zip(saving).map(|(saved, saving)| Sitting { saved, stop: saving.stop });
        let done = match &gpu {
            None => {
                let cpu = Cpu::<f32>::new();
                pool.install(|| keep_awake(|| parts.measure(&cpu, name, sitting, &others, &mut watcher)))?
            }
            Some(gpu) => parts.measure(gpu, name, sitting, &others, &mut watcher)?,
        };
        match done {
            Done::Measured(done) => methods.push(result(name, config, *done)?),
            Done::Stopped { task, step } => {
                let task = tasks.get(task).map_or_else(String::new, |task| task.name.clone());
                return Ok(Outcome::Stopped { method: name, task, step });
            }
        }
        progress.report(Event::Done);
    }
    Ok(Outcome::Finished(Box::new(DemoResult {
        schema: SCHEMA.to_owned(),
        version: VERSION,
        eblora_version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: config.seed,
        device: gpu.as_ref().map_or_else(|| Cpu::<f32>::new().name(), Backend::name),
        threads,
        config: run_config(config, tasks, folder),
        tasks: tasks.iter().map(|task| task.name.clone()).collect(),
        methods,
    })))
}

fn run_config(config: &DemoConfig, tasks: &[Task], folder: &VitFolder) -> RunConfig {
    RunConfig {
        base: folder.source.clone(),
        steps: config.steps,
        batch: config.batch,
        rank: config.rank,
        epsilon: config.epsilon,
        gradient_at: config.gradient_at.as_str().to_owned(),
        split: config.split.as_str().to_owned(),
        train_images: tasks.iter().map(|task| task.train.len()).max().unwrap_or(0),
        measured_images: tasks.iter().map(|task| measured(task, config).len()).max().unwrap_or(0),
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

/// A method's record with what only this machine knows.
struct Measured {
    record: RunRecord,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

/// How a method ended.
enum Done {
    Measured(Box<Measured>),
    Stopped { task: usize, step: usize },
}

/// What one method needs to save its states.
struct Sitting<'a> {
    saved: &'a mut Saved,
    stop: &'a AtomicBool,
}

/// What all methods of a run share.
struct Parts<'a> {
    config: &'a DemoConfig,
    tasks: Vec<train::Task<'a, ImageSet>>,
    extents: VitConfig,
    weights: VitWeights,
    checksum: u32,
    every: usize,
}

impl Parts<'_> {
    fn settings(&self) -> TrainConfig {
        let config = self.config;
        TrainConfig {
            steps: config.steps,
            batch: config.batch,
            seed: config.seed,
            gradient_origin: match config.gradient_at {
                GradientAt::Base => GradientOrigin::Base,
                GradientAt::Merged => GradientOrigin::Merged,
            },
            // Looking at the factors costs nothing on the CPU; a GPU would have to wait for it.
            audit_every: usize::from(config.device == Device::Cpu),
            checkpoint_every: self.every,
            facts: vec![
                Fact::new("split", config.split.as_str()),
                Fact::new("base model", format!("one of checksum {:08x}", self.checksum)),
            ],
            ..TrainConfig::default()
        }
    }

    /// Trains and measures one method. `others` are the methods to come, whose checkpoints must be of this run too.
    fn measure<B: Backend<Scalar = f32> + 'static>(
        &self,
        backend: &B,
        name: MethodName,
        sitting: Option<Sitting<'_>>,
        others: &[(MethodName, Option<&Loaded>)],
        watcher: &mut Watcher<'_>,
    ) -> Result<Done, DemoError> {
        let start = Instant::now();
        memory::reset_peak();
        let trainer = Trainer::new(backend, self.settings(), || Vit::new(backend, &self.extents, &self.weights));
        let mut trainer = trainer.map_err(|source| DemoError::Model { base: "model".to_owned(), source })?;
        let own = sitting.as_ref().and_then(|sitting| sitting.saved.from.as_ref());
        for (name, loaded) in [(name, own)].iter().chain(others) {
            if let Some(loaded) = loaded {
                let fits = trainer.check(method::<B>(*name, self.config).as_ref(), &self.tasks, &loaded.state);
                let foreign = |source| DemoError::Foreign { method: *name, source };
                fits.map_err(foreign)?;
            }
        }
        let mut made = method::<B>(name, self.config);
        let failed = |source| DemoError::Train { method: name, source: Box::new(source) };
        let Some(Sitting { saved, stop }) = sitting else {
            let record = pollster::block_on(trainer.run(made.as_mut(), &self.tasks, watcher)).map_err(failed)?;
            let (seconds, peak_memory_bytes) = (start.elapsed().as_secs_f64(), memory::peak_bytes());
            return Ok(Done::Measured(Box::new(Measured { record, seconds, peak_memory_bytes })));
        };
        let (mut state, mut before) = (None, Sittings::default());
        if let Some(loaded) = saved.from.take() {
            watcher.goes_on(&loaded, &backend.name());
            (state, before) = (Some(loaded.state), loaded.sittings);
        }
        let complete = state.as_ref().is_some_and(RunState::is_complete);
        let mut keeper = Keeper::new(&mut saved.store, stop, before.clone(), backend.name());
        let run = trainer.run_from(made.as_mut(), &self.tasks, state, watcher, &mut keeper);
        Ok(match pollster::block_on(run).map_err(failed)? {
            train::Outcome::Stopped { task, step } => Done::Stopped { task, step },
            train::Outcome::Finished { record, .. } => {
                // Reading what was finished earlier is no part of the method's time.
                let Sittings { seconds, peak_memory_bytes, .. } = if complete { before } else { keeper.sittings() };
                Done::Measured(Box::new(Measured { record: *record, seconds, peak_memory_bytes }))
            }
        })
    }
}

/// Turns the trainer's progress into events.
struct Watcher<'a> {
    sink: &'a mut dyn ProgressSink,
    names: Vec<String>,
    steps: usize,
}

impl<'a> Watcher<'a> {
    fn new(sink: &'a mut dyn ProgressSink, tasks: &[Task], steps: usize) -> Self {
        Self { sink, names: tasks.iter().map(|task| task.name.clone()).collect(), steps }
    }
}

impl Watcher<'_> {
    /// Tells from where a method goes on.
    fn goes_on(&mut self, loaded: &Loaded, device: &str) {
        let (task, step) = loaded.state.place();
        let place = match self.names.get(task) {
            Some(name) => format!("task {} {name}, step {step}", task + 1),
            None => "the end".to_owned(),
        };
        self.sink.report(Event::Note(&format!("goes on from its checkpoint at {place}")));
        let Sittings { device: last, eblora_version, .. } = &loaded.sittings;
        if last != device {
            let note = format!("computed on {last} so far, and on {device} from here: the same to rounding only");
            self.sink.report(Event::Note(&note));
        }
        if eblora_version != env!("CARGO_PKG_VERSION") {
            let note = format!("the checkpoint is by eblora {eblora_version}: the same to rounding only");
            self.sink.report(Event::Note(&note));
        }
    }
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Task { task } => {
                let of = self.names.len();
                self.sink.report(Event::Task { name: &self.names[task], number: task + 1, of, steps: self.steps });
            }
            Progress::Step { step, loss, .. } => self.sink.report(Event::Step { number: step, loss: Some(loss) }),
            Progress::Learnt { task, accuracy } => {
                let seen = accuracy[..=task].iter().sum::<f64>() / (task + 1) as f64;
                self.sink.report(Event::Accuracy { task: accuracy[task], seen });
            }
            Progress::Resumed { step, .. } => self.sink.report(Event::Resumed { step }),
            Progress::Warning(text) => self.sink.report(Event::Note(text)),
            Progress::Evaluating { .. } | Progress::Gradient { .. } => {}
        }
    }
}

/// The name of a site in reports, such as `layers.0.q`.
fn site_name(site: usize) -> String {
    Site::ALL[site % Site::ALL.len()].name(site / Site::ALL.len())
}

fn result(name: MethodName, config: &DemoConfig, measured: Measured) -> Result<MethodResult, DemoError> {
    let Measured { record, seconds, peak_memory_bytes } = measured;
    let accuracy = &record.accuracy;
    let mut spectra = Vec::with_capacity(record.spectra.len());
    for point in record.spectra {
        let shape = Shape::new(&point.sigma)?;
        spectra.push(Spectrum {
            task: point.task,
            step: point.step,
            site: site_name(point.site),
            sigma: point.sigma,
            top_share: shape.top_share,
            effective_rank: shape.effective_rank,
            variance: shape.variance,
        });
    }
    let manifold = name != MethodName::LoraFt;
    // One task transfers nothing: its backward and forward transfer are 0.
    let or_zero = |metric: Option<f64>| metric.unwrap_or(0.0);
    Ok(MethodResult {
        name: name.as_str().to_owned(),
        learning_rates: learning_rates(name, config).into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        trainable_parameters: record.trainable_parameters,
        zero_shot: accuracy.zero_shot().unwrap_or_default().to_vec(),
        accuracy: accuracy.rows().to_vec(),
        mft: or_zero(accuracy.mft()),
        mfn: or_zero(accuracy.mfn()),
        maa: or_zero(accuracy.maa()),
        bwt: or_zero(accuracy.bwt()),
        fwt_mtil: or_zero(accuracy.fwt_mtil()),
        fwt_cells: or_zero(accuracy.fwt_cells()),
        spectra,
        subspace: (record.memory.iter())
            .filter(|_| name == MethodName::Eblora)
            .map(|m| SubspaceSize { task: m.task, site: site_name(m.site), k: m.k, dim: m.dim })
            .collect(),
        loss: record.losses.iter().enumerate().flat_map(|(task, losses)| thinned(task, losses)).collect(),
        orthonormality_error: manifold.then_some(record.orthonormality),
        subspace_leak: (name == MethodName::Eblora).then_some(record.overlap),
        seconds,
        peak_memory_bytes,
    })
}

fn thinned(task: usize, losses: &[f64]) -> impl Iterator<Item = LossPoint> {
    losses.chunks(LOSS_POINT).enumerate().map(move |(i, part)| LossPoint {
        task,
        step: i * LOSS_POINT + part.len(),
        loss: part.iter().sum::<f64>() / part.len() as f64,
    })
}
