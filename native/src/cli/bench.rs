//! `eblora bench`: a table on the terminal, JSON for programs.

use std::path::Path;

use super::args::BenchArgs;
use super::print;
use crate::bench::{self, BenchResult};
use crate::formats::atomic;
use crate::{Error, report::result::ResultError};

pub fn run(args: &BenchArgs) -> Result<(), Error> {
    let result = bench::run(&args.threads, args.repeats)?;
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

fn table(result: &BenchResult) -> String {
    let BenchResult { device, batch, rank, memory, repeats, .. } = result;
    let mut text = format!(
        "training step on {device}: bundled ViT, batch {batch}, rank {rank}, M of {memory} columns; \
         medians of {repeats} steps, ms\n"
    );
    text += "step             threads   total     min  forward  backward  optimiser\n";
    for r in &result.results {
        text += &format!(
            "{:<16} {:>7} {:>7.2} {:>7.2} {:>8.2} {:>9.2} {:>10.2}\n",
            r.name, r.threads, r.median_ms, r.min_ms, r.forward_ms, r.backward_ms, r.optimizer_ms
        );
    }
    for pair in result.results.chunks(2) {
        if let [lora, eblora] = pair {
            let ratio = eblora.median_ms / lora.median_ms;
            text += &format!("EBLoRA / LoRA on {} thread(s): {ratio:.2}\n", lora.threads);
        }
    }
    text
}
