//! Accuracy heat map of one method: a row per stage, a column per task, the same colours for all methods.

use super::canvas::{Anchor, Canvas};
use super::theme::{hex, ink_on, ramp};
use crate::report::result::MethodResult;

const LEFT: f64 = 128.0;
const TOP: f64 = 62.0;
const ROW: f64 = 32.0;
const GAP: f64 = 2.0;

/// The accuracy matrix of a method with its zero-shot row. Cells of the task just trained are framed; cells of tasks
/// still to come are in italics.
pub fn heatmap(method: &MethodResult, tasks: &[String]) -> Canvas {
    let cell = (330.0 / tasks.len() as f64).clamp(44.0, 72.0);
    let width = LEFT + cell * tasks.len() as f64 + 8.0;
    let height = TOP + ROW * (tasks.len() + 1) as f64 + 50.0;
    let label = format!(
        "Heat map: accuracy of {} on each task after each stage; {:.1} % on average at the end",
        method.name, method.mfn
    );
    let mut canvas = Canvas::new(width, height, label);
    canvas.text([4.0, 18.0], Anchor::Start, "title", &method.name);
    canvas.text([LEFT, 18.0], Anchor::Start, "small", "accuracy in % on …");
    for (j, task) in tasks.iter().enumerate() {
        let x = LEFT + cell * (j as f64 + 0.5);
        let lines = wrap(task);
        for (i, part) in lines.iter().enumerate() {
            let y = TOP - 8.0 - 13.0 * (lines.len() - 1 - i) as f64;
            canvas.text([x, y], Anchor::Middle, "small", part);
        }
    }
    let rows = std::iter::once(&method.zero_shot).chain(&method.accuracy);
    for (i, row) in rows.enumerate() {
        let y = TOP + ROW * i as f64;
        let stage = if i == 0 { "zero-shot".to_owned() } else { format!("after {}", tasks[i - 1]) };
        canvas.text([LEFT - 8.0, y + ROW / 2.0 + 4.0], Anchor::End, "small", &stage);
        for (j, &accuracy) in row.iter().enumerate() {
            let colour = ramp(accuracy / 100.0);
            let place = [LEFT + cell * j as f64 + GAP, y + GAP, cell - 2.0 * GAP, ROW - 2.0 * GAP];
            canvas.rect(place, &hex(colour), &format!("{stage}, on {}: {accuracy:.2} %", tasks[j]));
            let class = if j + 1 > i { "cell later" } else { "cell" };
            let centre = [place[0] + place[2] / 2.0, y + ROW / 2.0 + 4.5];
            canvas.inked_text(centre, Anchor::Middle, class, ink_on(colour), &format!("{accuracy:.1}"));
            if j + 1 == i {
                canvas.outline([place[0] - 1.0, place[1] - 1.0, place[2] + 2.0, place[3] + 2.0], "learned");
            }
        }
    }
    scale(&mut canvas, TOP + ROW * (tasks.len() + 1) as f64 + 14.0, cell * tasks.len() as f64);
    canvas
}

/// The colour scale from 0 to 100 %.
fn scale(canvas: &mut Canvas, y: f64, width: f64) {
    const PARTS: usize = 25;
    let part = (width - 2.0 * GAP) / PARTS as f64;
    for i in 0..PARTS {
        let fill = hex(ramp((i as f64 + 0.5) / PARTS as f64));
        canvas.rect([LEFT + GAP + part * i as f64, y, part + 0.5, 8.0], &fill, "");
    }
    for (share, anchor, text) in [(0.0, Anchor::Start, "0"), (0.5, Anchor::Middle, "50"), (1.0, Anchor::End, "100 %")] {
        canvas.text([LEFT + GAP + (width - 2.0 * GAP) * share, y + 22.0], anchor, "small", text);
    }
}

/// A name in one or two lines, broken at its first hyphen.
fn wrap(name: &str) -> Vec<String> {
    match name.split_once('-') {
        Some((first, second)) => vec![format!("{first}-"), second.to_owned()],
        None => vec![name.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn every_cell_has_its_number_and_the_diagonal_its_frame() {
        let result = example::result();
        let svg = heatmap(&result.methods[2], &result.tasks).inline();
        assert_eq!(svg.matches("class=\"cell").count(), 30);
        assert_eq!(svg.matches("class=\"learned\"").count(), 5);
        assert_eq!(svg.matches("later").count(), 15, "zero-shot row and upper triangle");
        assert!(svg.contains(&format!(">{:.1}<", result.methods[2].accuracy[4][0])));
    }
}
