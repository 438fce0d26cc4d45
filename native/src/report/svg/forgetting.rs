//! Forgetting curves: accuracy on each task from stage to stage.

use super::canvas::{Anchor, Canvas};
use super::frame::{EndLabel, Frame};
use super::theme::{method_class, task_class};
use super::{PANEL_HEIGHT, PANEL_WIDTH};
use crate::report::result::{MethodResult, RunResult};

/// Room for the labels at the lines' ends.
const RIGHT: f64 = 122.0;

fn frame(across: (f64, f64)) -> Frame {
    Frame { x: 36.0, y: 32.0, w: PANEL_WIDTH - 36.0 - RIGHT, h: PANEL_HEIGHT - 76.0, across, up: (0.0, 100.0) }
}

/// One method: a line per task, dotted before the task is trained, with a dot where it is.
pub fn forgetting(method: &MethodResult, tasks: &[String]) -> Canvas {
    let label = format!(
        "Forgetting curves of {}: {:.1} % just after training, {:.1} % at the end, on average",
        method.name, method.mft, method.mfn
    );
    let mut canvas = Canvas::new(PANEL_WIDTH, PANEL_HEIGHT, label);
    let frame = frame((0.0, tasks.len() as f64));
    frame.title(&mut canvas, &method.name);
    let note = format!("forgets {:.1} points on average", (-method.bwt).max(0.0));
    canvas.text([frame.x + frame.w, frame.y - 12.0], Anchor::End, "small", &note);
    frame.percent_grid(&mut canvas);
    let mut ticks = vec![(0.0, "base".to_owned())];
    ticks.extend((1..=tasks.len()).map(|i| (i as f64, i.to_string())));
    frame.ticks(&mut canvas, &ticks, "trained up to task");
    let mut labels = Vec::new();
    for (j, task) in tasks.iter().enumerate() {
        let class = task_class(j);
        let stages = std::iter::once(method.zero_shot[j]).chain(method.accuracy.iter().map(|row| row[j]));
        let points: Vec<_> = stages.enumerate().map(|(i, accuracy)| frame.at(i as f64, accuracy)).collect();
        canvas.path(&points[..=j + 1], &format!("line before {class}"));
        canvas.path(&points[j + 1..], &format!("line {class}"));
        let learned = method.accuracy[j][j];
        canvas.dot(points[j + 1], 4.0, &class, &format!("{task} just trained: {learned:.2} %"));
        labels.push(EndLabel { y: points[points.len() - 1][1], class, text: format!("{} {task}", j + 1) });
    }
    frame.end_labels(&mut canvas, labels);
    canvas
}

/// All methods: the mean accuracy over the tasks seen so far.
pub fn mean_of_seen(result: &RunResult) -> Canvas {
    let ends: Vec<_> = result.methods.iter().map(|m| format!("{} {:.1} %", m.name, m.mfn)).collect();
    let label = format!("Mean accuracy over the tasks seen so far; at the end: {}", ends.join(", "));
    let mut canvas = Canvas::new(PANEL_WIDTH, PANEL_HEIGHT, label);
    let count = result.tasks.len();
    let frame = frame((1.0, count as f64));
    frame.title(&mut canvas, "mean over the tasks seen so far");
    frame.percent_grid(&mut canvas);
    let ticks: Vec<_> = (1..=count).map(|i| (i as f64, i.to_string())).collect();
    frame.ticks(&mut canvas, &ticks, "trained up to task");
    let mut labels = Vec::new();
    for (m, method) in result.methods.iter().enumerate() {
        let class = method_class(m);
        let means = method.mean_of_seen();
        let points: Vec<_> = means.iter().enumerate().map(|(i, &mean)| frame.at((i + 1) as f64, mean)).collect();
        canvas.path(&points, &format!("line {class}"));
        for (i, point) in points.iter().enumerate() {
            canvas.dot(*point, 3.5, &class, &format!("{} after task {}: {:.2} %", method.name, i + 1, means[i]));
        }
        labels.push(EndLabel {
            y: points[points.len() - 1][1],
            class,
            text: format!("{} {:.1}", method.name, method.mfn),
        });
    }
    frame.end_labels(&mut canvas, labels);
    canvas
}

/// All forgetting curves and the mean in one picture with a background of its own, for a README.
pub fn forgetting_poster(result: &RunResult) -> String {
    const COLUMNS: usize = 2;
    const TOP: f64 = 44.0;
    const EDGE: f64 = 14.0;
    let mut panels: Vec<_> = result.methods.iter().map(|m| forgetting(m, &result.tasks)).collect();
    panels.push(mean_of_seen(result));
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS as f64 * PANEL_WIDTH + 2.0 * EDGE, TOP + rows as f64 * PANEL_HEIGHT + EDGE);
    let title = format!("Accuracy (%) on {} tasks, one trained after the other", result.tasks.len());
    let mut canvas = Canvas::new(width, height, title.clone());
    canvas.text([EDGE + 8.0, 30.0], Anchor::Start, "big", &title);
    for (i, panel) in panels.iter().enumerate() {
        let (column, row) = (i % COLUMNS, i / COLUMNS);
        canvas.place(EDGE + column as f64 * PANEL_WIDTH, TOP + row as f64 * PANEL_HEIGHT, panel);
    }
    canvas.file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_line_before_and_after_training_for_each_task() {
        let result = example::result();
        let svg = forgetting(&result.methods[0], &result.tasks).inline();
        assert_eq!(svg.matches("class=\"line before").count(), 5);
        assert_eq!(svg.matches("class=\"line s").count(), 5);
        assert_eq!(svg.matches("<circle").count(), 5);
        assert_eq!(mean_of_seen(&result).inline().matches("<circle").count(), 15);
    }

    #[test]
    fn the_poster_stands_alone() {
        let svg = forgetting_poster(&example::result());
        assert!(svg.starts_with("<svg xmlns=") && svg.contains("fill=\"#ffffff\""));
        for forbidden in ["var(", "<script", "href", "url("] {
            assert!(!svg.contains(forbidden), "{forbidden}");
        }
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }
}
