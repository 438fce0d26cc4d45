//! The claims of the paper (arXiv 2602.00722), each tested by one command on real models and data.
//!
//! An experiment is a file here: it runs methods on a [`Ground`] and returns a [`Finding`], the claim with the numbers that
//! speak for it or against it. To add one: its file, its name in [`Experiment`], its line in [`run()`].

mod ablation;
mod ground;
mod interference;
mod memory;
mod order;
mod overhead;
mod smoothing;
mod spectra;
mod sweep;

use std::borrow::Cow;
use std::time::Instant;

use clap::ValueEnum;
use eblora_core::model::Targets;
use eblora_core::train::TrainConfig;
use thiserror::Error;

pub use crate::report::finding::Finding;
pub use ground::{Ground, Measured, Selected};

use crate::Error;
use crate::config::RunConfig;
use crate::data::{bundled, mix};
use crate::demo::DemoConfig;
use crate::device::Device;
use crate::progress::ProgressSink;
use crate::run::subject::{Named, VitSubject};
use crate::run::{self, AnySubject, MethodConfig, MethodName, Subject};

/// Rank of every method's adapters on the bundled sequence.
const RANK: usize = 8;
/// Steps of a task, images to train on and to measure on, and tasks, where an experiment should be quick.
const QUICK_STEPS: usize = 24;
const QUICK_TRAIN: usize = 256;
const QUICK_TEST: usize = 64;
const QUICK_TASKS: usize = 3;

/// Why an experiment could not be done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// Fewer tasks than it takes.
    #[error("the experiment {experiment} needs at least {needed} tasks, and there are {tasks}")]
    Tasks {
        /// The experiment.
        experiment: &'static str,
        /// Tasks that it needs.
        needed: usize,
        /// Tasks that there are.
        tasks: usize,
    },
    /// An update that can't be taken apart.
    #[error("layer {layer}: {source}")]
    Adapter {
        /// The layer.
        layer: String,
        /// Why.
        source: eblora_core::adapter::AdapterError,
    },
    /// A measurement that makes no sense.
    #[error(transparent)]
    Metric(#[from] eblora_core::metrics::MetricError),
    /// It has data of its own.
    #[error("the experiment {0} has tasks of its own, made of the bundled images: it takes no --config")]
    OwnTasks(&'static str),
}

/// The experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Experiment {
    /// How the energy of an update is spread while it is trained.
    Spectra,
    /// Independent adapters merged as they are, and with their singular values made equal.
    Smoothing,
    /// The method with each of its parts exchanged.
    Ablation,
    /// The threshold of the gradient memory.
    Epsilon,
    /// The rank.
    Rank,
    /// Time and memory of a step, by its parts and as the layers grow.
    Overhead,
    /// The size of M over fifty tasks, and what a bound on it costs.
    Memory,
    /// What an update does to an earlier task as a function of its spectrum.
    Interference,
    /// Many orders of the tasks.
    Order,
}

impl Experiment {
    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spectra => "spectra",
            Self::Smoothing => "smoothing",
            Self::Ablation => "ablation",
            Self::Epsilon => "epsilon",
            Self::Rank => "rank",
            Self::Overhead => "overhead",
            Self::Memory => "memory",
            Self::Interference => "interference",
            Self::Order => "order",
        }
    }

    /// Those of the seeds that it uses: all of them, or the first alone where a seed hardly matters (times, shapes of
    /// spectra) or fifty tasks of each would take too long.
    ///
    /// ```
    /// use eblora::experiment::Experiment;
    /// assert_eq!(Experiment::Order.seeds(&[4, 5]), [4, 5]);
    /// assert_eq!(Experiment::Spectra.seeds(&[4, 5]), [4]);
    /// ```
    pub fn seeds(self, given: &[u64]) -> &[u64] {
        match self {
            Self::Spectra | Self::Overhead | Self::Memory => &given[..given.len().min(1)],
            _ => given,
        }
    }
}

/// What an experiment is run with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The config of a run, whose model, tasks, budget and methods are taken; `None`: the bundled sequence of the demo.
    pub config: Option<RunConfig>,
    /// Seeds of data order, sketches and initialisation; not every experiment uses more than one
    /// ([`Experiment::seeds`]).
    pub seeds: Vec<u64>,
    /// A fraction of everything: for a first look, and for tests.
    pub quick: bool,
    /// Threads of the CPU.
    pub threads: usize,
    /// Where to compute.
    pub device: Device,
}

