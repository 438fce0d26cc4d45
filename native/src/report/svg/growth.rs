//! Growth of the gradient subspace M from task to task, as a share of each linear's input size.

use std::collections::BTreeMap;

use super::canvas::Canvas;
use super::frame::{EndLabel, Frame};
use super::theme::task_class;
use super::{PANEL_HEIGHT, PANEL_WIDTH};
use crate::report::result::MethodResult;

/// `k/in` per task: a thin line per linear, a strong one for the mean of each kind (q, k, v, …). `None` for a method
/// without a subspace.
pub fn growth(method: &MethodResult, tasks: &[String]) -> Option<Canvas> {
    let sites = by_site(method, tasks.len());
    let mut kinds: Vec<(&str, Vec<&Vec<f64>>)> = Vec::new();
    for (site, shares) in &sites {
        let kind = site.rsplit('.').next().unwrap_or(site);
        match kinds.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, members)) => members.push(shares),
            None => kinds.push((kind, vec![shares])),
        }
    }
    let mean = |members: &[&Vec<f64>], i: usize| members.iter().map(|m| m[i]).sum::<f64>() / members.len() as f64;
    let all: Vec<_> = sites.iter().map(|(_, shares)| shares).collect();
    if all.is_empty() {
        return None;
    }
    let used = mean(&all, tasks.len());
    let label = format!("Growth of the subspace of {}: {used:.0} % of the input directions at the end", method.name);
    let mut canvas = Canvas::new(PANEL_WIDTH, PANEL_HEIGHT, label);
    let frame = Frame {
        x: 36.0,
        y: 32.0,
        w: PANEL_WIDTH - 36.0 - 92.0,
        h: PANEL_HEIGHT - 76.0,
        across: (0.0, tasks.len() as f64),
        up: (0.0, 100.0),
    };
    frame.title(&mut canvas, &format!("{}: input directions in M, %", method.name));
    frame.percent_grid(&mut canvas);
    let ticks: Vec<_> = (0..=tasks.len()).map(|i| (i as f64, i.to_string())).collect();
    frame.ticks(&mut canvas, &ticks, "after task");
    let line = |values: &[f64]| values.iter().enumerate().map(|(i, &v)| frame.at(i as f64, v)).collect::<Vec<_>>();
    let mut labels = Vec::new();
    for (n, (kind, members)) in kinds.iter().enumerate() {
        let class = task_class(n);
        members.iter().for_each(|shares| canvas.path(&line(shares), &format!("line faint {class}")));
        let means: Vec<_> = (0..=tasks.len()).map(|i| mean(members, i)).collect();
        let points = line(&means);
        canvas.path(&points, &format!("line {class}"));
        let end = means[tasks.len()];
        labels.push(EndLabel { y: points[tasks.len()][1], class, text: format!("{kind} {end:.0} %") });
    }
    frame.end_labels(&mut canvas, labels);
    Some(canvas)
}

/// Each site's share in per cent before the first task and after each, in the order of their first record.
fn by_site(method: &MethodResult, tasks: usize) -> Vec<(&str, Vec<f64>)> {
    let mut order: Vec<&str> = Vec::new();
    let mut shares: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for size in &method.subspace {
        let values = shares.entry(&size.site).or_insert_with(|| {
            order.push(&size.site);
            vec![0.0; tasks + 1]
        });
        // M never shrinks: a task without a record of its own keeps what was there.
        let share = 100.0 * size.k as f64 / size.dim.max(1) as f64;
        values.iter_mut().skip(size.task + 1).for_each(|v| *v = share);
    }
    order.into_iter().filter_map(|site| Some((site, shares.remove(site)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn only_a_method_with_a_subspace_has_the_figure() {
        let result = example::result();
        assert!(growth(&result.methods[0], &result.tasks).is_none());
        let svg = growth(&result.methods[2], &result.tasks).unwrap().inline();
        assert_eq!(svg.matches("class=\"line faint").count(), 24);
        assert_eq!(svg.matches("class=\"line s").count(), 6);
    }
}
