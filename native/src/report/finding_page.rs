//! A finding as one HTML page, of the same kind as a run's report.

use std::fmt::Write;

use super::finding::{Cell, Finding, Table, shown};
use super::html::PAGE_CSS;
use super::svg::{self, escape, theme};

/// The whole page.
pub fn render(finding: &Finding) -> String {
    let Finding { experiment, claim, verdict, .. } = finding;
    let title = format!("eblora experiment {}", escape(experiment));
    let style = format!("{}{PAGE_CSS}{}", theme::variables_css(), theme::figure_css());
    let mut body = format!(
        "<h1>{title}</h1>\n<p class=\"about\">Claim: {}</p>\n<p><b>It {}.</b> {}</p>\n",
        escape(claim),
        finding.outcome(),
        escape(verdict)
    );
    body.push_str("<div class=\"figures wide\">\n");
    for chart in &finding.charts {
        // Writing to a String cannot fail.
        let _ = writeln!(body, "<figure>{}</figure>", svg::lines(chart).inline());
    }
    body.push_str("</div>\n<h2>The numbers</h2>\n");
    finding.tables.iter().for_each(|t| table(&mut body, t));
    body.push_str("<h2>Settings</h2>\n<table>\n");
    for (name, value) in &finding.settings {
        let _ = writeln!(body, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    let _ = writeln!(
        body,
        "</table>\n<p class=\"about\">eblora {}, {:.0} s.</p>",
        escape(&finding.eblora_version),
        finding.seconds
    );
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn table(body: &mut String, table: &Table) {
    let _ = write!(body, "<table>\n<caption>{}</caption>\n<tr>", escape(&table.title));
    table.columns.iter().for_each(|column| body.push_str(&format!("<th>{}</th>", escape(column))));
    body.push_str("</tr>\n");
    for row in &table.rows {
        body.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let text = match cell {
                Cell::Text(text) => escape(text),
                Cell::Number(number) => number.map_or("–".to_owned(), shown),
            };
            let tag = if i == 0 { "th" } else { "td" };
            let _ = write!(body, "<{tag}>{text}</{tag}>");
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table>\n");
}
