//! What balance costs: time of a step by its parts, against plain LoRA and against a retraction by SVD, as the layers grow.

use eblora_core::backend::{AdamWStep, Backend, Cpu};
use eblora_core::gpm::Subspace;
use eblora_core::linalg::random_orthonormal;
use eblora_core::manifold::{Retraction, TangentMap};
use eblora_core::method::TaskStart;
use eblora_core::model::{Model, Samples, Wanted};
use eblora_core::random::Random;
use eblora_core::train::Silent;

use super::ground::Ground;
use super::{Experiment, ExperimentError, Finding, finding};
use crate::Error;
use crate::memory;
use crate::progress::{Event, ProgressSink};
use crate::report::finding::{Chart, Table};
use crate::run::{Job, MethodConfig, MethodName, RunError, Subject, WayBack};
use std::time::Instant;

const CLAIM: &str = "balance is cheap: the projections and the whitening retraction add little to a step, and whitening costs \
    less than a retraction by SVD at every size";
/// Part of LoRA's step that balance may add and be called little.
const LITTLE: f64 = 0.25;
const SEED: u64 = 0;

/// Side, rank and directions in M of a factor; the last ones are those of models of seven billion parameters.
const SIZES: [(usize, usize, usize); 8] = [
    (96, 8, 48),
    (384, 8, 64),
    (768, 16, 64),
    (4096, 16, 0),
    (4096, 16, 64),
    (4096, 16, 256),
    (4096, 64, 64),
    (11008, 16, 64),
];
const QUICK_SIZES: [(usize, usize, usize); 2] = [(96, 8, 48), (384, 8, 64)];

pub fn run<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let eblora = ground.method(MethodName::Eblora);
    let variants = [
        ground.method(MethodName::LoraFt),
        eblora.clone(),
        MethodConfig { label: Some("eblora-svd".to_owned()), retraction: Some(WayBack::Polar), ..eblora },
    ];
    let mut steps = Table::new(
        "a training step of this base, ms (medians), with M as after one task",
        &["method", "forward", "backward", "optimiser", "step", "to lora-ft", "peak MiB"],
    );
    let mut totals = Vec::new();
    for method in &variants {
        progress.report(Event::Note(&format!("timing a step of {}", method.label())));
        let Timed { forward, backward, optimiser, peak } = ground.on_device(&Step { ground, method })?;
        let total = forward + backward + optimiser;
        totals.push(total);
        let times = [forward, backward, optimiser, total].map(|seconds| (1e3 * seconds).into());
        let peak = peak.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20));
        let rest = [(total / totals[0]).into(), peak.into()];
        steps.row(std::iter::once(method.label().into()).chain(times).chain(rest));
    }
    let sizes: &[_] = if ground.quick { &QUICK_SIZES } else { &SIZES };
    let mut parts = Table::new(
        "the parts of a step of one factor on the CPU, µs (medians)",
        &["side", "rank", "M", "AdamW", "off M", "tangent", "whitening", "by SVD"],
    );
    let mut chart = Chart { log: true, ..Chart::new("ways back to the manifold, rank 16 or less", "side", "µs") };
    let (mut whitening, mut svd) = (Vec::new(), Vec::new());
    let mut slower = Vec::new();
    for &(side, rank, k) in sizes {
        progress.report(Event::Note(&format!("timing a factor of {side}×{rank}, M of {k}")));
        let factor = factor_times(side, rank, k, if ground.quick { 3 } else { 9 })?;
        let micros = factor.map(|seconds| (1e6 * seconds).into());
        parts.row([side.into(), rank.into(), k.into()].into_iter().chain(micros));
        let [.., by_whitening, by_svd] = factor.map(|seconds| 1e6 * seconds);
        slower.push(by_svd / by_whitening);
        if rank <= 16 && whitening.last().is_none_or(|last: &[f64; 2]| last[0] < side as f64) {
            whitening.push([side as f64, by_whitening]);
            svd.push([side as f64, by_svd]);
        }
    }
    chart.line("whitening", whitening);
    chart.line("by SVD", svd);
    let least = slower.iter().copied().fold(f64::INFINITY, f64::min);
    let added = totals[1] / totals[0] - 1.0;
    let verdict = format!(
        "EBLoRA's step takes {:+.0} % of LoRA-FT's time more; a retraction by SVD takes {least:.1} to {:.1} times as long as \
         whitening",
        100.0 * added,
        slower.iter().copied().fold(0.0, f64::max)
    );
    let mut found = finding(Experiment::Overhead, CLAIM, added <= LITTLE && least > 1.0, verdict);
    (found.tables, found.charts) = (vec![steps, parts], vec![chart]);
    Ok(found)
}

/// Median seconds of the parts of a step, and the most memory.
struct Timed {
    forward: f64,
    backward: f64,
    optimiser: f64,
    peak: Option<u64>,
}

struct Step<'a, 'g, S> {
    ground: &'a Ground<'g, S>,
    method: &'a MethodConfig,
}

