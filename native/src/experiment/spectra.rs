//! How the energy of an update is spread while it is trained, for every method.

use eblora_core::metrics::Spectrum;

use super::ground::mean;
use super::{Experiment, ExperimentError, Finding, Ground, finding};
use crate::Error;
use crate::progress::ProgressSink;
use crate::report::finding::{Chart, Table};
use crate::run::engine::MethodRun;
use crate::run::{MethodName, Subject};

const CLAIM: &str = "a few dominant directions carry most of the energy of a LoRA update, from early in training on, and \
    EBLoRA's update has all its singular values equal";

/// Statistics of a moment, means over the layers.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    top_share: f64,
    effective_rank: f64,
    /// Variance of the σ over their squared mean.
    variance: f64,
    rank: f64,
}

impl Moment {
    fn mean(moments: &[Self]) -> Self {
        let over = |value: fn(&Self) -> f64| mean(&moments.iter().map(value).collect::<Vec<_>>());
        Self {
            top_share: over(|m| m.top_share),
            effective_rank: over(|m| m.effective_rank),
            variance: over(|m| m.variance),
            rank: over(|m| m.rank),
        }
    }
}

pub fn run<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let runs = ground.runs(ground.subject, ground.methods, ground.seed(), progress)?;
    let mut chart = Chart::new("energy of the strongest direction while the first task is trained", "step", "share");
    let columns = ["method", "top share", "effective rank", "of rank", "variance/mean²"];
    let mut table = Table::new("spectra after the last step, means over tasks and layers", &columns);
    let mut ends = Vec::new();
    for run in &runs {
        let moments = moments(run)?;
        let label = run.method.label();
        let first = moments.iter().filter(|(task, ..)| *task == 0);
        chart.line(label, first.map(|(_, step, moment)| [*step as f64, moment.top_share]).collect());
        let last: Vec<Moment> = (moments.iter())
            .filter(|(task, step, _)| moments.iter().all(|(t, s, _)| t != task || s <= step))
            .map(|(.., moment)| *moment)
            .collect();
        let end = Moment::mean(&last);
        table.row([
            label.into(),
            end.top_share.into(),
            end.effective_rank.into(),
            end.rank.into(),
            end.variance.into(),
        ]);
        ends.push((run.method.name, end));
    }
    let of = |name| ends.iter().find(|(n, _)| *n == name).map(|(_, end)| *end);
    let (lora, eblora) = (of(MethodName::LoraFt), of(MethodName::Eblora));
    let (held, verdict) = match (lora, eblora) {
        (Some(lora), Some(eblora)) => (
            // More than half in one direction; equal to rounding.
            lora.top_share > 0.5 && eblora.variance < 1e-6,
            format!(
                "LoRA-FT's strongest direction has {:.1} % of the energy (effective rank {:.2} of {:.0}), EBLoRA's {:.1} % \
                 ({:.2} of {:.0})",
                100.0 * lora.top_share,
                lora.effective_rank,
                lora.rank,
                100.0 * eblora.top_share,
                eblora.effective_rank,
                eblora.rank
            ),
        ),
        _ => (false, "the config has not both of lora-ft and eblora".to_owned()),
    };
    let mut found = finding(Experiment::Spectra, CLAIM, held, verdict);
    (found.tables, found.charts) = (vec![table], vec![chart]);
    Ok(found)
}

/// Task, step and mean statistics of every snapshot.
fn moments(run: &MethodRun) -> Result<Vec<(usize, usize, Moment)>, ExperimentError> {
    let mut places: Vec<(usize, usize)> = run.record.spectra.iter().map(|point| (point.task, point.step)).collect();
    places.sort_unstable();
    places.dedup();
    let at = |(task, step): (usize, usize)| {
        let mut layers = Vec::new();
        for point in run.record.spectra.iter().filter(|point| (point.task, point.step) == (task, step)) {
            let shape = Spectrum::new(&point.sigma)?;
            let middle = mean(&point.sigma);
            let variance = if middle > 0.0 { shape.variance / (middle * middle) } else { 0.0 };
            let (top_share, effective_rank) = (shape.top_share, shape.effective_rank);
            layers.push(Moment { top_share, effective_rank, variance, rank: point.sigma.len() as f64 });
        }
        Ok((task, step, Moment::mean(&layers)))
    };
    places.into_iter().map(at).collect()
}
