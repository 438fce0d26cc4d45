//! The central claim by itself: what an update does to an earlier task, as a function of its spectrum alone.
//!
//! A LoRA update of the second task is taken apart into its singular vectors. Its energy is then spread anew over them, at
//! the same Frobenius norm in each layer, from all of it in one direction to equal shares; "turned" also rotates both sets
//! of vectors within their spans at random, so that it doesn't matter which direction training had made strong.

use eblora_core::adapter::{Adapters, HostAdapters, HostFactors, LoraAdapter};
use eblora_core::backend::Backend;
use eblora_core::faer::Mat;
use eblora_core::linalg::random_orthonormal;
use eblora_core::model::Model;
use eblora_core::random::Random;
use eblora_core::train::{TrainConfig, Trainer};

use super::ground::{deviation, mean};
use super::{Experiment, ExperimentError, Finding, Ground, finding};
use crate::Error;
use crate::progress::{Event, ProgressSink};
use crate::report::finding::{Chart, Table};
use crate::run::{Job, MethodName, Subject};

const CLAIM: &str = "of two updates with the same Frobenius norm and the same subspaces, the one whose energy lies in few \
    directions disturbs an earlier task more than the balanced one";
/// Energy share of the strongest direction; the first, 0, means equal shares.
const SHARES: [f64; 6] = [0.0, 0.25, 0.5, 0.75, 0.9, 1.0];
const QUICK_SHARES: [f64; 2] = [0.0, 1.0];

pub fn run<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let shares: &[f64] = if ground.quick { &QUICK_SHARES } else { &SHARES };
    let turns = if ground.quick { 2 } else { 8 };
    // Accuracy lost on the first task: share × sample (seed and turn).
    let (mut turned, mut kept) = (vec![Vec::new(); shares.len()], vec![Vec::new(); shares.len()]);
    let mut trained = Vec::new();
    for &seed in ground.seeds {
        progress.report(Event::Note(&format!("seed {seed}: two tasks, then the second update with other spectra")));
        let lost = ground.on_device(&Disturb { ground, shares, turns, seed })?;
        trained.push(lost.trained);
        for (i, (own, rotated)) in lost.by_share.into_iter().enumerate() {
            kept[i].push(own);
            turned[i].extend(rotated);
        }
    }
    let columns = ["top share", "lost, turned", "±", "lost, own vectors", "±"];
    let mut table = Table::new("accuracy (points) that the first task loses by the second one's update", &columns);
    let mut chart =
        Chart::new("what the first task loses, at one Frobenius norm", "share of the top direction", "points");
    let rank = ground.method(MethodName::LoraFt).rank();
    let place = |share: f64| share.max(1.0 / rank as f64);
    for (i, &share) in shares.iter().enumerate() {
        let cells = [place(share), mean(&turned[i]), deviation(&turned[i]), mean(&kept[i]), deviation(&kept[i])];
        table.row(cells.map(Into::into));
    }
    for (name, lost) in [("turned at random", &turned), ("own singular vectors", &kept)] {
        chart.line(name, shares.iter().zip(lost).map(|(&share, lost)| [place(share), mean(lost)]).collect());
    }
    let last = shares.len() - 1;
    let paired: Vec<f64> = turned[last].iter().zip(&turned[0]).map(|(one, even)| one - even).collect();
    let error = deviation(&paired) / (paired.len() as f64).sqrt();
    let held = mean(&paired) > 2.0 * error;
    let verdict = format!(
        "all energy in one direction costs the first task {:.1} points, equal shares {:.1}: a difference of {:+.1} ± {error:.1} \
         (standard error of {} pairs); with the update's own vectors {:.1} and {:.1}; as trained it costs {:.1}",
        mean(&turned[last]),
        mean(&turned[0]),
        mean(&paired),
        paired.len(),
        mean(&kept[last]),
        mean(&kept[0]),
        mean(&trained)
    );
    let mut found = finding(Experiment::Interference, CLAIM, held, verdict);
    (found.tables, found.charts) = (vec![table], vec![chart]);
    found.settings.push(("rotations".to_owned(), turns.to_string()));
    Ok(found)
}

struct Disturb<'a, 'g, S> {
    ground: &'a Ground<'g, S>,
    shares: &'a [f64],
    turns: usize,
    seed: u64,
}

/// Accuracy lost on the first task.
struct Lost {
    /// By the update as it was trained.
    trained: f64,
    /// By the update with its own vectors, and with turned ones, for each share.
    by_share: Vec<(f64, Vec<f64>)>,
}

