//! `eblora bench`: a table on the terminal, JSON for programs.

use std::path::Path;

use super::args::BenchArgs;
use super::print;
use crate::bench::{self, BenchResult, Figure, StepSetting};
use crate::formats::atomic;
use crate::progress;
use crate::{Error, report::result::ResultError};

pub fn run(args: &BenchArgs) -> Result<(), Error> {
    let mut sink = progress::standard(args.quiet);
    let result = bench::run(&args.config(), sink.as_mut())?;
    drop(sink); // its lines must be gone before the table
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if !to_stdout {
        print(&table(&result));
    }
    if let Some(path) = &args.json {
        let broken = |e: serde_json::Error| ResultError::Content { key: "bench".to_owned(), reason: e.to_string() };
        let json = serde_json::to_string_pretty(&result).map_err(broken)? + "\n";
        if to_stdout {
            print(&json);
        } else {
            atomic::write(path, json.as_bytes())?;
        }
    }
    Ok(())
}

/// A table for each device, and for each number of threads of the CPU.
fn table(result: &BenchResult) -> String {
    let mut text = String::new();
    for part in result.results.chunk_by(|a, b| (&a.device, a.threads) == (&b.device, b.threads)) {
        if !text.is_empty() {
            text.push('\n');
        }
        text += &device_table(result, part);
    }
    text
}

fn device_table(result: &BenchResult, figures: &[Figure]) -> String {
    let first = &figures[0];
    let mut text = match (first.threads, result.devices.iter().find(|d| d.name == first.device)) {
        (Some(threads), _) => format!("{} with {threads} thread(s)\n", first.device),
        (None, Some(device)) => {
            format!("{} ({}, {})\n", device.name, device.kind, device.driver.as_deref().unwrap_or("?"))
        }
        (None, None) => format!("{}\n", first.device),
    };
    let width = figures.iter().map(|f| f.name.len()).max().unwrap_or(0).max(22);
    text += &format!("{:<width$} {:>8} {:>8}   GFLOP/s  runs  clock\n", "figure", "ms", "min");
    for f in figures {
        let rate = f.gflops.map_or_else(|| "–".to_owned(), |g| format!("{g:.1}"));
        let (name, runs, clock) = (&f.name, f.runs, f.clock);
        text += &format!("{name:<width$} {:>8.3} {:>8.3} {rate:>9} {runs:>5}  {clock}\n", f.median_ms, f.min_ms);
    }
    let steps: Vec<_> = figures.iter().filter_map(|f| Some((f, f.phases?, f.step?))).collect();
    // The figures of one model stand together.
    let model_name = |f: &Figure| f.name.split('/').next().unwrap_or_default().to_owned();
    for model in steps.chunk_by(|(a, ..), (b, ..)| model_name(a) == model_name(b)) {
        let StepSetting { batch, tokens, linears, rank, memory } = model[0].2;
        text += &format!(
            "training step of {batch}×{tokens} tokens, {linears} linears of rank {rank}, M of {memory} columns, ms:\n"
        );
        text += &format!("{:<width$} {:>8}  {:>8}  {:>9}\n", "figure", "forward", "backward", "optimiser");
        for (f, p, _) in model {
            let (name, [a, b, c]) = (&f.name, [p.forward_ms, p.backward_ms, p.optimizer_ms]);
            text += &format!("{name:<width$} {a:>8.3}  {b:>8.3}  {c:>9.3}\n");
        }
        if let [(lora, ..), (eblora, ..)] = model {
            text += &format!("EBLoRA / LoRA: {:.2}\n", eblora.median_ms / lora.median_ms);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Phases;

    /// One table a model, also where two have the same extents; names of any length leave the columns in line.
    #[test]
    fn each_model_has_its_table() {
        let figure = |name: &str, median_ms| Figure {
            device: "cpu".to_owned(),
            threads: Some(1),
            name: name.to_owned(),
            clock: "host",
            runs: 3,
            median_ms,
            min_ms: 1.0,
            gflops: None,
            phases: Some(Phases { forward_ms: 1.0, backward_ms: 2.0, optimizer_ms: 3.0 }),
            step: Some(StepSetting { batch: 2, tokens: 64, linears: 210, rank: 8, memory: 64 }),
            peak_rss_mib: None,
        };
        let results = vec![
            figure("small_step/lora", 2.0),
            figure("small_step/eblora", 3.0),
            figure("small_with_a_long_name_step/lora", 4.0),
            figure("small_with_a_long_name_step/eblora", 5.0),
        ];
        let text = table(&BenchResult { eblora_version: String::new(), devices: Vec::new(), results });
        let ratios: Vec<_> = text.lines().filter(|line| line.starts_with("EBLoRA / LoRA")).collect();
        assert_eq!(ratios, ["EBLoRA / LoRA: 1.50", "EBLoRA / LoRA: 1.25"]);
        for (column, value) in [("forward", "1.000"), ("optimiser", "3.000"), ("min", "1.000")] {
            let end = |line: &str, what: &str| line.find(what).map(|at| line[..at].chars().count() + what.len());
            let head = text.lines().find(|line| line.contains(column)).and_then(|line| end(line, column));
            let below = text.lines().skip_while(|line| !line.contains(column)).nth(1).and_then(|line| end(line, value));
            assert!(head.is_some() && head == below, "{column}:\n{text}");
        }
    }
}
