//! The report as one HTML file: no scripts, nothing fetched, light or dark as the reader prefers.

use std::fmt::Write;

use super::result::{MethodResult, RunResult};
use super::svg::{self, Canvas, escape, theme};

pub(super) const PAGE_CSS: &str = include_str!("page.css");

/// The whole page.
pub fn render(result: &RunResult) -> String {
    let tasks = result.tasks.len();
    let title = format!("eblora: {tasks} tasks, one after the other");
    let style = format!("{}{PAGE_CSS}{}", theme::variables_css(), theme::figure_css());
    let mut body = format!("<h1>{title}</h1>\n<p class=\"about\">{}</p>\n", escape(&about(result)));
    body.push_str(&cards(result));
    section(
        &mut body,
        "figures wide",
        "What is kept and what is forgotten",
        "Accuracy on each task from stage to stage. Dotted: before the task is trained; the dot: just after; \
         from there on, a falling line is forgetting.",
        result.methods.iter().map(|m| svg::forgetting(m, &result.tasks)).chain([svg::mean_of_seen(result)]),
    );
    section(
        &mut body,
        "figures",
        "Accuracy on every task after every stage",
        "One row per stage, one column per task, the same colours everywhere. Framed: the task just trained. Below the \
         frame: what is left of earlier tasks. In italics: tasks still to come.",
        result.methods.iter().map(|m| svg::heatmap(m, &result.tasks)),
    );
    section(
        &mut body,
        "figures",
        "How the energy of an update is spread",
        "Shares of the squared singular values of the update ΔW during training, mean over all adapted linears; one \
         band per direction, the strongest at the bottom. Equal bands: no direction dominates.",
        result.methods.iter().map(|m| svg::spectra(m, result)),
    );
    let growth: Vec<_> = result.methods.iter().filter_map(|m| svg::growth(m, &result.tasks)).collect();
    if !growth.is_empty() {
        section(
            &mut body,
            "figures",
            "Growth of the protected subspace",
            "Directions of each linear's input that M holds after each task, as a share of all; later updates stay \
             orthogonal to them. Strong: the mean of a kind of linear; thin: each one.",
            growth,
        );
    }
    body.push_str("<h2>The numbers</h2>\n");
    body.push_str(&summary_table(result));
    result.methods.iter().for_each(|m| body.push_str(&accuracy_table(m, &result.tasks)));
    result.methods.iter().for_each(|m| body.push_str(&spectra_table(m)));
    result.methods.iter().for_each(|m| body.push_str(&growth_table(m, &result.tasks)));
    body.push_str(&settings(result));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// The forgetting curves as an SVG file with a background of its own.
pub fn forgetting_svg(result: &RunResult) -> String {
    svg::forgetting_poster(result)
}

fn about(result: &RunResult) -> String {
    let c = &result.config;
    format!(
        "The same base model, budget and data order for every method: {} steps of {} {} a task. \
         Seed {}, {} with {} thread(s), eblora {}.",
        c.steps,
        c.batch,
        c.family.samples(),
        result.seed,
        result.device,
        result.threads,
        result.eblora_version
    )
}

/// Each method's accuracy at the end, large.
fn cards(result: &RunResult) -> String {
    let mut html = "<div class=\"cards\">\n".to_owned();
    for (i, m) in result.methods.iter().enumerate() {
        let balance = m.final_balance().map_or(String::new(), |(top, rank)| {
            format!("<br>top direction {:.1} %, effective rank {rank:.1}", 100.0 * top)
        });
        // Writing to a String cannot fail.
        let _ = writeln!(
            html,
            "<div class=\"card\" style=\"--c:var(--{})\">{}<b>{:.1} %</b><span>mean accuracy at the end; {:.1} % just \
             after training, change {}{balance}</span></div>",
            theme::method_class(i),
            escape(&m.name),
            m.mfn,
            m.mft,
            signed(m.bwt)
        );
    }
    html + "</div>\n"
}

fn section(body: &mut String, class: &str, heading: &str, caption: &str, figures: impl IntoIterator<Item = Canvas>) {
    let _ = write!(body, "<h2>{heading}</h2>\n<p class=\"about\">{caption}</p>\n<div class=\"{class}\">\n");
    for figure in figures {
        let _ = writeln!(body, "<figure>{}</figure>", figure.inline());
    }
    body.push_str("</div>\n");
}

/// A cell's text, and whether it is the best of its column.
type Cell = (String, bool);

fn plain(text: impl Into<String>) -> Cell {
    (text.into(), false)
}

/// A table that scrolls on its own where the screen is narrow.
fn table(caption: &str, header: &[&str], rows: &[Vec<Cell>]) -> String {
    let head: String = header.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))).collect();
    let mut html = format!(
        "<div class=\"scroll\"><table><caption>{}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n",
        escape(caption)
    );
    for row in rows {
        html.push_str("<tr>");
        for (text, best) in row {
            let class = if *best { " class=\"best\"" } else { "" };
            let _ = write!(html, "<td{class}>{}</td>", escape(text));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table></div>\n"
}

fn summary_table(result: &RunResult) -> String {
    type Column = fn(&MethodResult) -> Option<f64>;
    let best = |f: Column| result.methods.iter().filter_map(f).reduce(f64::max);
    let scores: [Column; 7] = [
        |m| Some(m.mft),
        |m| Some(m.mfn),
        MethodResult::masked_mfn,
        |m| Some(m.maa),
        |m| Some(m.bwt),
        |m| Some(m.fwt_mtil),
        |m| Some(m.fwt_cells),
    ];
    let rows: Vec<Vec<Cell>> = result
        .methods
        .iter()
        .map(|m| {
            let mut row = vec![plain(&m.name)];
            row.extend(scores.map(|f| match f(m) {
                Some(score) => (signed_if_negative(score), best(f) == Some(score)),
                None => plain(missing()),
            }));
            let (top, rank) = m
                .final_balance()
                .map_or((missing(), missing()), |(top, rank)| (format!("{:.1} %", 100.0 * top), format!("{rank:.2}")));
            row.extend([plain(top), plain(rank)]);
            row.push(plain(m.orthonormality_error.map_or(missing(), |e| format!("{e:.1e}"))));
            row.push(plain(m.subspace_leak.map_or(missing(), |e| format!("{e:.1e}"))));
            row.push(plain(m.trainable_parameters.to_string()));
            row.push(plain(format!("{:.1}", m.seconds)));
            let mib = |b: u64| format!("{:.0}", b as f64 / f64::from(1 << 20));
            row.push(plain(m.peak_memory_bytes.map_or(missing(), mib)));
            row
        })
        .collect();
    let header = [
        "method",
        "MFT",
        "MFN",
        "masked MFN",
        "MAA",
        "BWT",
        "FWT",
        "FWT cells",
        "top share",
        "eff. rank",
        "|XᵀX−I|",
        "|MᵀV|",
        "parameters",
        "seconds",
        "peak MiB",
    ];
    table("Summary (accuracies in %)", &header, &rows) + KEY
}

const KEY: &str = "<dl>\
<dt>MFT</dt><dd>mean accuracy on each task just after training it</dd>\
<dt>MFN</dt><dd>mean accuracy on all tasks at the end</dd>\
<dt>masked MFN</dt><dd>the same where the model is told the task and chooses among its classes</dd>\
<dt>MAA</dt><dd>mean over all stages of the mean over the tasks seen</dd>\
<dt>BWT</dt><dd>mean change of a task’s accuracy from just trained to the end</dd>\
<dt>FWT</dt><dd>accuracy before a task is trained: mean per task, then over tasks; “cells”: plain mean of the upper \
triangle</dd>\
<dt>top share, eff. rank</dt><dd>energy share of the first singular direction and entropy-based effective rank of the \
last task’s updates, mean over the linears</dd>\
<dt>|XᵀX−I|, |MᵀV|</dt><dd>largest deviation from orthonormal factors, and from orthogonality to the protected subspace, \
after any step</dd></dl>\n";

fn accuracy_table(method: &MethodResult, tasks: &[String]) -> String {
    let header: Vec<&str> = [""].into_iter().chain(tasks.iter().map(String::as_str)).collect();
    let rows = std::iter::once(&method.zero_shot).chain(&method.accuracy).enumerate().map(|(i, row)| {
        let stage = if i == 0 { "zero-shot".to_owned() } else { format!("after {}", tasks[i - 1]) };
        let cells = row.iter().enumerate().map(|(j, a)| (format!("{a:.2}"), j + 1 == i));
        std::iter::once(plain(stage)).chain(cells).collect()
    });
    table(&format!("{}: accuracy in %", method.name), &header, &rows.collect::<Vec<_>>())
}

fn spectra_table(method: &MethodResult) -> String {
    let spectra = method.final_spectra();
    if spectra.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = spectra
        .iter()
        .map(|s| {
            let sigma: Vec<_> = s.sigma.iter().take(16).map(|v| format!("{v:.4}")).collect();
            let more = if s.sigma.len() > 16 { " …" } else { "" };
            let cells = [format!("{:.1} %", 100.0 * s.top_share), format!("{:.2}", s.effective_rank)];
            let mut row = vec![plain(&s.site)];
            row.extend(cells.map(plain));
            row.push(plain(format!("{:.1e}", s.variance)));
            row.push(plain(sigma.join(" ") + more));
            row
        })
        .collect();
    let header = ["linear", "top share", "eff. rank", "variance", "singular values"];
    folded(&table(&format!("{}: spectra of the last task’s updates", method.name), &header, &rows), method, "spectra")
}

fn growth_table(method: &MethodResult, tasks: &[String]) -> String {
    let mut sites: Vec<(&str, usize)> = Vec::new();
    for s in &method.subspace {
        if !sites.iter().any(|(site, _)| *site == s.site) {
            sites.push((&s.site, s.dim));
        }
    }
    if sites.is_empty() {
        return String::new();
    }
    let cell = |site: &str, task: usize| {
        let found = method.subspace.iter().find(|s| s.site == site && s.task == task);
        plain(found.map_or(missing(), |s| s.k.to_string()))
    };
    let rows: Vec<Vec<Cell>> = sites
        .iter()
        .map(|(site, dim)| {
            let mut row = vec![plain(*site), plain(dim.to_string())];
            row.extend((0..tasks.len()).map(|task| cell(site, task)));
            row
        })
        .collect();
    let header: Vec<&str> = ["linear", "inputs"].into_iter().chain(tasks.iter().map(String::as_str)).collect();
    folded(&table(&format!("{}: directions in M after each task", method.name), &header, &rows), method, "subspace")
}

/// Long tables open on a click.
fn folded(table: &str, method: &MethodResult, what: &str) -> String {
    format!("<details><summary>{}: {what} by linear</summary>\n{table}</details>\n", escape(&method.name))
}

fn settings(result: &RunResult) -> String {
    let c = &result.config;
    let mut html = "<h2>Settings</h2>\n<dl>".to_owned();
    let mut term = |name: &str, value: String| {
        let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value));
    };
    term("base", c.base.clone());
    term("tasks", result.tasks.join(", "));
    let samples = c.family.samples();
    term(
        samples,
        format!(
            "up to {} to train on, up to {} ({}) to measure on, per task",
            c.train_samples, c.measured_samples, c.split
        ),
    );
    term("budget", format!("{} steps of {} {samples} per task", c.steps, c.batch));
    term("gradients at", format!("the {} model", c.gradient_at));
    for m in &result.methods {
        let settings: Vec<_> = m.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        term(&m.name, format!("{}: {}", m.method, settings.join(", ")));
    }
    term("seed", result.seed.to_string());
    term("device", format!("{}, {} thread(s)", result.device, result.threads));
    term("machine", result.platform.clone());
    term("eblora", result.eblora_version.clone());
    result.facts.iter().for_each(|(name, value)| term(name, value.clone()));
    html.push_str("</dl>\n");
    if let Some(resolved) = &c.resolved {
        // Values of JSON always have a text.
        let text = serde_json::to_string_pretty(resolved).unwrap_or_default();
        let _ = writeln!(html, "<details><summary>the whole config</summary><pre>{}</pre></details>", escape(&text));
    }
    html
}

