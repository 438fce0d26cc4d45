//! The run as text for a terminal, at most [`WIDTH`] columns wide.

use std::fmt::Write;

use super::result::{MethodResult, RunResult};

/// No line is wider.
pub const WIDTH: usize = 100;

/// Whether text is marked up for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// Bold headings and dimmed cells by ANSI escapes.
    Ansi,
}

impl Style {
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// Bold.
pub(super) const BOLD: &str = "1";
/// Dim.
pub(super) const DIM: &str = "2";

/// Text and the ANSI code that it gets on a terminal.
pub(super) type Cell = (String, &'static str);

/// Accuracy matrices, then one line per method.
pub fn render(result: &RunResult, style: Style) -> String {
    let mut text = String::new();
    for method in &result.methods {
        text.push_str(&style.paint(BOLD, &shorten(&method.name, 30)));
        text.push_str(": accuracy (%) after each stage (row) on each task (column)\n");
        text.push_str(&grid(&matrix(result, method), style));
        text.push('\n');
    }
    text.push_str(&style.paint(BOLD, "summary"));
    let (split, samples) = (&result.config.split, result.config.family.samples());
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        ": accuracies in % on the {split} {samples}, seed {}, {} thread(s)",
        result.seed, result.threads
    );
    text.push_str(&grid(&summary(result), style));
    text.push_str(LEGEND);
    text
}

const LEGEND: &str = "\
MFT just after training  MFN at the end  MAA over all stages  BWT change since training (mean)
FWT before training: mean per task, mean of cells  top share, rank: of the last updates' energy
";

fn matrix(result: &RunResult, method: &MethodResult) -> Vec<Vec<Cell>> {
    let room = (WIDTH - 20) / result.tasks.len().max(1);
    let mut header = vec![(String::new(), "")];
    header.extend(result.tasks.iter().map(|task| (shorten(task, room.saturating_sub(2).max(6)), DIM)));
    let mut rows = vec![header];
    for (i, row) in std::iter::once(&method.zero_shot).chain(&method.accuracy).enumerate() {
        let name = if i == 0 { "zero-shot".to_owned() } else { shorten(&format!("after {}", result.tasks[i - 1]), 20) };
        let cell = |(j, a): (usize, &f64)| {
            let code = match (j + 1).cmp(&i) {
                std::cmp::Ordering::Less => "",
                std::cmp::Ordering::Equal => BOLD,
                std::cmp::Ordering::Greater => DIM,
            };
            (format!("{a:.1}"), code)
        };
        rows.push(std::iter::once((name, "")).chain(row.iter().enumerate().map(cell)).collect());
    }
    rows
}

fn summary(result: &RunResult) -> Vec<Vec<Cell>> {
    let header = ["method", "MFT", "MFN", "MAA", "BWT", "FWT", "FWT cells", "top share", "rank", "seconds", "peak MiB"];
    let mut rows = vec![header.map(|h| (h.to_owned(), DIM)).to_vec()];
    let best = result.methods.iter().map(|m| m.mfn).fold(f64::MIN, f64::max);
    for m in &result.methods {
        let (top, rank) = m.final_balance().map_or(("–".to_owned(), "–".to_owned()), |(top, rank)| {
            (format!("{:.1} %", 100.0 * top), format!("{rank:.2}"))
        });
        let peak = m.peak_memory_bytes.map_or("–".to_owned(), |b| format!("{:.0}", b as f64 / f64::from(1 << 20)));
        let mut row: Vec<Cell> = vec![(shorten(&m.name, 14), "")];
        row.extend([m.mft, m.mfn, m.maa, m.bwt, m.fwt_mtil, m.fwt_cells].map(|v| (format!("{v:.1}"), "")));
        row.extend([top, rank, format!("{:.1}", m.seconds), peak].map(|text| (text, "")));
        if m.mfn == best {
            row[2].1 = BOLD;
        }
        rows.push(row);
    }
    rows
}

/// Rows under a header: the first column to the left, the others to the right, two spaces between.
pub(super) fn grid(rows: &[Vec<Cell>], style: Style) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |j: usize| rows.iter().filter_map(|row| row.get(j)).map(|(t, _)| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (j, ((cell, code), &width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            let cell = if code.is_empty() { cell.clone() } else { style.paint(code, cell) };
            text.push_str(&if j == 0 { format!("{cell}{padding}") } else { format!("  {padding}{cell}") });
        }
        text.push('\n');
        if i == 0 {
            let total = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
            text.push_str(&style.paint(DIM, &"─".repeat(total)));
            text.push('\n');
        }
    }
    text
}

/// At most `most` characters.
pub(super) fn shorten(name: &str, most: usize) -> String {
    // A name with control characters must not move the cursor.
    let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().count() <= most { name } else { name.chars().take(most - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn holds_every_number_within_the_width() {
        let result = example::result();
        let text = render(&result, Style::Plain);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        }
        assert!(!text.contains('\u{1b}'));
        for method in &result.methods {
            for number in [method.mfn, method.bwt, method.fwt_cells, method.accuracy[3][1], method.zero_shot[4]] {
                assert!(text.contains(&format!("{number:.1}")));
            }
        }
        assert!(text.contains("12.5 %") && text.contains("8.00"));
    }

    #[test]
    fn markup_changes_nothing_but_escapes() {
        let result = example::result();
        let marked = render(&result, Style::Ansi);
        let mut plain = marked.clone();
        for code in ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[0m"] {
            plain = plain.replace(code, "");
        }
        assert!(marked.len() > plain.len());
        assert_eq!(plain, render(&result, Style::Plain));
    }

    #[test]
    fn long_and_wild_names_are_tamed() {
        let mut result = example::result();
        result.tasks[0] = "a\u{1b}[2Jvery-long-name-of-a-task-that-never-ends".to_owned();
        let text = render(&result, Style::Plain);
        assert!(!text.contains('\u{1b}') && text.lines().all(|l| l.chars().count() <= WIDTH));
    }
}
