//! What an experiment found: a claim, whether it held, and the numbers.

use serde::Serialize;

use super::table::{Cell as Painted, Style, grid};

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A name.
    Text(String),
    /// A number; `null` where there is none.
    Number(Option<f64>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(Some(number).filter(|n| n.is_finite()))
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::from(number as f64)
    }
}

/// A table: as many cells in each row as columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self { title: title.into(), columns: columns.iter().map(|&c| c.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

/// A line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<[f64; 2]>,
}

/// Lines over one axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What runs to the right.
    pub x: String,
    /// What runs up.
    pub y: String,
    /// Whether the axis to the right is one of factors.
    pub log: bool,
    /// The lines.
    pub series: Vec<Series>,
}

impl Chart {
    /// A chart without lines.
    pub fn new(title: impl Into<String>, x: &str, y: &str) -> Self {
        Self { title: title.into(), x: x.to_owned(), y: y.to_owned(), log: false, series: Vec::new() }
    }

    /// Adds a line.
    pub fn line(&mut self, name: impl Into<String>, points: Vec<[f64; 2]>) {
        self.series.push(Series { name: name.into(), points });
    }
}

/// What an experiment found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The experiment.
    pub experiment: String,
    /// The claim of the paper that it tests.
    pub claim: String,
    /// Whether it held here.
    pub held: bool,
    /// Why, in one line with the numbers.
    pub verdict: String,
    /// What it was run with, by name.
    pub settings: Vec<(String, String)>,
    /// The numbers.
    pub tables: Vec<Table>,
    /// The same as lines.
    pub charts: Vec<Chart>,
    /// Version of this program.
    pub eblora_version: String,
    /// Wall-clock time.
    pub seconds: f64,
}

impl Finding {
    /// As JSON.
    pub fn to_json(&self) -> String {
        // Texts and finite numbers always have a JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// As text for a terminal.
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let cell = |cell: &Cell| -> Painted {
                let text = match cell {
                    Cell::Text(text) => text.clone(),
                    Cell::Number(number) => number.map_or("–".to_owned(), shown),
                };
                (text, "")
            };
            let header = table.columns.iter().map(|name| (name.clone(), "")).collect();
            let rows = table.rows.iter().map(|row| row.iter().map(cell).collect());
            let all: Vec<Vec<Painted>> = std::iter::once(header).chain(rows).collect();
            text += &format!("{}\n{}\n", table.title, grid(&all, style));
        }
        text + &format!("claim: {}\n{}: {}\n", self.claim, self.outcome(), self.verdict)
    }

    /// `held` or `did not hold`.
    pub fn outcome(&self) -> &'static str {
        if self.held { "held" } else { "did not hold" }
    }
}

/// A number with as many digits as tell something.
pub(super) fn shown(number: f64) -> String {
    let number = number + 0.0; // an empty sum is -0
    let size = number.abs();
    match size {
        _ if number == number.trunc() && size < 1e6 => format!("{number:.0}"),
        0.0..0.001 => format!("{number:.2e}"),
        0.001..0.1 => format!("{number:.4}"),
        0.1..10.0 => format!("{number:.2}"),
        10.0..10_000.0 => format!("{number:.1}"),
        _ => format!("{number:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_their_digits() {
        for (number, text) in [
            (3.0, "3"),
            (0.0, "0"),
            (-0.0, "0"),
            (71.44, "71.4"),
            (-3.04, "-3.04"),
            (0.0122, "0.0122"),
            (1.5e-5, "1.50e-5"),
            (1.25e8, "1.250e8"),
        ] {
            assert_eq!(shown(number), text);
        }
    }

    #[test]
    fn a_finding_is_text_and_json() {
        let mut table = Table::new("accuracy", &["method", "MFN"]);
        table.row(["eblora".into(), 71.44.into()]);
        table.row(["none".into(), f64::NAN.into()]);
        let finding = Finding {
            experiment: "order".into(),
            claim: "it holds".into(),
            held: false,
            verdict: "it did not".into(),
            settings: vec![("seeds".into(), "0".into())],
            tables: vec![table],
            charts: Vec::new(),
            eblora_version: "0".into(),
            seconds: 1.0,
        };
        let text = finding.text(Style::Plain);
        assert!(text.contains("eblora  71.4") && text.contains("none       –"), "{text}");
        assert!(text.ends_with("claim: it holds\ndid not hold: it did not\n"));
        let json: serde_json::Value = serde_json::from_str(&finding.to_json()).unwrap();
        assert_eq!(json["tables"][0]["rows"][0][1], 71.44);
        assert!(json["tables"][0]["rows"][1][1].is_null());
    }
}
