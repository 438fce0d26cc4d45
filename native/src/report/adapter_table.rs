//! An adapter's layers as text for a terminal, at most [`WIDTH`](super::table::WIDTH) columns wide.

use std::fmt::Write;

use super::table::{BOLD, Cell, DIM, Style, grid, shorten};
use crate::peft::inspection::{AdapterFacts, Inspection, LayerFacts};

/// Singular values that are shown of each layer.
const SHOWN: usize = 2;
/// Room for a module's name.
const NAME: usize = 34;

/// One table per adapter.
pub fn render(inspection: &Inspection, style: Style) -> String {
    let mut text = String::new();
    for adapter in &inspection.adapters {
        if !text.is_empty() {
            text.push('\n');
        }
        let name = adapter.task.as_deref().unwrap_or(&inspection.folder);
        text.push_str(&style.paint(BOLD, &shorten(name, 40)));
        text.push_str(&summary(adapter));
        text.push_str(&grid(&rows(adapter), style));
    }
    if inspection.adapters.is_empty() {
        text.push_str("a set without a task yet\n");
    } else {
        text.push_str(LEGEND);
    }
    text
}

const LEGEND: &str = "\
‖ΔW‖ Frobenius norm  top: energy of σ₁  eff.: effective rank  var: of the σ
U, V: max |XᵀX − I| of B and Aᵀ, columns divided by their common norm, or each by its own (*)
";

fn summary(adapter: &AdapterFacts) -> String {
    let total = &adapter.total;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(after) = adapter.after {
        let _ = write!(text, " ({after})");
    }
    let _ = writeln!(text, ": {} layers, {} numbers, ranks add up to {}", total.layers, total.parameters, total.rank);
    let (top, rank) = (100.0 * total.top_share, total.effective_rank);
    let _ = write!(text, "‖ΔW‖ {:.3e}, energy {:.3e}, ", total.norm, total.energy);
    let _ = writeln!(text, "U and V orthonormal to {:.1e}", total.orthonormality_error);
    let _ = writeln!(text, "means of the layers: top share {top:.1} %, effective rank {rank:.2}");
    text
}

fn rows(adapter: &AdapterFacts) -> Vec<Vec<Cell>> {
    let header = ["layer", "rank", "σ", "‖ΔW‖", "top", "eff.", "var", "U, V"];
    let mut rows = vec![header.map(|h| (h.to_owned(), DIM)).to_vec()];
    rows.extend(adapter.layers.iter().map(row));
    rows
}

fn row(layer: &LayerFacts) -> Vec<Cell> {
    let mut sigma: Vec<_> = layer.sigma.iter().take(SHOWN).map(|s| format!("{s:.1e}")).collect();
    if layer.sigma.len() > SHOWN {
        sigma.push("…".to_owned());
    }
    let error = layer.a.orthonormality_error.max(layer.b.orthonormality_error);
    let mark = if layer.a.equal_norms && layer.b.equal_norms { "" } else { "*" };
    let cells = [
        shorten_start(&layer.module, NAME),
        layer.rank.to_string(),
        sigma.join(" "),
        format!("{:.2e}", layer.norm),
        format!("{:.0} %", 100.0 * layer.top_share),
        format!("{:.1}", layer.effective_rank),
        format!("{:.0e}", layer.variance),
        format!("{error:.0e}{mark}"),
    ];
    cells.map(|text| (text, "")).to_vec()
}

/// At most `most` characters; of a path the end tells more than the start.
fn shorten_start(name: &str, most: usize) -> String {
    let tame = shorten(name, usize::MAX);
    let count = tame.chars().count();
    if count <= most { tame } else { "…".chars().chain(tame.chars().skip(count + 1 - most)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peft::{PeftAdapter, PeftLayer};
    use crate::report::table::WIDTH;
    use eblora_core::adapter::LoraAdapter;
    use eblora_core::faer::mat;

    fn inspection() -> Inspection {
        let layer = |module: &str| PeftLayer {
            module: module.to_owned(),
            lora: LoraAdapter::new(mat![[3.0, 0.0], [0.0, 3.0]], mat![[0.5, 0.0], [0.0, 0.25]], 1.0).unwrap(),
        };
        let names = ["base.encoder.layer.11.attention.output.dense.and.more", "q\u{1b}[2J"];
        let adapter = PeftAdapter { layers: names.map(layer).into(), ..PeftAdapter::default() };
        let facts = AdapterFacts::of(&adapter).unwrap();
        let task = AdapterFacts { task: Some("movie".to_owned()), after: Some("merge"), ..facts.clone() };
        Inspection { schema: "s", version: 1, folder: "folder".to_owned(), adapters: vec![task, facts] }
    }

    #[test]
    fn holds_every_figure_within_the_width() {
        let text = render(&inspection(), Style::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        for part in ["movie (merge): 2 layers, 16 numbers", "folder: 2 layers", "1.5e0 7.5e-1", "80 %", "1.6", "0e0*"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("…oder.layer.11") || text.contains("output.dense.and.more"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let nothing = Inspection { adapters: Vec::new(), ..inspection() };
        assert_eq!(render(&nothing, Style::Plain), "a set without a task yet\n");
    }
}
