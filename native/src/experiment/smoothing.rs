//! Adapters that know nothing of each other, merged into one model: as they are, and with their singular values made equal.

use eblora_core::adapter::{Adapters, HostAdapters, HostFactors, LoraAdapter, Smoothing, smoothing};
use eblora_core::backend::Backend;
use eblora_core::faer::Mat;
use eblora_core::metrics::{AccuracyMatrix, MetricError, Nai};
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
    let names: Vec<String> = ground.subject.tasks().iter().map(|task| task.name.to_owned()).collect();
    let mut seeds = Vec::new();
    for &seed in ground.seeds {
        progress.report(Event::Note(&format!("seed {seed}: an adapter for each task alone, then all of them merged")));
        seeds.push(ground.on_device(&Merge { ground, weights, seed })?);
    }
    Ok(found(weights, &names, &seeds))
}

/// The finding from what was measured with each seed. A task that no adapter alone had learnt has no NAI: a dash.
fn found(weights: &[f32], names: &[String], seeds: &[Vec<Merged>]) -> Finding {
    // Over the seeds that have the number.
    let over = |kind: usize, weight: usize, number: &dyn Fn(&Merged) -> Option<f64>| {
        let at = kind * weights.len() + weight;
        defined(seeds.iter().filter_map(|seed| seed.get(at)).map(number))
    };
    let at_one = weights.iter().position(|&w| w == 1.0).unwrap_or(0);
    let columns = ["merge", "NAI at weight 1", "accuracy", "best NAI", "at weight", "accuracy"];
    let mut table = Table::new("independent adapters, merged (NAI 1: as good as each adapter alone)", &columns);
    let mut chart = Chart::new("normalised accuracy improvement", "weight of each adapter", "NAI");
    let mut found_of = Vec::new();
    for (kind, (name, _)) in KINDS.iter().enumerate() {
        let means: Vec<f64> =
            (0..weights.len()).map(|w| over(kind, w, &|m| m.nai.as_ref().map(|nai| nai.mean))).collect();
        let accuracy = |weight: usize| over(kind, weight, &|m| Some(m.accuracy));
        let points = weights.iter().zip(&means).filter(|(_, nai)| nai.is_finite());
        chart.line(*name, points.map(|(&w, &nai)| [f64::from(w), nai]).collect());
        let known = (0..means.len()).filter(|&w| means[w].is_finite());
        let best = known.max_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap_or(at_one);
        table.row([
            (*name).into(),
            means[at_one].into(),
            accuracy(at_one).into(),
            means[best].into(),
            f64::from(weights[best]).into(),
            accuracy(best).into(),
        ]);
        found_of.push((means[at_one], means[best]));
    }
    let columns: Vec<&str> = std::iter::once("task").chain(KINDS.map(|(name, _)| name)).collect();
    let mut each = Table::new("NAI at weight 1, task by task (–: no adapter alone had learnt it)", &columns);
    for (task, name) in names.iter().enumerate() {
        let of = |kind: usize| over(kind, at_one, &|m| m.nai.as_ref()?.per_task[task]);
        each.row(std::iter::once(name.as_str().into()).chain((0..KINDS.len()).map(|kind| of(kind).into())));
    }
    // One merge has the tasks of all: which were learnt doesn't depend on it.
    let counted = seeds.iter().filter_map(|seed| seed.first()).map(|m| m.nai.as_ref().map_or(0, Nai::counted));
    let [plain, smoothed, frobenius] = [found_of[0], found_of[1], found_of[2]];
    let held = [smoothed, frobenius].iter().any(|kind| kind.0 > plain.0 && kind.1 > plain.1);
    let [plain, smoothed, frobenius] = [plain, smoothed, frobenius].map(|(one, best)| {
        let shown = |nai: f64| if nai.is_finite() { format!("{nai:.2}") } else { "–".to_owned() };
        format!("{} / {}", shown(one), shown(best))
    });
    let verdict = format!(
        "NAI at weight 1 / at the best weight: {plain} plain, {smoothed} mean-smoothed, {frobenius} \
         Frobenius-preserving{}",
        left_out(counted.sum(), names.len() * seeds.len())
    );
    let mut found = finding(Experiment::Smoothing, CLAIM, held, verdict);
    (found.tables, found.charts) = (vec![table, each], vec![chart]);
    found
}

