//! The size of the gradient memory over a long sequence, and what a bound on it costs.
//!
//! Without a budget a subspace beyond half of the inputs is kept by its complement, so that no more than half of the
//! inputs' square is ever stored. With one M itself is kept, beside the energy of each of its directions: the bound is
//! then budget times inputs, which for a large budget is more than the complement would take.

use std::borrow::Cow;

use eblora_core::model::Targets;
use eblora_core::train::TrainConfig;

use super::ground::mean;
use super::{Experiment, Finding, Ground, finding};
use crate::Error;
use crate::data::{bundled, transform};
use crate::progress::ProgressSink;
use crate::report::finding::{Chart, Table};
use crate::run::engine::MethodRun;
use crate::run::subject::{Named, VitSubject};
use crate::run::{MethodConfig, MethodName};

const CLAIM: &str = "the memory stays bounded over a long sequence: without a budget no more than half of the input's \
    square is stored, as a subspace beyond half is kept by its complement; a budget keeps M itself, no more than budget \
    times inputs, and costs little accuracy";
/// Points of MFN that a budget may cost and be called little.
const LITTLE: f64 = 3.0;
const SIDE: usize = 28;
const PATCH: usize = 7;
const CLOTHES: u32 = 10;

/// How long a sequence, and how much of each task.
struct Extent {
    tasks: usize,
    train: usize,
    test: usize,
    steps: usize,
    budgets: Vec<usize>,
}

pub fn run<S>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error> {
    let extent = match ground.quick {
        true => Extent { tasks: 6, train: 96, test: 32, steps: 6, budgets: vec![24] },
        false => Extent { tasks: 50, train: 300, test: 100, steps: 30, budgets: vec![24, 48, 72] },
    };
    let subject = subject(&extent)?;
    let train = TrainConfig { steps: extent.steps, snapshots: 1, ..ground.train.clone() };
    let Ground { methods, seeds, threads, device, quick, .. } = *ground;
    let own = Ground { subject: &subject, train, methods, seeds, threads, device, quick };
    let base = own.method(MethodName::Eblora);
    let mut variants = vec![MethodConfig { label: Some("unbounded".to_owned()), ..base.clone() }];
    variants.extend(extent.budgets.iter().map(|&budget| {
        let label = Some(format!("budget-{budget}"));
        MethodConfig { label, budget: Some(budget), ..base.clone() }
    }));
    variants.push(MethodConfig { label: Some("ebo".to_owned()), ..own.method(MethodName::Ebo) });
    let runs = own.runs(&subject, &variants, own.seed(), progress)?;

    let columns = ["memory", "M, % of inputs", "stored numbers", "as M itself", "MFN", "MFT", "BWT"];
    let mut table = Table::new(format!("after {} tasks", extent.tasks), &columns);
    let mut sizes = Chart::new("directions in M", "tasks", "% of the inputs, mean over the layers");
    let mut numbers = Chart::new("numbers stored for M, all layers", "tasks", "numbers");
    let mut ends = Vec::new();
    for run in &runs {
        let accuracy = &run.record.accuracy;
        let end = [accuracy.mfn(), accuracy.mft(), accuracy.bwt()].map(|metric| metric.unwrap_or(f64::NAN));
        let growth: Vec<Size> = (0..extent.tasks).map(|task| size(run, task)).collect();
        let last = growth.last().cloned().unwrap_or_default();
        let cells = [100.0 * last.share, last.stored, last.direct].into_iter().chain(end);
        table.row(std::iter::once(run.method.label().into()).chain(cells.map(Into::into)));
        if run.method.name.has_memory() {
            let label = run.method.label();
            let points = |value: fn(&Size) -> f64| {
                growth.iter().enumerate().map(|(task, size)| [task as f64 + 1.0, value(size)]).collect::<Vec<_>>()
            };
            sizes.line(label, points(|size| 100.0 * size.share));
            numbers.line(label, points(|size| size.stored));
        }
        let most = growth.iter().map(|size| size.stored).fold(0.0, f64::max);
        ends.push(End { mfn: end[0], most, last });
    }
    let (held, verdict) = judge(&ends, &extent.budgets);
    let mut found = finding(Experiment::Memory, CLAIM, held, verdict);
    (found.tables, found.charts) = (vec![table], vec![sizes, numbers]);
    let Extent { tasks, train, test, steps, .. } = extent;
    let shape = format!("{tasks} tasks of {train} training and {test} test images, {steps} steps each");
    found.settings.push(("sequence".to_owned(), shape));
    Ok(found)
}

/// A variant at the end of the sequence.
struct End {
    /// Accuracy, %.
    mfn: f64,
    /// The most numbers that M took.
    most: f64,
    /// M after the last task.
    last: Size,
}

