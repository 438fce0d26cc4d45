//! `eblora bench`: kernels, the optimiser step of a 7B-shaped model and a whole training step, on every device.
//!
//! Each figure is a median over repeated runs on fixed data ([`clock`]); on a GPU it is taken by the device's own clock
//! where it has one, and the training step also as it runs in earnest, with the next step recorded while one computes.

pub mod clock;
mod kernels;
mod optimizer;
mod step;
mod subjects;

use std::time::Duration;

use eblora_core::backend::cpu::keep_awake;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::gpm::Gradient;
use eblora_core::linalg::random_orthonormal;
use eblora_core::method::MethodError;
use eblora_core::model::{ModelError, Site};
use eblora_core::random::Random;
use eblora_gpu::{Gpu, Wanted, type_name};
use serde::Serialize;
use thiserror::Error;

use crate::device::{self, Device};
use crate::progress::{Event, ProgressSink};
use crate::{Error, memory};
use clock::{Clock, Effort, Times};
use subjects::{MiniLmStep, SmolLm2Step, VitStep};

const SEED: u64 = 0;

/// Why the benchmark could not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The model.
    #[error("bench: {0}")]
    Model(#[from] ModelError),
    /// The method.
    #[error("bench: {0}")]
    Method(#[from] MethodError),
    /// The device.
    #[error("bench: {0}")]
    Backend(#[from] eblora_core::backend::BackendError),
    /// The memory's directions.
    #[error("bench: {0}")]
    Linalg(#[from] eblora_core::linalg::LinalgError),
    /// No figure has such a name.
    #[error("bench: no figure is called {wanted}…; there are {known}")]
    Unknown {
        /// The beginning of a name that was asked for.
        wanted: String,
        /// All names.
        known: String,
    },
    /// The thread pool.
    #[error("bench: cannot start {threads} threads: {source}")]
    Threads {
        /// Threads wanted.
        threads: usize,
        /// What the system says.
        source: rayon::ThreadPoolBuildError,
    },
}

/// What to measure, and how thoroughly.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchConfig {
    /// The devices; empty: the CPU and every adapter.
    pub devices: Vec<Device>,
    /// Numbers of threads that the CPU is measured with.
    pub threads: Vec<usize>,
    /// Runs of each figure.
    pub repeats: usize,
    /// Time after which a figure is content with fewer runs, at least three.
    pub patience: Duration,
    /// Beginnings of the names of the figures to measure; empty: all.
    pub only: Vec<String>,
}

impl Default for BenchConfig {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            threads: vec![1, 2],
            repeats: 200,
            patience: Duration::from_secs(3),
            only: Vec::new(),
        }
    }
}

impl BenchConfig {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| name.starts_with(o.as_str()))
    }

    fn effort(&self) -> Effort {
        Effort { repeats: self.repeats, patience: self.patience }
    }
}

/// One figure on one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Name of the device.
    pub device: String,
    /// Threads, on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// What was measured, such as `matmul/1024` or `vit_step/eblora`.
    pub name: String,
    /// `device`: by the device's own clock; `host`: by the host's, waiting included.
    pub clock: &'static str,
    /// Runs measured.
    pub runs: usize,
    /// Median, milliseconds.
    pub median_ms: f64,
    /// The fastest, milliseconds.
    pub min_ms: f64,
    /// 10⁹ floating-point operations a second at the median, where the operations are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gflops: Option<f64>,
    /// The parts of a training step.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub phases: Option<Phases>,
    /// What the training step is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepSetting>,
    /// The process's resident memory at its peak, MiB, since the device's first figure, or the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_mib: Option<f64>,
}

/// Median milliseconds of the parts of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Phases {
    /// Patches, upload and forward pass.
    pub forward_ms: f64,
    /// Loss and backward pass.
    pub backward_ms: f64,
    /// The method's step.
    pub optimizer_ms: f64,
}

/// What a training step is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StepSetting {
    /// Samples.
    pub batch: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Adapted linear layers.
    pub linears: usize,
    /// Rank of the adapters.
    pub rank: usize,
    /// Directions of M that EBLoRA projects off in each layer.
    pub memory: usize,
}

/// A device that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Its name in the figures.
    pub name: String,
    /// `cpu`, `discrete GPU`, `software`, …
    pub kind: String,
    /// Driver and its version, of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// What `eblora bench` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchResult {
    /// Version of this program.
    pub eblora_version: String,
    /// The devices.
    pub devices: Vec<Measured>,
    /// The figures.
    pub results: Vec<Figure>,
}