impl<S: Subject + Sync> Job for Disturb<'_, '_, S>
where
    S::Samples: Sync,
{
    type Output = Lost;

    fn run<B: Backend<Scalar = f32> + 'static>(&self, backend: &B) -> Result<Lost, Error> {
        let Self { ground, shares, turns, seed } = self;
        let (tasks, method) = (ground.subject.tasks(), ground.method(MethodName::LoraFt));
        let (record, learnt) = ground.learn(backend, &method, &tasks[..2], *seed)?;
        let before = record.accuracy.get(0, 0).unwrap_or(f64::NAN);
        let [first, second] = &learnt[..] else { return Ok(Lost { trained: f64::NAN, by_share: Vec::new() }) };
        let after = |update: &HostAdapters<f32>| -> Result<f64, Error> {
            let mut model = ground.subject.model(backend).map_err(|e| ground.wrong(e))?;
            let sites = model.sites().len();
            for part in [first, update] {
                let adapters: Adapters<B> = part.upload(backend, sites).map_err(|e| ground.wrong(e.into()))?;
                model.merge(backend, &adapters).map_err(|e| ground.wrong(e))?;
            }
            let config = TrainConfig { batch: ground.train.batch, ..TrainConfig::default() };
            let mut trainer = Trainer::with_model(backend, config, model).map_err(|e| ground.wrong(e))?;
            let accuracy = pollster::block_on(trainer.accuracy(tasks[0].test, None)).map_err(|e| ground.wrong(e))?;
            Ok(before - accuracy)
        };
        let mut by_share = Vec::with_capacity(shares.len());
        for &share in *shares {
            let own = after(&spread(second, share, None)?)?;
            let mut rotated = Vec::with_capacity(*turns);
            for turn in 0..*turns {
                // The same rotations for every share: the samples are pairs.
                let mut rng = Random::new(*seed, &format!("interference/{turn}"));
                rotated.push(after(&spread(second, share, Some(&mut rng))?)?);
            }
            by_share.push((own, rotated));
        }
        Ok(Lost { trained: after(second)?, by_share })
    }
}

/// The update with its energy spread so that the strongest direction has this share and the others equal parts of the rest;
/// at its Frobenius norm, in its subspaces.
fn spread(
    update: &HostAdapters<f32>,
    share: f64,
    mut turn: Option<&mut Random>,
) -> Result<HostAdapters<f32>, ExperimentError> {
    let mut factors = Vec::with_capacity(update.factors.len());
    for f in &update.factors {
        let failed = |source| ExperimentError::Adapter { layer: format!("of site {}", f.site), source };
        let lora = LoraAdapter::new(f.v.transpose().to_owned(), f.u.clone(), f.s).map_err(failed)?;
        let svd = lora.svd().map_err(failed)?;
        let (r, energy) = (svd.s.len(), svd.s.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>());
        let top = share.max(1.0 / r.max(1) as f64);
        let rest = if r > 1 { (1.0 - top) / (r - 1) as f64 } else { 0.0 };
        let sigma = |i: usize| (energy * if i == 0 { top } else { rest }).sqrt() as f32;
        let (u, v) = match &mut turn {
            Some(rng) => {
                let mut rotation = || {
                    let turned = random_orthonormal::<f32>(r, r, rng);
                    turned.map_err(|e| failed(eblora_core::adapter::AdapterError::from(e)))
                };
                let (left, right) = (rotation()?, rotation()?);
                (&svd.u * left, &svd.v * right)
            }
            None => (svd.u, svd.v),
        };
        let u = Mat::from_fn(u.nrows(), r, |i, j| u[(i, j)] * sigma(j));
        factors.push(HostFactors { site: f.site, u, v, s: 1.0 });
    }
    Ok(HostAdapters { factors, fixed: Some(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::metrics::Spectrum;

    #[test]
    fn the_energy_is_spread_as_asked_and_its_sum_stays() {
        let mut rng = Random::new(1, "test");
        let factors = HostFactors { site: 0, u: rng.normal_matrix(9, 4), v: rng.normal_matrix(7, 4), s: 0.5 };
        let update = HostAdapters { factors: vec![factors.clone()], fixed: Some(0.5) };
        let lora = |f: &HostFactors<f32>| LoraAdapter::new(f.v.transpose().to_owned(), f.u.clone(), f.s).unwrap();
        let norm = f64::from(lora(&factors).delta().norm_l2());
        for (share, expected) in [(0.0, 0.25), (0.25, 0.25), (0.6, 0.6), (1.0, 1.0)] {
            for mut turn in [None, Some(Random::new(2, "turn"))] {
                let made = spread(&update, share, turn.as_mut()).unwrap();
                let made = lora(&made.factors[0]);
                let sigma: Vec<f64> = made.singular_values().unwrap().iter().map(|&s| f64::from(s)).collect();
                let shape = Spectrum::new(&sigma).unwrap();
                assert!((shape.top_share - expected).abs() < 1e-5, "{share}: {}", shape.top_share);
                assert!((shape.total_energy.sqrt() / norm - 1.0).abs() < 1e-5, "{share}");
            }
        }
    }
}
