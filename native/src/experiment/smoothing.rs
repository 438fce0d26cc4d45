//! Adapters that know nothing of each other, merged into one model: as they are, and with their singular values made equal.

use eblora_core::adapter::{Adapters, HostAdapters, HostFactors, LoraAdapter, Smoothing, smoothing};
use eblora_core::backend::Backend;
use eblora_core::faer::Mat;
use eblora_core::metrics::AccuracyMatrix;
use eblora_core::model::Model;
use eblora_core::train::{TrainConfig, Trainer};

use super::ground::mean;
use super::{Experiment, ExperimentError, Finding, Ground, finding};
use crate::Error;
use crate::progress::{Event, ProgressSink};
use crate::report::finding::{Chart, Table};
use crate::run::{Job, MethodName, Subject};

const CLAIM: &str = "independent LoRA adapters get less in each other's way when their singular values are made equal before \
    they are merged: a higher normalised accuracy improvement (NAI)";
const WEIGHTS: [f32; 8] = [0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2];
const QUICK_WEIGHTS: [f32; 2] = [0.3, 1.0];
const KINDS: [(&str, Option<Smoothing>); 3] =
    [("plain", None), ("mean-smoothed", Some(Smoothing::Mean)), ("Frobenius-preserving", Some(Smoothing::Frobenius))];

pub fn run<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let weights: &[f32] = if ground.quick { &QUICK_WEIGHTS } else { &WEIGHTS };
    // NAI and mean accuracy: kind × weight × seed.
    let mut nai = vec![vec![Vec::new(); weights.len()]; KINDS.len()];
    let mut accuracy = nai.clone();
    for &seed in ground.seeds {
        progress.report(Event::Note(&format!("seed {seed}: an adapter for each task alone, then all of them merged")));
        let merged = ground.on_device(&Merge { ground, weights, seed })?;
        for (i, found) in merged.into_iter().enumerate() {
            let (kind, weight) = (i / weights.len(), i % weights.len());
            nai[kind][weight].push(found.0);
            accuracy[kind][weight].push(found.1);
        }
    }
    let columns = ["merge", "NAI at weight 1", "accuracy", "best NAI", "at weight", "accuracy"];
    let mut table = Table::new("independent adapters, merged (NAI 1: as good as each adapter alone)", &columns);
    let mut chart = Chart::new("normalised accuracy improvement", "weight of each adapter", "NAI");
    let mut found_of = Vec::new();
    for (kind, (name, _)) in KINDS.iter().enumerate() {
        let means: Vec<f64> = nai[kind].iter().map(|seeds| mean(seeds)).collect();
        chart.line(*name, weights.iter().zip(&means).map(|(&w, &y)| [f64::from(w), y]).collect());
        let at_one = weights.iter().position(|&w| w == 1.0).unwrap_or(0);
        let best = (0..means.len()).max_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap_or(0);
        table.row([
            (*name).into(),
            means[at_one].into(),
            mean(&accuracy[kind][at_one]).into(),
            means[best].into(),
            f64::from(weights[best]).into(),
            mean(&accuracy[kind][best]).into(),
        ]);
        found_of.push((means[at_one], means[best]));
    }
    let [plain, smoothed, frobenius] = [found_of[0], found_of[1], found_of[2]];
    let held = [smoothed, frobenius].iter().any(|kind| kind.0 > plain.0 && kind.1 > plain.1);
    let verdict = format!(
        "NAI at weight 1 / at the best weight: {:.2} / {:.2} plain, {:.2} / {:.2} mean-smoothed, {:.2} / {:.2} \
         Frobenius-preserving",
        plain.0, plain.1, smoothed.0, smoothed.1, frobenius.0, frobenius.1
    );
    let mut found = finding(Experiment::Smoothing, CLAIM, held, verdict);
    (found.tables, found.charts) = (vec![table], vec![chart]);
    Ok(found)
}

struct Merge<'a, 'g, S> {
    ground: &'a Ground<'g, S>,
    weights: &'a [f32],
    seed: u64,
}

impl<S: Subject + Sync> Job for Merge<'_, '_, S>
where
    S::Samples: Sync,
{
    /// NAI and mean accuracy of every kind and weight.
    type Output = Vec<(f64, f64)>;

    fn run<B: Backend<Scalar = f32> + 'static>(&self, backend: &B) -> Result<Self::Output, Error> {
        let Self { ground, weights, seed } = self;
        let (tasks, method) = (ground.subject.tasks(), ground.method(MethodName::LoraFt));
        let mut reference = AccuracyMatrix::new(tasks.len());
        let (mut zero_shot, mut individual, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for task in 0..tasks.len() {
            let (record, mut adapters) = ground.learn(backend, &method, &tasks[task..=task], *seed)?;
            let base = record.accuracy.zero_shot().and_then(|row| row.first().copied().flatten());
            zero_shot.push(base.unwrap_or(f64::NAN));
            individual.push(record.accuracy.get(0, 0).unwrap_or(f64::NAN));
            alone.extend(adapters.pop());
        }
        reference.set_zero_shot(&zero_shot).map_err(ExperimentError::from)?;
        reference.set_individual(&individual).map_err(ExperimentError::from)?;
        let mut found = Vec::with_capacity(KINDS.len() * weights.len());
        for (_, kind) in KINDS {
            let model = ground.subject.model(backend).map_err(|e| ground.wrong(e))?;
            let names: Vec<String> = model.sites().iter().map(|site| site.name.clone()).collect();
            for &weight in *weights {
                let sum = HostAdapters { factors: merged(&alone, weight, kind, &names)?, fixed: Some(1.0) };
                let mut model = ground.subject.model(backend).map_err(|e| ground.wrong(e))?;
                let adapters: Adapters<B> = sum.upload(backend, names.len()).map_err(|e| ground.wrong(e.into()))?;
                model.merge(backend, &adapters).map_err(|e| ground.wrong(e))?;
                let config = TrainConfig { batch: ground.train.batch, ..TrainConfig::default() };
                let mut trainer = Trainer::with_model(backend, config, model).map_err(|e| ground.wrong(e))?;
                let accuracy = tasks.iter().map(|task| pollster::block_on(trainer.accuracy(task.test, None)));
                let accuracy = accuracy.collect::<Result<Vec<f64>, _>>().map_err(|e| ground.wrong(e))?;
                let nai = reference.nai_of(&accuracy).map_err(ExperimentError::from)?;
                found.push((nai.mean, mean(&accuracy)));
            }
        }
        Ok(found)
    }
}

/// Σ weight·ΔW over the tasks, layer by layer.
fn merged(
    alone: &[HostAdapters<f32>],
    weight: f32,
    kind: Option<Smoothing>,
    names: &[String],
) -> Result<Vec<HostFactors<f32>>, ExperimentError> {
    let mut factors = Vec::new();
    for (site, name) in names.iter().enumerate() {
        let failed = |source| ExperimentError::Adapter { layer: name.clone(), source };
        let of_site = alone.iter().filter_map(|task| task.factors.iter().find(|f| f.site == site));
        let updates = of_site.map(|f| LoraAdapter::new(f.v.transpose().to_owned(), f.u.clone(), f.s));
        let updates = updates.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        if updates.is_empty() {
            continue;
        }
        let sum = smoothing::merge(&updates, &vec![weight; updates.len()], kind).map_err(failed)?;
        let b = Mat::from_fn(sum.b.nrows(), sum.b.ncols(), |i, j| sum.scale * sum.b[(i, j)]);
        factors.push(HostFactors { site, u: b, v: sum.a.transpose().to_owned(), s: 1.0 });
    }
    Ok(factors)
}