/// Runs an experiment.
///
/// ```no_run
/// use eblora::{device::Device, experiment::{self, Experiment, Setting}, progress::Silent};
/// let setting = Setting { config: None, seeds: vec![0], quick: true, threads: 1, device: Device::Cpu };
/// let finding = experiment::run(Experiment::Spectra, &setting, &mut Silent)?;
/// println!("{}: {}", finding.outcome(), finding.verdict);
/// # Ok::<(), eblora::Error>(())
/// ```
///
/// # Errors
/// When the config's model or data can't be read, there are too few tasks, or training fails.
pub fn run(experiment: Experiment, setting: &Setting, progress: &mut dyn ProgressSink) -> Result<Finding, Error> {
    let start = Instant::now();
    let mut finding = match &setting.config {
        Some(_) if experiment == Experiment::Memory => {
            return Err(ExperimentError::OwnTasks(experiment.as_str()).into());
        }
        Some(config) => {
            let config = &shortened(config, setting.quick);
            match run::load(config)?.subject {
                AnySubject::Vit(subject) => on(experiment, subject.as_ref(), config, setting, progress)?,
                AnySubject::Bert(subject) => on(experiment, subject.as_ref(), config, setting, progress)?,
                AnySubject::Llama(subject) => on(experiment, subject.as_ref(), config, setting, progress)?,
            }
        }
        None => {
            let subject = bundled_subject(setting.quick)?;
            // One rank for all methods, so that their spectra compare.
            let demo = DemoConfig { rank: Some(RANK), ..DemoConfig::default() };
            let methods: Vec<_> = MethodName::ALL.iter().map(|&name| demo.method(name)).collect();
            let steps = if setting.quick { QUICK_STEPS } else { demo.steps };
            // Nobody reads what an audit finds, and it would be timed.
            let train = TrainConfig { steps, audit_every: 0, ..demo.train() };
            dispatch(experiment, &ground(experiment, &subject, train, &methods, setting), progress)?
        }
    };
    finding.settings.extend([
        (
            "seeds".to_owned(),
            experiment.seeds(&setting.seeds).iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        ),
        ("threads".to_owned(), setting.threads.to_string()),
        ("device".to_owned(), setting.device.to_string()),
        ("quick".to_owned(), setting.quick.to_string()),
    ]);
    finding.seconds = start.elapsed().as_secs_f64();
    Ok(finding)
}

/// A config's run as short as a quick experiment needs it.
fn shortened(config: &RunConfig, quick: bool) -> RunConfig {
    let mut config = config.clone();
    if quick {
        let train = &mut config.train;
        train.steps = train.steps.min(QUICK_STEPS);
        train.train_samples = Some(train.train_samples.unwrap_or(usize::MAX).min(QUICK_TRAIN));
        train.test_samples = Some(train.test_samples.unwrap_or(usize::MAX).min(QUICK_TEST));
        config.tasks.truncate(QUICK_TASKS);
    }
    config
}

fn on<S: Subject + Sync>(
    experiment: Experiment,
    subject: &S,
    config: &RunConfig,
    setting: &Setting,
    progress: &mut dyn ProgressSink,
) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    dispatch(experiment, &ground(experiment, subject, config.train.trainer(0), &config.methods, setting), progress)
}

/// The demo's base and tasks, or a part of them.
fn bundled_subject(quick: bool) -> Result<VitSubject<'static>, Error> {
    let mut tasks = mix::tasks()?;
    if quick {
        tasks.truncate(QUICK_TASKS);
        for task in &mut tasks {
            (task.train, task.test) = (task.train.slice(0..QUICK_TRAIN), task.test.slice(0..QUICK_TEST));
        }
    }
    let named = |task: mix::Task| Named { name: task.name, train: Cow::Owned(task.train), test: Cow::Owned(task.test) };
    Ok(VitSubject::new(&bundled::base()?, Targets::default(), tasks.into_iter().map(named).collect()))
}

fn ground<'a, S>(
    experiment: Experiment,
    subject: &'a S,
    train: TrainConfig,
    methods: &'a [MethodConfig],
    setting: &'a Setting,
) -> Ground<'a, S> {
    let Setting { quick, threads, device, .. } = setting;
    let seeds = experiment.seeds(&setting.seeds);
    Ground { subject, train, methods, seeds, threads: *threads, device, quick: *quick }
}

fn dispatch<S: Subject + Sync>(
    experiment: Experiment,
    ground: &Ground<'_, S>,
    progress: &mut dyn ProgressSink,
) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let needed = match experiment {
        Experiment::Overhead | Experiment::Memory | Experiment::Spectra => 1,
        _ => 2,
    };
    let tasks = ground.subject.tasks().len();
    if tasks < needed {
        return Err(ExperimentError::Tasks { experiment: experiment.as_str(), needed, tasks }.into());
    }
    match experiment {
        Experiment::Spectra => spectra::run(ground, progress),
        Experiment::Smoothing => smoothing::run(ground, progress),
        Experiment::Ablation => ablation::run(ground, progress),
        Experiment::Epsilon => sweep::epsilon(ground, progress),
        Experiment::Rank => sweep::rank(ground, progress),
        Experiment::Overhead => overhead::run(ground, progress),
        Experiment::Memory => memory::run(ground, progress),
        Experiment::Interference => interference::run(ground, progress),
        Experiment::Order => order::run(ground, progress),
    }
}

/// A finding of this program, whose settings and time [`run`] completes.
fn finding(experiment: Experiment, claim: &str, held: bool, verdict: String) -> Finding {
    Finding {
        experiment: experiment.as_str().to_owned(),
        claim: claim.to_owned(),
        held,
        verdict,
        settings: Vec::new(),
        tables: Vec::new(),
        charts: Vec::new(),
        eblora_version: env!("CARGO_PKG_VERSION").to_owned(),
        seconds: 0.0,
    }
}
