//! Singular values of the updates during training, as shares of the energy: one band per direction.

use super::canvas::{Anchor, Canvas};
use super::frame::Frame;
use super::theme::{hex, ramp};
use super::{PANEL_HEIGHT, PANEL_WIDTH};
use crate::report::result::{MethodResult, RunResult};

/// Mean shares of the energy after so many steps.
type Moment = (f64, Vec<f64>);

/// Stacked shares σᵢ²/Σσ² of one method, mean over the linears, over the steps of all tasks.
pub fn spectra(method: &MethodResult, result: &RunResult) -> Canvas {
    let balance = method
        .final_balance()
        .map_or(String::new(), |(top, rank)| format!("top direction {:.1} %, effective rank {rank:.1}", 100.0 * top));
    let label = format!("Spectrum of the updates of {} during training; at the end: {balance}", method.name);
    let mut canvas = Canvas::new(PANEL_WIDTH, PANEL_HEIGHT, label);
    let tasks = result.tasks.len();
    let frame = Frame {
        x: 36.0,
        y: 32.0,
        w: PANEL_WIDTH - 48.0,
        h: PANEL_HEIGHT - 76.0,
        across: (0.0, tasks as f64),
        up: (0.0, 100.0),
    };
    frame.title(&mut canvas, &method.name);
    canvas.text([frame.x + frame.w, frame.y - 12.0], Anchor::End, "small", &balance);
    frame.percent_grid(&mut canvas);
    for task in 0..tasks {
        bands(&mut canvas, &frame, task as f64, &moments(method, task, result.config.steps));
    }
    let ticks: Vec<_> = (0..tasks).map(|t| (t as f64 + 0.5, format!("task {}", t + 1))).collect();
    frame.ticks(&mut canvas, &ticks, &format!("training, {} steps a task", result.config.steps));
    canvas
}

/// The mean spectrum at each recorded step of a task, time as a share of the task, from its start to its end.
fn moments(method: &MethodResult, task: usize, steps: usize) -> Vec<Moment> {
    let mut recorded: Vec<usize> = method.spectra.iter().filter(|s| s.task == task).map(|s| s.step).collect();
    recorded.sort_unstable();
    recorded.dedup();
    let mut moments: Vec<Moment> = Vec::new();
    for step in recorded {
        let at_step = method.spectra.iter().filter(|s| (s.task, s.step) == (task, step));
        let shares: Vec<_> = at_step.filter_map(|s| s.shares()).collect();
        let rank = shares.iter().map(Vec::len).max().unwrap_or(0);
        let mean = |i: usize| shares.iter().filter_map(|s| s.get(i)).sum::<f64>() / shares.len() as f64;
        if rank > 0 {
            moments.push(((step as f64 / steps.max(1) as f64).min(1.0), (0..rank).map(mean).collect()));
        }
    }
    // Before the first record and after the last nothing else is known: flat.
    if let (Some(first), Some(last)) = (moments.first().cloned(), moments.last().cloned()) {
        moments.insert(0, (0.0, first.1));
        moments.push((1.0, last.1));
    }
    moments
}

/// One band per direction, the largest at the bottom.
fn bands(canvas: &mut Canvas, frame: &Frame, start: f64, moments: &[Moment]) {
    let rank = moments.iter().map(|(_, shares)| shares.len()).max().unwrap_or(0);
    let below = |shares: &[f64], i: usize| 100.0 * shares.iter().take(i).sum::<f64>();
    for i in 0..rank {
        let edge = |i: usize| moments.iter().map(move |(t, shares)| frame.at(start + t, below(shares, i)));
        let points: Vec<_> = edge(i).chain(edge(i + 1).rev()).collect();
        let share = if rank > 1 { i as f64 / (rank - 1) as f64 } else { 0.0 };
        canvas.area(&points, &hex(ramp(0.12 + 0.83 * share)), "band");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_band_per_direction_and_task() {
        let result = example::result();
        for method in &result.methods {
            assert_eq!(spectra(method, &result).inline().matches("class=\"band\"").count(), 5 * 8);
        }
    }

    #[test]
    fn an_update_of_zero_has_no_shares() {
        let result = example::result();
        let lora = moments(&result.methods[0], 0, 150);
        assert_eq!((lora.first().unwrap().0, lora.last().unwrap().0), (0.0, 1.0));
        assert_eq!(lora.len(), 6 + 2, "the record at step 0 is zero");
        for (_, shares) in lora {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn no_records_draw_no_bands() {
        let mut result = example::result();
        result.methods[0].spectra.clear();
        assert!(!spectra(&result.methods[0], &result).inline().contains("band"));
    }
}
