//! `eblora bench`: the training step of the bundled model, timed.
//!
//! Each figure is a median over repeated steps on fixed data. EBLoRA's step has a memory of [`MEMORY`] directions a
//! layer, as in the middle of a sequence.

use std::time::Instant;

use eblora_core::adapter::{AdapterGrads, Adapters};
use eblora_core::backend::cpu::keep_awake;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::gpm::Gradient;
use eblora_core::linalg::random_orthonormal;
use eblora_core::method::{Method, MethodError, TaskStart};
use eblora_core::model::vit::{ImageSet, Vit};
use eblora_core::model::{Model, ModelError, Site, Wanted};
use eblora_core::random::Random;
use serde::Serialize;
use thiserror::Error;

use crate::data::{bundled, mix};
use crate::demo::{self, DemoConfig, MethodName};
use crate::model::vit;
use crate::{Error, memory};

/// Directions of M that EBLoRA's step projects off.
pub const MEMORY: usize = 16;
/// Rank of the adapters, whatever the demo's default is.
const RANK: usize = 8;
const WARM_UP: usize = 10;
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
    /// The thread pool.
    #[error("bench: cannot start {threads} threads: {source}")]
    Threads {
        /// Threads wanted.
        threads: usize,
        /// What the system says.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Median milliseconds of one kind of step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepTime {
    /// `vit_step/lora` or `vit_step/eblora`.
    pub name: String,
    /// Threads.
    pub threads: usize,
    /// The whole step: batch, forward, loss, backward, optimiser.
    pub median_ms: f64,
    /// The fastest step.
    pub min_ms: f64,
    /// Patches, upload and forward pass.
    pub forward_ms: f64,
    /// Loss and backward pass.
    pub backward_ms: f64,
    /// The method's step.
    pub optimizer_ms: f64,
    /// Resident memory at its peak.
    pub peak_rss_mib: Option<f64>,
}

/// What `eblora bench` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchResult {
    /// "cpu".
    pub device: String,
    /// Images a step.
    pub batch: usize,
    /// Rank of the adapters.
    pub rank: usize,
    /// Directions of M.
    pub memory: usize,
    /// Steps measured.
    pub repeats: usize,
    /// The figures.
    pub results: Vec<StepTime>,
}

/// Times LoRA's and EBLoRA's step for each number of threads.
///
/// # Errors
/// When the bundle can't be read or a thread pool can't be made.
pub fn run(threads: &[usize], repeats: usize) -> Result<BenchResult, Error> {
    let config = DemoConfig { rank: RANK, ..DemoConfig::default() };
    let folder = bundled::base()?;
    let tasks = mix::tasks()?;
    let (extents, weights) = (vit::config(&folder), vit::weights(&folder));
    let mut results = Vec::new();
    for &threads in threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|source| BenchError::Threads { threads, source })?;
        let measured = pool.install(|| {
            keep_awake(|| -> Result<Vec<_>, BenchError> {
                let make = || Vit::new(&Cpu::new(), &extents, &weights);
                let step = |name| Step::new(name, &config, &tasks[0].train, make);
                let mut steps = [step(MethodName::LoraFt)?, step(MethodName::Eblora)?];
                memory::reset_peak();
                for _ in 0..WARM_UP + repeats {
                    // The two take turns, so that a busy machine disturbs both alike.
                    steps.iter_mut().try_for_each(Step::run)?;
                }
                Ok(steps.iter().map(|step| step.summary(threads)).collect())
            })
        });
        results.extend(measured?);
    }
    Ok(BenchResult {
        device: Cpu::<f32>::new().name(),
        batch: config.batch,
        rank: config.rank,
        memory: MEMORY,
        repeats,
        results,
    })
}

type B = Cpu<f32>;