/// Measures every figure on every device.
///
/// ```no_run
/// use eblora::bench::{self, BenchConfig};
/// let config = BenchConfig { only: vec!["matmul".into()], ..BenchConfig::default() };
/// for figure in bench::run(&config, &mut eblora::progress::Silent)?.results {
///     println!("{} on {}: {:.2} ms", figure.name, figure.device, figure.median_ms);
/// }
/// # Ok::<(), eblora::Error>(())
/// ```
///
/// # Errors
/// When a device is not there or fails, the bundle can't be read, or no figure has such a name.
pub fn run(config: &BenchConfig, progress: &mut dyn ProgressSink) -> Result<BenchResult, Error> {
    let encoders = step::names::<VitStep>().chain(step::names::<MiniLmStep>());
    let steps = encoders.chain(step::names::<SmolLm2Step>()).chain(step::names::<SmolLm2Step<true>>());
    let known: Vec<String> = kernels::names().chain(optimizer::names()).chain(steps).collect();
    if let Some(wanted) = config.only.iter().find(|o| !known.iter().any(|name| name.starts_with(o.as_str()))) {
        return Err(BenchError::Unknown { wanted: wanted.clone(), known: known.join(", ") }.into());
    }
    let mut devices = config.devices.clone();
    if devices.is_empty() {
        devices.push(Device::Cpu);
        devices.extend(pollster::block_on(eblora_gpu::adapters()).iter().map(|a| Device::Gpu(Wanted::Index(a.index))));
    }
    let inputs = Inputs {
        // Its images would count in the memory of other figures.
        vit: step::names::<VitStep>().any(|name| config.wants(&name)).then(VitStep::read).transpose()?,
        minilm: MiniLmStep::new(),
        smollm2: SmolLm2Step::new().map_err(BenchError::from)?,
        checkpointed: SmolLm2Step::new().map_err(BenchError::from)?,
    };
    let (mut measured, mut results) = (Vec::new(), Vec::new());
    for device in &devices {
        match device {
            Device::Cpu => {
                for &threads in &config.threads {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let pool = pool.map_err(|source| BenchError::Threads { threads, source })?;
                    progress.report(Event::Note(&format!("measuring the CPU with {threads} thread(s)")));
                    let figures = pool.install(|| keep_awake(|| on_device(&Cpu::new(), config, &inputs)))?;
                    results.extend(figures.into_iter().map(|f| Figure { threads: Some(threads), ..f }));
                }
                measured.push(Measured { name: Cpu::<f32>::new().name(), kind: "cpu".to_owned(), driver: None });
            }
            Device::Gpu(wanted) => {
                let (gpu, warning) = device::open(wanted)?;
                progress.report(Event::Note(&format!("measuring {}", gpu.name())));
                warning.iter().for_each(|text| progress.report(Event::Note(text)));
                results.extend(on_device(&gpu, config, &inputs)?);
                measured.push(described(&gpu));
            }
        }
    }
    Ok(BenchResult { eblora_version: env!("CARGO_PKG_VERSION").to_owned(), devices: measured, results })
}

fn described(gpu: &Gpu) -> Measured {
    let info = gpu.info();
    let driver = format!("{} {} ({:?})", info.driver, info.driver_info, info.backend);
    Measured { name: gpu.name(), kind: type_name(info.device_type).to_owned(), driver: Some(driver.trim().to_owned()) }
}

/// What training steps are measured of.
struct Inputs {
    vit: Option<VitStep>,
    minilm: MiniLmStep,
    smollm2: SmolLm2Step,
    checkpointed: SmolLm2Step<true>,
}

fn on_device<B: Clock + 'static>(
    backend: &B,
    config: &BenchConfig,
    inputs: &Inputs,
) -> Result<Vec<Figure>, BenchError> {
    memory::reset_peak();
    let mut figures = kernels::measure(backend, config)?;
    if let Some(vit) = &inputs.vit {
        figures.extend(step::measure(backend, config, vit)?);
    }
    figures.extend(step::measure(backend, config, &inputs.minilm)?);
    figures.extend(step::measure(backend, config, &inputs.smollm2)?);
    figures.extend(step::measure(backend, config, &inputs.checkpointed)?);
    figures.extend(optimizer::measure(backend, config)?);
    Ok(figures)
}

/// A figure of these times.
fn figure<B: Backend>(backend: &B, name: &str, times: &Times, operations: Option<f64>) -> Figure {
    Figure {
        device: backend.name(),
        threads: None,
        name: name.to_owned(),
        clock: if times.by_device { "device" } else { "host" },
        runs: times.runs(),
        median_ms: times.median() * 1e3,
        min_ms: times.min() * 1e3,
        gflops: operations.map(|n| n / times.median() / 1e9),
        phases: None,
        step: None,
        peak_rss_mib: memory::peak_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20)),
    }
}

/// Gradients of `directions` equally strong random directions: the same for all sites of one shape.
pub(crate) fn gradients(sites: &[Site], directions: usize, task: usize) -> Result<Vec<Gradient<f32>>, BenchError> {
    let mut rng = Random::new(SEED, &format!("bench/{task}"));
    let mut made: Vec<((usize, usize), Gradient<f32>)> = Vec::new();
    for site in sites {
        let extents = (site.out, site.inp);
        if made.iter().all(|(e, _)| *e != extents) {
            let gradient = Gradient::Factored {
                u: random_orthonormal(site.out, directions, &mut rng)?,
                s: vec![1.0; directions],
                v: random_orthonormal(site.inp, directions, &mut rng)?,
                total_energy: directions as f64,
            };
            made.push((extents, gradient));
        }
    }
    let of = |site: &Site| made.iter().find(|(e, _)| *e == (site.out, site.inp)).map(|(_, g)| g.clone());
    Ok(sites.iter().filter_map(of).collect())
}
