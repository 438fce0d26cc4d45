//! One table for the same run with several seeds: mean and standard deviation of every figure.

use thiserror::Error;

use super::paired::{Paired, paired};
use super::result::{MethodResult, RunResult};

/// Why results have no common table.
#[derive(Debug, Error, PartialEq)]
pub enum SummaryError {
    /// No result at all.
    #[error("no result to summarise")]
    Empty,
    /// Results of different runs.
    #[error("the results of seeds {first} and {other} are not of one run: their {what} differ")]
    Differ {
        /// The first seed.
        first: u64,
        /// Another one.
        other: u64,
        /// What differs.
        what: &'static str,
    },
}

/// The mean of a list, and its standard deviation (n − 1 in the denominator; `None` for a single value).
///
/// ```
/// use eblora::report::summary::mean_and_sd;
/// assert_eq!(mean_and_sd(&[1.0, 3.0]), (2.0, Some(2.0_f64.sqrt())));
/// assert_eq!(mean_and_sd(&[1.0]), (1.0, None));
/// ```
pub fn mean_and_sd(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

/// The figures of one method over all seeds.
type Column = (&'static str, fn(&MethodResult) -> f64);

/// The method that the others are compared with, where it ran.
const REFERENCE: &str = "eblora";

const COLUMNS: [Column; 9] = [
    ("MFT", |m| m.mft),
    ("MFN", |m| m.mfn),
    ("masked MFN", |m| m.masked_mfn().unwrap_or(f64::NAN)),
    ("MAA", |m| m.maa),
    ("BWT", |m| m.bwt),
    ("FWT", |m| m.fwt_mtil),
    ("FWT cells", |m| m.fwt_cells),
    ("stored", |m| m.stored.map_or(f64::NAN, |numbers| numbers as f64 / 1000.0)),
    ("seconds", |m| m.seconds),
];

/// Markdown tables: a row for each method, `mean ± SD` over the seeds; the accuracies at the end task by task; and, of several
/// seeds, the paired differences to EBLoRA.
///
/// # Errors
/// When there is no result, or they are of different runs.
pub fn markdown(results: &[RunResult]) -> Result<String, SummaryError> {
    let first = results.first().ok_or(SummaryError::Empty)?;
    for other in &results[1..] {
        let names = |result: &RunResult| result.methods.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        for (what, differ) in [("tasks", first.tasks != other.tasks), ("methods", names(first) != names(other))] {
            if differ {
                return Err(SummaryError::Differ { first: first.seed, other: other.seed, what });
            }
        }
    }
    let cell = |method: usize, figure: &dyn Fn(&MethodResult) -> f64| {
        let values: Vec<f64> = results.iter().map(|result| figure(&result.methods[method])).collect();
        shown(&values)
    };
    let names = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).chain(["parameters".to_owned()]).collect();
    let figures = first.methods.iter().enumerate().map(|(i, method)| {
        let figures = COLUMNS.iter().map(|(_, figure)| cell(i, figure));
        [vec![method.name.clone()], figures.collect(), vec![method.trainable_parameters.to_string()]].concat()
    });
    let figures = table(names, figures);
    let zero = (0..first.tasks.len()).map(|j| cell(0, &|m: &MethodResult| m.zero_shot[j]));
    let zero = (!first.methods.is_empty()).then(|| [vec!["zero-shot".to_owned()], zero.collect()].concat());
    let last = first.methods.iter().enumerate().map(|(i, method)| {
        let last = |j| cell(i, &|m: &MethodResult| m.accuracy.last().map_or(0.0, |row| row[j]));
        [vec![method.name.clone()], (0..first.tasks.len()).map(last).collect()].concat()
    });
    let accuracies = table(first.tasks.clone(), zero.into_iter().chain(last));
    let differences = differences(results);
    let seeds: Vec<_> = results.iter().map(|result| result.seed.to_string()).collect();
    let c = &first.config;
    Ok(format!(
        "{figures}\nAccuracies (%) at the end, task by task:\n\n{accuracies}\n{differences}Seeds {}; {} steps of {} {} a task; {} with {} \
         thread(s), {}; eblora {}.\n",
        seeds.join(", "),
        c.steps,
        c.batch,
        c.family.samples(),
        first.device,
        first.threads,
        first.platform,
        first.eblora_version
    ))
}

/// The table of the paired differences in MFN; empty where there is nothing to pair.
fn differences(results: &[RunResult]) -> String {
    let mfn = |method: usize| -> Vec<f64> { results.iter().map(|result| result.methods[method].mfn).collect() };
    let Some(reference) = results[0].methods.iter().position(|m| m.name == REFERENCE) else { return String::new() };
    let others = results[0].methods.iter().enumerate().filter(|(i, _)| *i != reference);
    let rows: Vec<_> = others
        .filter_map(|(i, method)| {
            let Paired { mean, interval: [low, high], above } = paired(&mfn(i), &mfn(reference))?;
            let shares = format!("{above} of {}", results.len());
            Some(vec![method.name.clone(), format!("{mean:+.1}"), format!("{low:+.1} to {high:+.1}"), shares])
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let table = table(["difference", "interval", "seeds above"].map(str::to_owned).into(), rows);
    format!("MFN compared with {REFERENCE}'s, seed by seed, with the 95 % bootstrap interval of the mean:\n\n{table}\n")
}

/// A Markdown table with a row for each method, named in the first column.
fn table(columns: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rule = [vec!["---".to_owned()], vec!["---:".to_owned(); columns.len()]].concat();
    let head = [vec!["method".to_owned()], columns].concat();
    [head, rule].into_iter().chain(rows).map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
}

fn shown(values: &[f64]) -> String {
    match mean_and_sd(values) {
        (mean, _) if mean.is_nan() => "–".to_owned(),
        (mean, Some(sd)) => format!("{mean:.1} ± {sd:.1}"),
        (mean, None) => format!("{mean:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn means_and_deviations_over_the_seeds() {
        let (first, mut second) = (example::result(), example::result());
        second.seed = 1;
        second.methods[2].mfn = first.methods[2].mfn + 2.0;
        let text = markdown(&[first.clone(), second]).unwrap();
        let mfn = first.methods[2].mfn + 1.0;
        let row = text.lines().find(|line| line.starts_with("| eblora |")).unwrap();
        assert!(row.contains(&format!("| {mfn:.1} ± 1.4 |")), "{row}");
        assert_eq!(text.lines().filter(|line| line.starts_with("| eblora |")).count(), 2);
        let masked = first.methods[2].masked_accuracy.as_ref().unwrap()[4].iter().sum::<f64>() / 5.0;
        assert!(row.contains(&format!("| {masked:.1} ± 0.0 |")), "{row}");
        assert!(row.contains(" | 110.9 ± 0.0 | "), "thousands of numbers");
        let [lora, eblora] = [0, 2].map(|i| first.methods[i].mfn);
        let [low, high] = [lora - eblora - 2.0, lora - eblora];
        let row =
            format!("| {} | {:+.1} | {low:+.1} to {high:+.1} | 0 of 2 |", first.methods[0].name, (low + high) / 2.0);
        assert!(text.contains(&row), "{row}\n{text}");
        let mut early = first.clone();
        early.methods[0].masked_accuracy = None;
        assert!(markdown(&[early, first.clone()]).unwrap().contains(" | – | "), "not measured for every seed");
        let alone = markdown(&[first]).unwrap();
        assert!(!alone.contains('±') && !alone.contains("bootstrap"), "one seed has no deviation");
    }

    #[test]
    fn results_of_different_runs_are_refused() {
        assert_eq!(markdown(&[]), Err(SummaryError::Empty));
        let (first, mut other) = (example::result(), example::result());
        (other.seed, other.tasks[1]) = (7, "another".to_owned());
        assert_eq!(
            markdown(&[first, other]).unwrap_err().to_string(),
            "the results of seeds 0 and 7 are not of one run: their tasks differ"
        );
    }
}
