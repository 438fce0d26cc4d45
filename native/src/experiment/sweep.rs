//! One setting over its range: the threshold ε of the gradient memory, and the rank.

use super::ground::{Measured, deviation, mean};
use super::{Experiment, Finding, Ground, finding};
use crate::Error;
use crate::progress::{Event, ProgressSink};
use crate::report::finding::{Cell, Chart, Table};
use crate::run::{MethodConfig, MethodName, Subject};

const EPSILON_CLAIM: &str = "a higher threshold protects more directions: less is forgotten, and the new tasks are learnt a \
    little less well";
const RANK_CLAIM: &str = "EBLoRA keeps more than LoRA-FT at every rank";
const EPSILONS: [f64; 6] = [0.8, 0.9, 0.95, 0.97, 0.99, 0.999];
const RANKS: [usize; 5] = [4, 8, 16, 32, 64];

const COLUMNS: [&str; 9] = ["", "method", "MFN", "±", "MFT", "BWT", "M, % of inputs", "stored numbers", "seconds"];

fn row(table: &mut Table, value: Cell, method: &str, measured: &Measured) {
    let Measured { mfn, mft, bwt, seconds, memory, stored } = measured;
    table.row([
        value,
        method.into(),
        mean(mfn).into(),
        deviation(mfn).into(),
        mean(mft).into(),
        mean(bwt).into(),
        (100.0 * mean(memory)).into(),
        mean(stored).into(),
        mean(seconds).into(),
    ]);
}

/// Labels must differ, as a run keeps its methods apart by them.
fn labelled(method: MethodConfig, label: String) -> MethodConfig {
    MethodConfig { label: Some(label), ..method }
}

pub fn epsilon<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let values: Vec<f64> = if ground.quick { vec![0.8, 0.99] } else { EPSILONS.to_vec() };
    let base = ground.method(MethodName::Eblora);
    let variant = |&e: &f64| labelled(MethodConfig { epsilon: Some(e), ..base.clone() }, format!("epsilon-{e}"));
    let methods: Vec<_> = values.iter().map(variant).collect();
    let measured = ground.measure(&methods, progress)?;
    let mut table = Table::new("EBLoRA by its threshold ε", &COLUMNS);
    table.columns[0] = "ε".to_owned();
    let mut chart = Chart::new("EBLoRA by its threshold", "ε", "%");
    for (value, measured) in values.iter().zip(&measured) {
        row(&mut table, value.to_string().into(), "eblora", measured);
    }
    for (name, pick) in [("MFN", (|m| mean(&m.mfn)) as fn(&Measured) -> f64), ("MFT", |m| mean(&m.mft))] {
        chart.line(name, values.iter().zip(&measured).map(|(&e, m)| [e, pick(m)]).collect());
    }
    chart.line("M, % of inputs", values.iter().zip(&measured).map(|(&e, m)| [e, 100.0 * mean(&m.memory)]).collect());
    let (low, high) = (&measured[0], &measured[measured.len() - 1]);
    let held = mean(&high.bwt) > mean(&low.bwt) && mean(&high.memory) > mean(&low.memory);
    let verdict = format!(
        "from ε = {} to {}: BWT {:+.1} to {:+.1}, MFT {:.1} to {:.1}, M {:.0} % to {:.0} % of the inputs",
        values[0],
        values[values.len() - 1],
        mean(&low.bwt),
        mean(&high.bwt),
        mean(&low.mft),
        mean(&high.mft),
        100.0 * mean(&low.memory),
        100.0 * mean(&high.memory)
    );
    let mut found = finding(Experiment::Epsilon, EPSILON_CLAIM, held, verdict);
    (found.tables, found.charts) = (vec![table], vec![chart]);
    Ok(found)
}

pub fn rank<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let room = smallest_side(ground)?;
    let wanted = if ground.quick { vec![4, 8] } else { RANKS.to_vec() };
    let (ranks, tight): (Vec<usize>, Vec<usize>) = wanted.into_iter().partition(|&rank| rank <= room);
    for rank in tight {
        progress.report(Event::Note(&format!("rank {rank} is left out: the smallest layer has room for {room}")));
    }
    let names = [MethodName::LoraFt, MethodName::Eblora];
    let mut methods = Vec::new();
    for &rank in &ranks {
        for name in names {
            // α follows the rank.
            let method = MethodConfig { rank: Some(rank), alpha: None, ..ground.method(name) };
            methods.push(labelled(method, format!("{name}-{rank}")));
        }
    }
    let measured = ground.measure(&methods, progress)?;
    let mut table = Table::new("methods by their rank", &COLUMNS);
    table.columns[0] = "rank".to_owned();
    let mut chart = Chart { log: true, ..Chart::new("accuracy at the end by rank", "rank", "MFN, %") };
    let mut lines = names.map(|name| (name, Vec::new()));
    for (i, (method, measured)) in methods.iter().zip(&measured).enumerate() {
        row(&mut table, method.rank().into(), method.name.as_str(), measured);
        lines[i % names.len()].1.push([method.rank() as f64, mean(&measured.mfn)]);
    }
    let leads: Vec<f64> = lines[0].1.iter().zip(&lines[1].1).map(|(lora, eblora)| eblora[1] - lora[1]).collect();
    lines.into_iter().for_each(|(name, points)| chart.line(name.as_str(), points));
    let worst = leads.iter().copied().fold(f64::INFINITY, f64::min);
    let best = leads.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shown = ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let verdict = format!("EBLoRA's lead in MFN is {worst:+.1} to {best:+.1} points over the ranks {shown}");
    let mut found = finding(Experiment::Rank, RANK_CLAIM, worst > 0.0, verdict);
    (found.tables, found.charts) = (vec![table], vec![chart]);
    Ok(found)
}

/// The most that a rank can be.
fn smallest_side<S: Subject + Sync>(ground: &Ground<'_, S>) -> Result<usize, Error>
where
    S::Samples: Sync,
{
    Ok(ground.sites()?.iter().map(|site| site.out.min(site.inp)).min().unwrap_or(1))
}