impl<S: Subject + Sync> Job for Step<'_, '_, S>
where
    S::Samples: Sync,
{
    type Output = Timed;

    fn run<B: Backend<Scalar = f32> + 'static>(&self, b: &B) -> Result<Timed, Error> {
        let Self { ground, method: config } = self;
        let wrong = |e| ground.wrong(e);
        let failed = |source| RunError::Method { method: config.label().to_owned(), source };
        memory::reset_peak();
        let tasks = ground.subject.tasks();
        let mut trainer = ground.trainer(b, SEED)?;
        let mut method = config.make::<B>();
        // Once through the first task: M and the adapters are then as in the middle of a sequence.
        let learnt = pollster::block_on(trainer.run(method.as_mut(), &tasks[..1], &mut Silent));
        learnt.map_err(|source| RunError::Train { method: config.label().to_owned(), source: Box::new(source) })?;
        let model = trainer.model();
        let gradients = if method.needs().gradients {
            crate::bench::gradients(model.sites(), config.rank(), 1)?
        } else {
            Vec::new()
        };
        let (sites, blocks) = (model.sites(), model.blocks());
        let start = TaskStart { blocks, gradients, ..TaskStart::new([1, 2], sites, SEED) };
        let mut adapters = method.begin_task(b, start).map_err(failed)?;
        let batch: Vec<usize> = (0..ground.train.batch.min(tasks[0].train.len())).collect();
        let mut work = model.workspace(b, batch.len()).map_err(wrong)?;
        model.attach(b, &mut work, &adapters).map_err(wrong)?;
        let device = |e: eblora_core::backend::BackendError| ground.wrong(e.into());
        let mut grads = adapters.grads(b).map_err(device)?;
        let mut loss = b.zeros([1, 1, 1]).map_err(device)?;
        // Reading one number back waits for the device.
        let settle = |loss: &B::Tensor| pollster::block_on(b.read(loss)).map(drop).map_err(device);
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..if ground.quick { 3 } else { 24 } {
            let begun = Instant::now();
            model.load(b, &mut work, tasks[0].train, &batch).map_err(wrong)?;
            model.forward(b, &mut work, Some(&adapters));
            settle(&loss)?;
            let forward = begun.elapsed();
            model.loss(b, &mut work, &mut loss, 0);
            model.backward(b, &mut work, &mut Wanted::Adapters(&adapters, &mut grads));
            settle(&loss)?;
            let backward = begun.elapsed() - forward;
            method.step(b, &mut adapters, &mut grads, 0.01).map_err(failed)?;
            settle(&loss)?;
            let optimiser = begun.elapsed() - forward - backward;
            if round > 1 {
                for (all, time) in times.iter_mut().zip([forward, backward, optimiser]) {
                    all.push(time.as_secs_f64());
                }
            }
        }
        let [forward, backward, optimiser] = times.map(median);
        Ok(Timed { forward, backward, optimiser, peak: memory::peak_bytes() })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median seconds of AdamW, the projection off M, that to the tangent space, and the retractions by whitening and by SVD.
fn factor_times(side: usize, rank: usize, k: usize, rounds: usize) -> Result<[f64; 5], Error> {
    let b = Cpu::<f32>::new();
    let mut rng = Random::new(SEED, "overhead");
    let failed = |e| ExperimentError::Adapter { layer: format!("of {side}×{rank}"), source: e };
    let device = |e: eblora_core::backend::BackendError| failed(e.into());
    let linalg = |e: eblora_core::linalg::LinalgError| failed(e.into());
    let shape = [1, side, rank];
    let values = |m: &eblora_core::faer::Mat<f32>| -> Vec<f32> {
        (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| (i, j))).map(|(i, j)| m[(i, j)]).collect()
    };
    let start = values(&random_orthonormal(side, rank, &mut rng).map_err(linalg)?);
    let noise: Vec<f32> = rng.normals::<f32>(side * rank).iter().map(|x| 0.01 * x).collect();
    let x = b.upload(shape, &start).map_err(device)?;
    let mut grad = b.upload(shape, &noise).map_err(device)?;
    let [mut m, mut v] = [b.zeros(shape).map_err(device)?, b.zeros(shape).map_err(device)?];
    let mut scratch = b.scratch(shape).map_err(device)?;
    let subspace = match k {
        0 => None,
        k => {
            let basis = random_orthonormal(side, k, &mut rng).map_err(linalg)?;
            let subspace = Subspace::from_basis(basis).map_err(|e| failed(e.into()))?;
            Some(b.upload_subspaces(&[&subspace]).map_err(device)?)
        }
    };
    let mut times: [Vec<f64>; 5] = Default::default();
    for round in 0..rounds + 1 {
        let step = AdamWStep { rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: round as u32 + 1 };
        let mut taken = [0.0; 5];
        let mut clock = |place: usize, work: &mut dyn FnMut() -> Result<(), Error>| -> Result<(), Error> {
            let begun = Instant::now();
            work()?;
            taken[place] = begun.elapsed().as_secs_f64();
            Ok(())
        };
        b.write(&mut grad, &noise).map_err(device)?;
        clock(0, &mut || {
            b.adamw(&mut grad, &mut m, &mut v, step);
            Ok(())
        })?;
        if let Some(subspace) = &subspace {
            clock(1, &mut || {
                b.project_off(&mut grad, subspace, &mut scratch);
                Ok(())
            })?;
        }
        clock(2, &mut || {
            b.project_tangent(TangentMap::Euclidean, &x, &mut grad, &mut scratch);
            Ok(())
        })?;
        for (place, way) in [(3, Retraction::Whitening), (4, Retraction::Polar)] {
            let moved: Vec<f32> = start.iter().zip(&noise).map(|(x, d)| x + d).collect();
            b.write(&mut grad, &moved).map_err(device)?;
            clock(place, &mut || Ok(b.retract(way, &mut grad, &mut scratch).map_err(device)?))?;
        }
        // The first round warms up.
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(all, time)| all.push(time));
        }
    }
    Ok(times.map(median))
}