/// What the verdict says of tasks that are not in the means.
fn left_out(counted: usize, all: usize) -> String {
    match all - counted {
        0 => String::new(),
        _ => format!("; means over {counted} of {all} tasks and seeds, as the others were not learnt even alone"),
    }
}

/// The mean of the numbers that there are; none of none.
fn defined(numbers: impl Iterator<Item = Option<f64>>) -> f64 {
    let known: Vec<f64> = numbers.flatten().collect();
    if known.is_empty() { f64::NAN } else { mean(&known) }
}

/// NAI of a merged model with these accuracies; none where no task has room for an improvement.
fn improvement(reference: &AccuracyMatrix, accuracy: &[f64]) -> Result<Option<Nai>, ExperimentError> {
    match reference.nai_of(accuracy) {
        Ok(nai) => Ok(Some(nai)),
        Err(MetricError::NoHeadroom { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// What a merge of all adapters reaches.
struct Merged {
    nai: Option<Nai>,
    /// Mean over the tasks.
    accuracy: f64,
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
    /// Of every kind and weight.
    type Output = Vec<Merged>;

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
                found.push(Merged { nai: improvement(&reference, &accuracy)?, accuracy: mean(&accuracy) });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::table::Style;

    fn reference(individual: [f64; 2]) -> AccuracyMatrix {
        let mut reference = AccuracyMatrix::new(2);
        reference.set_zero_shot(&[10.0, 50.0]).unwrap();
        reference.set_individual(&individual).unwrap();
        reference
    }

    /// What every merge of one seed is, whatever its kind and weight.
    fn seed(individual: [f64; 2], accuracy: [f64; 2]) -> Vec<Merged> {
        let reference = reference(individual);
        let merged = |_| Merged { nai: improvement(&reference, &accuracy).unwrap(), accuracy: mean(&accuracy) };
        (0..KINDS.len() * QUICK_WEIGHTS.len()).map(merged).collect()
    }

    #[test]
    fn a_task_that_was_not_learnt_is_a_dash_and_the_others_count() {
        let names = ["first".to_owned(), "second".to_owned()];
        // The second task is as good as before any training: nothing that a merge could keep.
        let found = found(&QUICK_WEIGHTS, &names, &[seed([90.0, 50.0], [50.0, 60.0])]);
        assert_eq!(found.tables[0].rows[0][1..3], [0.5.into(), 55.0.into()]);
        assert_eq!(found.tables[1].rows[0][1], 0.5.into());
        let json: serde_json::Value = serde_json::from_str(&found.to_json()).unwrap();
        assert!(json["tables"][1]["rows"][1][1].is_null());
        assert!(found.text(Style::Plain).lines().any(|line| line.starts_with("second") && line.contains('–')));
        assert!(found.verdict.ends_with("means over 1 of 2 tasks and seeds, as the others were not learnt even alone"));
        // With another seed it was learnt.
        let seeds = [seed([90.0, 50.0], [50.0, 60.0]), seed([90.0, 60.0], [50.0, 60.0])];
        let both = super::found(&QUICK_WEIGHTS, &names, &seeds);
        assert_eq!(both.tables[1].rows[1][1], 1.0.into());
        assert!(both.verdict.contains("over 3 of 4"), "{}", both.verdict);
    }

    #[test]
    fn where_nothing_was_learnt_there_is_no_number_and_no_failure() {
        let names = ["first".to_owned(), "second".to_owned()];
        let found = found(&QUICK_WEIGHTS, &names, &[seed([10.0, 45.0], [50.0, 60.0])]);
        assert!(!found.held && found.verdict.contains("– / – plain"), "{}", found.verdict);
        assert!(found.charts[0].series.iter().all(|line| line.points.is_empty()));
    }

    #[test]
    fn where_all_was_learnt_nothing_is_left_out() {
        assert_eq!((left_out(6, 6), reference([20.0, 60.0]).nai_of(&[15.0, 55.0]).unwrap().mean), (String::new(), 0.5));
    }
}
