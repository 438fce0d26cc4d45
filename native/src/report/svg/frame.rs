//! The plot area of a figure: axes, grid, and labels at the ends of lines that keep out of each other's way.

use super::canvas::{Anchor, Canvas};

/// Least distance of two labels' baselines.
const LABEL_GAP: f64 = 13.0;

/// A rectangle of the figure with the ranges that it shows.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
    /// Values at the left and right edge.
    pub across: (f64, f64),
    /// Values at the lower and upper edge.
    pub up: (f64, f64),
}

/// A label at the right end of a line.
#[derive(Clone, Debug)]
pub struct EndLabel {
    /// Where its line ends.
    pub y: f64,
    /// Class of its colour.
    pub class: String,
    /// The text.
    pub text: String,
}

impl Frame {
    /// The place of a value.
    pub fn at(&self, across: f64, up: f64) -> [f64; 2] {
        let share = |(from, to): (f64, f64), value: f64| if to > from { (value - from) / (to - from) } else { 0.5 };
        [self.x + self.w * share(self.across, across), self.y + self.h * (1.0 - share(self.up, up))]
    }

    /// Horizontal lines at 0, 25, … 100 % with their labels.
    pub fn percent_grid(&self, canvas: &mut Canvas) {
        for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
            let [_, y] = self.at(0.0, percent);
            canvas.line([self.x, y], [self.x + self.w, y], "grid");
            canvas.text([self.x - 6.0, y + 4.0], Anchor::End, "small", &format!("{percent:.0}"));
        }
    }

    /// Labels below the lower edge at these values, and a caption below them.
    pub fn ticks(&self, canvas: &mut Canvas, ticks: &[(f64, String)], caption: &str) {
        let below = self.y + self.h;
        for (value, text) in ticks {
            let [x, _] = self.at(*value, 0.0);
            canvas.text([x, below + 16.0], Anchor::Middle, "small", text);
        }
        canvas.text([self.x + self.w / 2.0, below + 31.0], Anchor::Middle, "small", caption);
    }

    /// A heading above the plot.
    pub fn title(&self, canvas: &mut Canvas, text: &str) {
        canvas.text([self.x, self.y - 12.0], Anchor::Start, "title", text);
    }

    /// Labels right of the plot, near their lines but apart from each other.
    pub fn end_labels(&self, canvas: &mut Canvas, mut labels: Vec<EndLabel>) {
        labels.sort_by(|a, b| a.y.total_cmp(&b.y));
        let places = spread(labels.iter().map(|l| l.y).collect(), self.y, self.y + self.h);
        for (label, y) in labels.iter().zip(places) {
            canvas.text([self.x + self.w + 9.0, y + 4.0], Anchor::Start, &format!("end {}", label.class), &label.text);
        }
    }
}

/// Moves sorted places apart to at least [`LABEL_GAP`], as little as possible in the square mean (isotonic regression of
/// what is left after the gaps), and into the bounds where they have room there.
fn spread(places: Vec<f64>, top: f64, bottom: f64) -> Vec<f64> {
    let gaps = |i: usize| LABEL_GAP * i as f64;
    let mut groups: Vec<(f64, usize)> = Vec::new(); // sum and count of neighbours that share a place
    for (i, place) in places.iter().enumerate() {
        let mut group = (place - gaps(i), 1);
        while let Some(&(sum, count)) = groups.last().filter(|(sum, n)| sum / *n as f64 > group.0 / group.1 as f64) {
            group = (group.0 + sum, group.1 + count);
            groups.pop();
        }
        groups.push(group);
    }
    let free = groups.iter().flat_map(|&(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    let lowest = (bottom - gaps(places.len().saturating_sub(1))).max(top);
    free.enumerate().map(|(i, place)| place.clamp(top, lowest) + gaps(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_map_to_the_corners() {
        let frame = Frame { x: 10.0, y: 20.0, w: 100.0, h: 50.0, across: (0.0, 5.0), up: (0.0, 100.0) };
        assert_eq!((frame.at(0.0, 0.0), frame.at(5.0, 100.0)), ([10.0, 70.0], [110.0, 20.0]));
        assert_eq!(Frame { across: (1.0, 1.0), ..frame }.at(1.0, 0.0), [60.0, 70.0], "a single value is centred");
    }

    #[test]
    fn labels_are_spread_inside_the_plot() {
        let places = spread(vec![95.0, 96.0, 97.0], 0.0, 100.0);
        assert_eq!(places, [74.0, 87.0, 100.0]);
        assert_eq!(spread(vec![10.0, 60.0], 0.0, 100.0), [10.0, 60.0], "no need, no move");
        assert_eq!(spread(vec![50.0, 50.0, 50.0], 0.0, 100.0), [37.0, 50.0, 63.0], "to both sides");
        assert_eq!(spread(vec![5.0; 3], 4.0, 20.0), [4.0, 17.0, 30.0], "no room: from the top");
    }
}