fn missing() -> String {
    "–".to_owned()
}

/// With a sign, and a real minus.
fn signed(value: f64) -> String {
    format!("{value:+.1}").replace('-', "−")
}

fn signed_if_negative(value: f64) -> String {
    format!("{value:.1}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_page_is_whole_and_self_contained() {
        let result = example::result();
        let page = render(&result);
        for forbidden in ["<script", "http:", "https:", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        // 3 × (forgetting, heat map, spectra), mean of seen, growth.
        assert_eq!(page.matches("<svg").count(), 11);
        assert_eq!(page.matches("role=\"img\" aria-label=\"").count(), 11);
        assert!(page.contains("prefers-color-scheme:dark"));
        for method in &result.methods {
            assert!(page.contains(&format!("<td>{:.2}</td>", method.accuracy[4][0])));
        }
        assert!(page.len() < 400_000, "{} bytes", page.len());
    }

    #[test]
    fn every_element_is_closed() {
        let page = render(&example::result());
        for tag in ["div", "table", "tbody", "tr", "td", "svg", "g", "text", "figure", "details", "dl", "dd", "p"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn names_cannot_break_out() {
        let mut result = example::result();
        result.tasks[0] = "<script>alert(1)</script>\"".to_owned();
        result.methods[0].name = "</svg><img src=x>".to_owned();
        result.config.base = "<b>".to_owned();
        let page = render(&result);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b></dd>"));
    }

    #[test]
    fn a_bare_result_still_makes_a_page() {
        let mut result = example::result();
        for method in &mut result.methods {
            (method.spectra, method.subspace, method.loss) = Default::default();
            method.peak_memory_bytes = None;
        }
        assert_eq!(render(&result).matches("<svg").count(), 10, "no growth of M");
        result.methods.clear();
        assert!(render(&result).contains("</html>"));
    }
}