/// One method's step on a model of its own.
struct Step<'a> {
    name: MethodName,
    data: &'a ImageSet,
    batch: Vec<usize>,
    model: Vit<B>,
    work: <Vit<B> as Model<B>>::Workspace,
    method: Box<dyn Method<B>>,
    adapters: Adapters<B>,
    grads: AdapterGrads<B>,
    loss: <B as Backend>::Tensor,
    /// Seconds of forward, backward and optimiser.
    times: Vec<[f64; 3]>,
}

impl<'a> Step<'a> {
    fn new(
        name: MethodName,
        config: &DemoConfig,
        data: &'a ImageSet,
        make: impl Fn() -> Result<Vit<B>, ModelError>,
    ) -> Result<Self, BenchError> {
        let cpu = B::new();
        let model = make()?;
        let mut method = demo::method::<B>(name, &DemoConfig { epsilon: 1.0, ..config.clone() });
        // A first, empty task whose gradient has exactly MEMORY directions fills M.
        let mut adapters = None;
        for task in 0..2 {
            let gradients = gradients(model.sites(), task)?;
            let (sites, blocks) = (model.sites(), model.blocks());
            let start = TaskStart { task: task as usize, sites, blocks, gradients, previous: None, seed: SEED };
            adapters = Some(method.begin_task(&cpu, start)?);
            if task == 0 {
                method.end_task(&cpu)?;
            }
        }
        let Some(adapters) = adapters else { return Err(MethodError::Order("no task").into()) };
        let mut work = model.workspace(&cpu, config.batch)?;
        model.attach(&cpu, &mut work, &adapters)?;
        let (grads, loss) = (adapters.grads(&cpu)?, cpu.zeros([1, 1, 1])?);
        let batch = (0..config.batch).collect();
        Ok(Self { name, data, batch, model, work, method, adapters, grads, loss, times: Vec::new() })
    }

    fn run(&mut self) -> Result<(), BenchError> {
        let cpu = B::new();
        let start = Instant::now();
        self.model.load(&cpu, &mut self.work, self.data, &self.batch)?;
        self.model.forward(&cpu, &mut self.work, Some(&self.adapters));
        let forward = start.elapsed();
        self.model.loss(&cpu, &mut self.work, &mut self.loss, 0);
        self.model.backward(&cpu, &mut self.work, &mut Wanted::Adapters(&self.adapters, &mut self.grads));
        let backward = start.elapsed();
        self.method.step(&cpu, &mut self.adapters, &mut self.grads, 0.01)?;
        let total = start.elapsed();
        self.times.push([forward, backward - forward, total - backward].map(|t| t.as_secs_f64()));
        Ok(())
    }

    fn summary(&self, threads: usize) -> StepTime {
        let times = &self.times[WARM_UP.min(self.times.len())..];
        let column = |f: &dyn Fn(&[f64; 3]) -> f64| median(times.iter().map(f).collect());
        let total = |t: &[f64; 3]| t.iter().sum::<f64>();
        StepTime {
            name: match self.name {
                MethodName::LoraFt => "vit_step/lora".to_owned(),
                other => format!("vit_step/{other}"),
            },
            threads,
            median_ms: column(&total),
            min_ms: times.iter().map(total).fold(f64::INFINITY, f64::min) * 1e3,
            forward_ms: column(&|t| t[0]),
            backward_ms: column(&|t| t[1]),
            optimizer_ms: column(&|t| t[2]),
            peak_rss_mib: memory::peak_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20)),
        }
    }
}

/// Gradients of [`MEMORY`] equally strong random directions.
fn gradients(sites: &[Site], task: u32) -> Result<Vec<Gradient<f32>>, BenchError> {
    let mut rng = Random::new(SEED, &format!("bench/{task}"));
    let gradient = |site: &Site| {
        Ok(Gradient::Factored {
            u: random_orthonormal(site.out, MEMORY, &mut rng)?,
            s: vec![1.0; MEMORY],
            v: random_orthonormal(site.inp, MEMORY, &mut rng)?,
            total_energy: MEMORY as f64,
        })
    };
    sites.iter().map(gradient).collect()
}

/// In milliseconds.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).map_or(f64::NAN, |s| s * 1e3)
}
