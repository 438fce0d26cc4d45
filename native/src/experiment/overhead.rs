//! What balance costs: time of a step by its parts, against plain LoRA and against a retraction by SVD, as the layers grow.
//!
//! The methods take turns, step by step, so that whatever else the machine does disturbs all alike.

use eblora_core::adapter::{AdapterGrads, Adapters};
use eblora_core::backend::{AdamWStep, Backend, Cpu};
use eblora_core::gpm::Subspace;
use eblora_core::linalg::random_orthonormal;
use eblora_core::manifold::{Retraction, TangentMap};
use eblora_core::method::{Method, TaskStart};
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
/// Steps, and rounds of a factor's parts, that medians are taken of; even a first look needs some.
const STEPS: usize = 24;
const FACTOR_ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 5;
/// Rounds before that, in which caches warm up.
const WARM_UP: usize = 2;

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
    let (seed, rounds) = (ground.seed(), if ground.quick { QUICK_ROUNDS } else { STEPS });
    progress.report(Event::Note("timing a step of each method, in turns"));
    let timed = ground.on_device(&Steps { ground, methods: &variants, seed, rounds })?;
    let totals: Vec<f64> = timed.iter().map(|(times, _)| median(&times.iter().map(sum).collect::<Vec<_>>())).collect();
    for ((method, (times, peak)), total) in variants.iter().zip(&timed).zip(&totals) {
        let part = |place: usize| median(&times.iter().map(|step| step[place]).collect::<Vec<_>>());
        let times = [part(0), part(1), part(2), *total].map(|seconds| (1e3 * seconds).into());
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
        let rounds = if ground.quick { QUICK_ROUNDS } else { FACTOR_ROUNDS };
        let factor = factor_times([side, rank, k], rounds, seed)?;
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
    found.settings.push(("steps timed".to_owned(), rounds.to_string()));
    Ok(found)
}

/// Seconds of forward, backward and optimiser.
type Parts = [f64; 3];

fn sum(parts: &Parts) -> f64 {
    parts.iter().sum()
}

/// Times a step of each of so many, one after the other, so many times; the first [`WARM_UP`] rounds don't count.
fn in_turns<E>(
    count: usize,
    rounds: usize,
    mut step: impl FnMut(usize) -> Result<Parts, E>,
) -> Result<Vec<Vec<Parts>>, E> {
    let mut times = vec![Vec::with_capacity(rounds); count];
    for round in 0..WARM_UP + rounds {
        for (which, all) in times.iter_mut().enumerate() {
            let taken = step(which)?;
            if round >= WARM_UP {
                all.push(taken);
            }
        }
    }
    Ok(times)
}

struct Steps<'a, 'g, S> {
    ground: &'a Ground<'g, S>,
    methods: &'a [MethodConfig],
    seed: u64,
    rounds: usize,
}

/// A method in its second task.
struct Ready<B: Backend> {
    method: Box<dyn Method<B>>,
    adapters: Adapters<B>,
    grads: AdapterGrads<B>,
    /// The most memory while it learnt the first task.
    peak: Option<u64>,
}

impl<S: Subject + Sync> Steps<'_, '_, S>
where
    S::Samples: Sync,
{
    /// Takes a method once through the first task: M and the adapters are then as in the middle of a sequence.
    fn ready<B: Backend<Scalar = f32> + 'static>(&self, b: &B, config: &MethodConfig) -> Result<Ready<B>, Error> {
        let ground = self.ground;
        let failed = |source| RunError::Method { method: config.label().to_owned(), source };
        memory::reset_peak();
        let tasks = ground.subject.tasks();
        let mut trainer = ground.trainer(b, self.seed)?;
        let mut method = config.make::<B>();
        let learnt = pollster::block_on(trainer.run(method.as_mut(), &tasks[..1], &mut Silent));
        learnt.map_err(|source| RunError::Train { method: config.label().to_owned(), source: Box::new(source) })?;
        let peak = memory::peak_bytes();
        let (sites, blocks) = (trainer.model().sites(), trainer.model().blocks());
        let gradients =
            if method.needs().gradients { crate::bench::gradients(sites, config.rank(), 1)? } else { Vec::new() };
        let start = TaskStart { blocks, gradients, ..TaskStart::new([1, 2], sites, self.seed) };
        let adapters = method.begin_task(b, start).map_err(failed)?;
        let grads = adapters.grads(b).map_err(|e| ground.wrong(e.into()))?;
        Ok(Ready { method, adapters, grads, peak })
    }
}

