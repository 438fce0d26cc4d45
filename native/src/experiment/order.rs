//! Many orders of the tasks: is it the order that decides?

use eblora_core::random::Random;

use super::ground::{Selected, deviation, mean};
use super::{Experiment, Finding, Ground, finding};
use crate::Error;
use crate::progress::{Event, ProgressSink};
use crate::report::finding::{Chart, Table};
use crate::run::{MethodName, Subject};

const CLAIM: &str = "EBLoRA keeps more than LoRA-FT whatever the order of the tasks";
const MOST_ORDERS: usize = 8;
const QUICK_ORDERS: usize = 2;

pub fn run<S: Subject + Sync>(ground: &Ground<'_, S>, progress: &mut dyn ProgressSink) -> Result<Finding, Error>
where
    S::Samples: Sync,
{
    let tasks = ground.subject.tasks().len();
    let orders = orders(tasks, if ground.quick { QUICK_ORDERS } else { MOST_ORDERS });
    let methods = [MethodName::LoraFt, MethodName::Eblora].map(|name| ground.method(name));
    let mut ends = vec![Vec::new(); methods.len()];
    let mut changes = vec![Vec::new(); methods.len()];
    let mut columns = vec!["order"];
    columns.extend(methods.iter().map(|method| method.name.as_str()));
    let mut each = Table::new("MFN (%) of every order, means over the seeds", &columns);
    for order in &orders {
        let name = order.iter().map(|task| (task + 1).to_string()).collect::<Vec<_>>().join(" ");
        progress.report(Event::Note(&format!("order {name}")));
        let selected = Selected { of: ground.subject, tasks: order.clone() };
        let mut mfn = vec![Vec::new(); methods.len()];
        for &seed in ground.seeds {
            for (i, run) in ground.runs(&selected, &methods, seed, progress)?.iter().enumerate() {
                mfn[i].push(run.record.accuracy.mfn().unwrap_or(f64::NAN));
                changes[i].push(run.record.accuracy.bwt().unwrap_or(0.0));
            }
        }
        let means: Vec<f64> = mfn.iter().map(|values| mean(values)).collect();
        ends.iter_mut().zip(&means).for_each(|(all, &value)| all.push(value));
        each.row(std::iter::once(name.into()).chain(means.into_iter().map(Into::into)));
    }
    let mut summary = Table::new("over the orders", &["method", "MFN", "± over orders", "worst", "best", "BWT"]);
    let mut chart = Chart::new("accuracy at the end, orders sorted for each method", "orders", "MFN, %");
    for ((method, mfn), bwt) in methods.iter().zip(&ends).zip(&changes) {
        let mut sorted = mfn.clone();
        sorted.sort_by(f64::total_cmp);
        let numbers = [mean(mfn), deviation(mfn), sorted[0], sorted[sorted.len() - 1], mean(bwt)];
        summary.row(std::iter::once(method.name.as_str().into()).chain(numbers.map(Into::into)));
        chart.line(method.name.as_str(), sorted.iter().enumerate().map(|(i, &y)| [i as f64 + 1.0, y]).collect());
    }
    let better = ends[0].iter().zip(&ends[1]).filter(|(lora, eblora)| eblora > lora).count();
    let verdict = format!(
        "EBLoRA ends above LoRA-FT in {better} of {} orders: MFN {:.1} ± {:.1} against {:.1} ± {:.1}",
        orders.len(),
        mean(&ends[1]),
        deviation(&ends[1]),
        mean(&ends[0]),
        deviation(&ends[0])
    );
    let mut found = finding(Experiment::Order, CLAIM, better == orders.len(), verdict);
    (found.tables, found.charts) = (vec![summary, each], vec![chart]);
    Ok(found)
}

/// Different orders of so many tasks: the given one, its reverse, and others by a fixed seed, or all where there are few.
fn orders(tasks: usize, most: usize) -> Vec<Vec<usize>> {
    let all: usize = (1..=tasks).try_fold(1usize, |product, n| product.checked_mul(n)).unwrap_or(usize::MAX);
    let mut orders: Vec<Vec<usize>> = vec![(0..tasks).collect(), (0..tasks).rev().collect()];
    orders.dedup();
    let mut rng = Random::new(0, "orders of tasks");
    while orders.len() < most.min(all) {
        let order = rng.permutation(tasks);
        if !orders.contains(&order) {
            orders.push(order);
        }
    }
    orders.truncate(most);
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_differ_and_few_tasks_have_few() {
        let mut found = orders(3, 20);
        assert_eq!(found.len(), 6);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 6);
        assert_eq!(orders(5, 12).len(), 12);
        assert_eq!(orders(5, 12), orders(5, 12));
        assert_eq!(orders(1, 4), [[0]]);
    }
}