/// Whether the claim held, and why; the ends are those of EBLoRA without a budget, with each, and of EBO.
fn judge(ends: &[End], budgets: &[usize]) -> (bool, String) {
    let [unbounded, bounded @ .., ebo] = ends else { return (false, "the runs were stopped".to_owned()) };
    let bound = unbounded.last.square / 2.0;
    let within = bounded.iter().zip(budgets).all(|(end, &budget)| end.most <= budget as f64 * end.last.inputs);
    let best = bounded.iter().zip(budgets).max_by(|(a, _), (b, _)| a.mfn.total_cmp(&b.mfn));
    let Some((best, budget)) = best else { return (false, "no budget was tried".to_owned()) };
    let held = unbounded.most <= bound && within && best.mfn >= unbounded.mfn - LITTLE;
    let lead = unbounded.mfn - ebo.mfn;
    let verdict = format!(
        "unbounded, M holds {:.0} % of the inputs in {:.0} numbers (at most {bound:.0}) and ends at {:.1} %, {:.1} \
         points {} EBO, which has no memory ({:.1} %); the best budget, {budget}, keeps M itself in {:.0} numbers (at \
         most {:.0}) and ends at {:.1} %",
        100.0 * unbounded.last.share,
        unbounded.last.stored,
        unbounded.mfn,
        lead.abs(),
        if lead < 0.0 { "below" } else { "above" },
        ebo.mfn,
        best.last.stored,
        *budget as f64 * best.last.inputs,
        best.mfn
    );
    (held, verdict)
}

/// How large M is after a task.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// k/in, mean over the layers.
    share: f64,
    /// Numbers stored, over all layers.
    stored: f64,
    /// Numbers that M itself would take.
    direct: f64,
    /// Inputs of all layers.
    inputs: f64,
    /// Squares of the inputs.
    square: f64,
}

fn size(run: &MethodRun, task: usize) -> Size {
    let points: Vec<_> = run.record.memory.iter().filter(|point| point.task == task).collect();
    Size {
        share: mean(&points.iter().map(|p| p.k as f64 / p.dim.max(1) as f64).collect::<Vec<_>>()),
        stored: points.iter().map(|p| p.stored as f64).sum(),
        direct: points.iter().map(|p| (p.k * p.dim) as f64).sum(),
        inputs: points.iter().map(|p| p.dim as f64).sum(),
        square: points.iter().map(|p| (p.dim * p.dim) as f64).sum(),
    }
}

/// Digits and clothes in turns, each time in another order of their patches, turned, or inverted.
fn subject(extent: &Extent) -> Result<VitSubject<'static>, Error> {
    let (mnist, fashion) = (bundled::mnist()?, bundled::fashion()?);
    let mut tasks = Vec::with_capacity(extent.tasks);
    for number in 0..extent.tasks {
        let (source, shift, name) = match number % 2 {
            0 => (&fashion, CLOTHES, "clothes"),
            _ => (&mnist, 0, "digits"),
        };
        let order = transform::patch_order(number as u64, (SIDE / PATCH).pow(2));
        let change = |image: &[u8]| {
            let image = transform::permute_patches(image, SIDE, PATCH, &order);
            if number % 3 == 2 { transform::invert(&image) } else { image }
        };
        let part = |set: &eblora_core::model::vit::ImageSet, images: usize| {
            // Other images every time, as far as they go.
            let first = (number / 2 * images) % (set.len() - images + 1).max(1);
            set.slice(first..first + images).map(change, shift)
        };
        tasks.push(Named {
            name: format!("{name}-{number}"),
            train: Cow::Owned(part(&source.train, extent.train)),
            test: Cow::Owned(part(&source.test, extent.test)),
        });
    }
    Ok(VitSubject::new(&bundled::base()?, Targets::default(), tasks))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two layers of 10 inputs, of which M takes this share.
    fn end(mfn: f64, most: f64, stored: f64) -> End {
        End { mfn, most, last: Size { share: 0.8, stored, direct: 160.0, inputs: 20.0, square: 200.0 } }
    }

    #[test]
    fn each_form_has_a_bound_of_its_own() {
        // A budget of 7 keeps more than the half that is the bound of none: as it may.
        let ends =
            |unbounded: f64, bounded: f64| [end(50.0, unbounded, 40.0), end(60.0, bounded, 130.0), end(55.0, 0.0, 0.0)];
        let (held, verdict) = judge(&ends(100.0, 140.0), &[7]);
        assert!(held, "{verdict}");
        for part in [
            "in 40 numbers (at most 100) and ends at 50.0 %, 5.0 points below EBO",
            "budget, 7, keeps M itself in 130 numbers",
        ] {
            assert!(verdict.contains(part), "{verdict}");
        }
        assert!(!judge(&ends(101.0, 140.0), &[7]).0, "more than half of the square");
        assert!(!judge(&ends(100.0, 141.0), &[7]).0, "more than the budget");
        assert!(
            !judge(&[end(64.0, 100.0, 40.0), end(60.0, 140.0, 130.0), end(55.0, 0.0, 0.0)], &[7]).0,
            "a costly budget"
        );
    }
}
