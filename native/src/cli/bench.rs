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
    text += "figure                       ms      min   GFLOP/s  runs  clock\n";
    for f in figures {
        let rate = f.gflops.map_or_else(|| "–".to_owned(), |g| format!("{g:.1}"));
        let (name, runs, clock) = (&f.name, f.runs, f.clock);
        text += &format!("{name:<22} {:>8.3} {:>8.3} {rate:>9} {runs:>5}  {clock}\n", f.median_ms, f.min_ms);
    }
    let steps: Vec<_> = figures.iter().filter_map(|f| Some((f, f.phases?, f.step?))).collect();
    // The figures of one model stand together.
    for model in steps.chunk_by(|(_, _, a), (_, _, b)| a == b) {
        let StepSetting { batch, tokens, linears, rank, memory } = model[0].2;
        text += &format!(
            "training step of {batch}×{tokens} tokens, {linears} linears of rank {rank}, M of {memory} columns, ms:\n"
        );
        text += "figure              forward  backward  optimiser\n";
        for (f, p, _) in model {
            let (name, [a, b, c]) = (&f.name, [p.forward_ms, p.backward_ms, p.optimizer_ms]);
            text += &format!("{name:<18} {a:>8.3}  {b:>8.3}   {c:>8.3}\n");
        }
        if let [(lora, ..), (eblora, ..)] = model {
            text += &format!("EBLoRA / LoRA: {:.2}\n", eblora.median_ms / lora.median_ms);
        }
    }
    text
}
