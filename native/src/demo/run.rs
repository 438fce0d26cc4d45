//! The run itself: each method in turn, measured.

use std::time::Instant;

use eblora_core::backend::cpu::keep_awake;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::metrics::Spectrum as Shape;
use eblora_core::model::vit::{ImageSet, Vit, VitConfig, VitWeights};
use eblora_core::train::{self, GradientOrigin, Observer, Progress, RunRecord, TrainConfig, Trainer};

use super::methods::{learning_rates, method};
use super::{DemoConfig, DemoError, GradientAt, MethodName, Split};
use crate::data::mix::Task;
use crate::device::{self, Device};
use crate::model::vit;
use crate::model::vit_folder::VitFolder;
use crate::model::vit_names::Site;
use crate::progress::{Event, ProgressSink};
use crate::report::result::{DemoResult, LossPoint, MethodResult, RunConfig, SCHEMA, Spectrum, SubspaceSize, VERSION};
use crate::{Error, memory};

/// Losses are averaged over so many steps for the report.
const LOSS_POINT: usize = 10;

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
    config.check(tasks, folder)?;
    let threads = config.threads;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|source| DemoError::Threads { threads, source })?;
    let (extents, weights) = (vit::config(folder), vit::weights(folder));
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
        let model = (&extents, &weights);
        let done = match &gpu {
            None => {
                let cpu = Cpu::<f32>::new();
                pool.install(|| keep_awake(|| measure(&cpu, name, config, tasks, model, &mut watcher)))?
            }
            Some(gpu) => measure(gpu, name, config, tasks, model, &mut watcher)?,
        };
        methods.push(result(name, config, done)?);
        progress.report(Event::Done);
    }
    Ok(DemoResult {
        schema: SCHEMA.to_owned(),
        version: VERSION,
        eblora_version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: config.seed,
        device: gpu.as_ref().map_or_else(|| Cpu::<f32>::new().name(), Backend::name),
        threads,
        config: run_config(config, tasks, folder),
        tasks: tasks.iter().map(|task| task.name.clone()).collect(),
        methods,
    })
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
        measured_images: tasks.iter().map(|task| measured(task, config.split).len()).max().unwrap_or(0),
    }
}

fn measured(task: &Task, split: Split) -> &ImageSet {
    match split {
        Split::Test => &task.test,
        Split::Validation => &task.validation,
    }
}

/// A method's record with what only this machine knows.
struct Measured {
    record: RunRecord,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

fn measure<B: Backend<Scalar = f32> + 'static>(
    backend: &B,
    name: MethodName,
    config: &DemoConfig,
    tasks: &[Task],
    (extents, weights): (&VitConfig, &VitWeights),
    observer: &mut (dyn Observer + Send),
) -> Result<Measured, DemoError> {
    let start = Instant::now();
    memory::reset_peak();
    let settings = TrainConfig {
        steps: config.steps,
        batch: config.batch,
        seed: config.seed,
        gradient_origin: match config.gradient_at {
            GradientAt::Base => GradientOrigin::Base,
            GradientAt::Merged => GradientOrigin::Merged,
        },
        // Looking at the factors costs nothing on the CPU; a GPU would have to wait for it.
        audit_every: usize::from(config.device == Device::Cpu),
        ..TrainConfig::default()
    };
    let trainer = Trainer::new(backend, settings, || Vit::new(backend, extents, weights));
    let mut trainer = trainer.map_err(|source| DemoError::Model { base: "model".to_owned(), source })?;
    let tasks: Vec<_> = tasks
        .iter()
        .map(|task| train::Task { name: &task.name, train: &task.train, test: measured(task, config.split) })
        .collect();
    let mut method = method::<B>(name, config);
    let record = pollster::block_on(trainer.run(method.as_mut(), &tasks, observer));
    Ok(Measured {
        record: record.map_err(|source| DemoError::Train { method: name, source: Box::new(source) })?,
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: memory::peak_bytes(),
    })
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