impl<S: Subject + Sync> Job for Steps<'_, '_, S>
where
    S::Samples: Sync,
{
    /// Of each method: the parts of every step, and the most memory.
    type Output = Vec<(Vec<Parts>, Option<u64>)>;

    fn run<B: Backend<Scalar = f32> + 'static>(&self, b: &B) -> Result<Self::Output, Error> {
        let Self { ground, methods, rounds, .. } = self;
        let wrong = |e| ground.wrong(e);
        let device = |e: eblora_core::backend::BackendError| ground.wrong(e.into());
        let mut ready = methods.iter().map(|method| self.ready(b, method)).collect::<Result<Vec<_>, _>>()?;
        // The model and its buffers are the same for all: steps don't change the one, and the others hold nothing from
        // one step to the next.
        let (tasks, model) = (ground.subject.tasks(), ground.subject.model(b).map_err(wrong)?);
        let batch: Vec<usize> = (0..ground.train.batch.min(tasks[0].train.len())).collect();
        let mut work = model.workspace(b, batch.len()).map_err(wrong)?;
        let mut loss = b.zeros([1, 1, 1]).map_err(device)?;
        // Reading one number back waits for the device.
        let settle = |loss: &B::Tensor| pollster::block_on(b.read(loss)).map(drop).map_err(device);
        let times = in_turns(methods.len(), *rounds, |which| -> Result<Parts, Error> {
            let Ready { method, adapters, grads, .. } = &mut ready[which];
            let failed = |source| RunError::Method { method: methods[which].label().to_owned(), source };
            // Room for adapters of its rank, before the clock runs.
            model.attach(b, &mut work, adapters).map_err(wrong)?;
            settle(&loss)?;
            let begun = Instant::now();
            model.load(b, &mut work, tasks[0].train, &batch).map_err(wrong)?;
            model.forward(b, &mut work, Some(adapters));
            settle(&loss)?;
            let forward = begun.elapsed();
            model.loss(b, &mut work, &mut loss, 0);
            model.backward(b, &mut work, &mut Wanted::Adapters(adapters, grads));
            settle(&loss)?;
            let backward = begun.elapsed() - forward;
            method.step(b, adapters, grads, 0.01).map_err(failed)?;
            settle(&loss)?;
            let optimiser = begun.elapsed() - forward - backward;
            Ok([forward, backward, optimiser].map(|time| time.as_secs_f64()))
        })?;
        Ok(times.into_iter().zip(&ready).map(|(times, ready)| (times, ready.peak)).collect())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Median seconds of AdamW, the projection off M, that to the tangent space, and the retractions by whitening and by SVD.
/// The factor is side×rank, off an M of k directions.
fn factor_times([side, rank, k]: [usize; 3], rounds: usize, seed: u64) -> Result<[f64; 5], Error> {
    let b = Cpu::<f32>::new();
    let mut rng = Random::new(seed, "overhead");
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
    Ok(times.map(|all| median(&all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_take_turns_and_a_disturbed_step_does_not_decide() {
        let mut order = Vec::new();
        let times = in_turns(3, QUICK_ROUNDS, |which| {
            order.push(which);
            // Something else kept the machine busy in one round.
            let busy = if order.len() == 3 * (WARM_UP + 1) { 100.0 } else { 0.0 };
            Ok::<_, Error>([1.0, which as f64, busy])
        });
        let times = times.unwrap();
        assert_eq!(order, [0, 1, 2].repeat(WARM_UP + QUICK_ROUNDS));
        assert!(QUICK_ROUNDS >= 5 && times.iter().all(|steps| steps.len() == QUICK_ROUNDS));
        assert_eq!(times[2][0], [1.0, 2.0, 100.0]);
        let totals: Vec<f64> = times[2].iter().map(sum).collect();
        assert_eq!(median(&totals), 3.0);
    }
}
