//! Lines over one axis: what an experiment found.

use super::canvas::{Anchor, Canvas};
use super::frame::{EndLabel, Frame};
use super::theme::method_class;
use crate::report::finding::{Chart, Series, shown};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
/// Room for the names at the lines' ends.
const NAMES: f64 = 190.0;

/// The chart; a line of a single point is a dot.
pub fn lines(chart: &Chart) -> Canvas {
    let names: Vec<_> = chart.series.iter().map(|series| series.name.as_str()).collect();
    let label = format!("{}: {} over {}, for {}", chart.title, chart.y, chart.x, names.join(", "));
    let mut canvas = Canvas::new(WIDTH, HEIGHT, label);
    let across = |x: f64| if chart.log { x.max(f64::MIN_POSITIVE).log2() } else { x };
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let (low, high) = range(points().map(|p| p[1]));
    let grid = round_steps(low, high);
    let frame = Frame {
        x: 56.0,
        y: 34.0,
        w: WIDTH - 56.0 - NAMES,
        h: HEIGHT - 80.0,
        across: range(points().map(|p| across(p[0]))),
        up: (grid.first().copied().unwrap_or(low).min(low), grid.last().copied().unwrap_or(high).max(high)),
    };
    frame.title(&mut canvas, &format!("{} ({})", chart.title, chart.y));
    for value in grid {
        let [_, y] = frame.at(0.0, value);
        canvas.line([frame.x, y], [frame.x + frame.w, y], "grid");
        canvas.text([frame.x - 6.0, y + 4.0], Anchor::End, "small", &shown(value));
    }
    frame.ticks(&mut canvas, &ticks(chart, across), &chart.x);
    let mut ends = Vec::new();
    for (i, Series { name, points }) in chart.series.iter().enumerate() {
        let class = method_class(i);
        let places: Vec<_> = points.iter().map(|p| frame.at(across(p[0]), p[1])).collect();
        canvas.path(&places, &format!("line {class}"));
        for (place, [x, y]) in places.iter().zip(points) {
            canvas.dot(*place, 2.6, &class, &format!("{name}: {} at {}", shown(*y), shown(*x)));
        }
        if let Some([_, y]) = places.last() {
            ends.push(EndLabel { y: *y, class, text: name.clone() });
        }
    }
    frame.end_labels(&mut canvas, ends);
    canvas
}

/// Least and largest of finite values; (0, 1) of none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let all = values.filter(|v| v.is_finite()).fold(None, |all: Option<(f64, f64)>, v| match all {
        None => Some((v, v)),
        Some((low, high)) => Some((low.min(v), high.max(v))),
    });
    all.unwrap_or((0.0, 1.0))
}

/// Four to eight round numbers that span the range.
fn round_steps(low: f64, high: f64) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let power = 10f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| span / step <= 6.0);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last.max(first + 1)).map(|i| i as f64 * step).collect()
}

/// At most eight of the places that the lines have.
fn ticks(chart: &Chart, across: impl Fn(f64) -> f64) -> Vec<(f64, String)> {
    let mut places: Vec<f64> = chart.series.iter().flat_map(|series| &series.points).map(|p| p[0]).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let every = places.len().div_ceil(8).max(1);
    places.iter().step_by(every).map(|&x| (across(x), shown(x))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_round_and_spans_the_lines() {
        for (low, high) in [(0.0, 1.0), (31.2, 77.7), (-8.0, -3.0), (5.0, 5.0), (1e-6, 3e-6), (0.0, 1e9)] {
            let grid = round_steps(low, high);
            assert!(grid[0] <= low && *grid.last().unwrap() >= high, "{low} to {high}: {grid:?}");
            assert!((2..=9).contains(&grid.len()), "{low} to {high}: {grid:?}");
        }
    }

    #[test]
    fn a_line_a_series_with_its_name() {
        let mut chart = Chart { log: true, ..Chart::new("MFN by rank", "rank", "%") };
        chart.line("a <b>", vec![[4.0, 1.0], [8.0, 2.0], [64.0, f64::NAN]]);
        chart.line("other", vec![[4.0, 3.0]]);
        let svg = lines(&chart).inline();
        assert_eq!(svg.matches("class=\"line ").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("a &lt;b&gt;") && svg.contains(">other<"));
        assert!(lines(&Chart::new("none", "x", "y")).inline().contains("none"));
    }
}
