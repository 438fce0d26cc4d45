//! `cargo xtask results`: runs every benchmark config and writes its tables to `docs/results.md`.

use crate::models;
use crate::page;
use crate::process::{cargo, command, output, program, root, run};
use std::fs;

const PAGE: &str = "docs/results.md";
const FOLDER: &str = "benchmarks";

const HEAD: &str = "\
# Results

Made by `cargo xtask results`, which trains the configs in `benchmarks` (a run that is there is kept) and writes their
tables. Means over the seeds, ± the standard deviation. MFT: accuracy (%) on each task just after training it; MFN: on
all tasks at the end; masked: the same where the model is told the task and chooses among its classes; MAA: mean over
all stages; BWT: change from just trained to the end; FWT: before a task is trained; stored: thousands of numbers kept at
the end for later tasks: M (or its complement, where that is smaller), the earlier factors of O-LoRA, the indices of SEFE,
the samples of replay and multi-task (pixels or tokens).
`individual` has each task alone, at the rate that is best for that: its MFT shows what a task alone can reach, and its MFN
is what the last task's adapter does to the others.
Seconds are those of the machine named below a table, whatever else it did.
The data and their checksums: [benchmarks/data](../benchmarks/data/README.md).
";

/// What has to be known of a benchmark beside its config, by its name.
const NOTES: [(&str, &str); 3] = [
    (
        "instruct",
        "\
One seed, 30 steps and 40 test samples a task: a first look. The rates are not searched: lora-ft has its default, eblora
a step (0.2) and a rate of s (0.02) set by hand.
",
    ),
    (
        "text",
        "\
Rates: [a search](search-text.md) on the validation samples, 7 trials of one seed for each method. eblora-rank-32 is EBLoRA
with EBLoRA-plus's rank and rates; nothing was searched for it.
",
    ),
    (
        "vision",
        "\
Rates: [a search](search-vision.md) on the validation images, 7 trials of one seed for each method. Not searched by it are
EBLoRA's ε, which the [demo's search](search.md) of 20 trials chose on the same images, and rank, ε and ε' of EBLoRA-plus,
set on them by hand ([what was tried](rejected.md)). eblora-rank-32 is EBLoRA with EBLoRA-plus's rank and rates; nothing was
searched for it.
",
    ),
];

/// Trains what is not trained yet, and writes the page; of the benchmarks named, if there are any: the others' tables stay.
pub fn make(names: &[String]) -> Result<(), String> {
    models::prepare()?;
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let eblora = program("eblora")?;
    let mut configs: Vec<_> = (fs::read_dir(root().join(FOLDER)).map_err(|e| format!("{FOLDER}: {e}"))?)
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    configs.sort();
    if let Some(unknown) = names.iter().find(|name| !configs.contains(name)) {
        return Err(format!("{FOLDER} has no {unknown}.toml; there are {}", configs.join(", ")));
    }
    page::write(PAGE, HEAD, &configs, names, |name| {
        let (config, folder) = (format!("{FOLDER}/{name}.toml"), format!("{FOLDER}/{name}-run"));
        run(&mut command(&eblora, &["train", &config, "--resume", "--quiet"]))?;
        let tables = output(&mut command(&eblora, &["report", &folder, "--markdown", "-"]));
        let tables =
            tables.ok_or_else(|| format!("no tables of {folder}: does {config} say `out = \"{name}-run\"`?"))?;
        Ok(format!("`eblora train {config}`\n\n{}{tables}\n", note(name)))
    })
}

/// A benchmark's note with the empty line behind it; nothing where there is none.
fn note(name: &str) -> String {
    NOTES.iter().find(|(of, _)| *of == name).map_or_else(String::new, |(_, note)| format!("{note}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_this_head_and_these_notes() {
        let page = fs::read_to_string(root().join(PAGE)).unwrap();
        assert!(page.starts_with(HEAD));
        for (name, _) in NOTES {
            let section = format!("\n## {name}\n\n`eblora train {FOLDER}/{name}.toml`\n\n{}| method |", note(name));
            assert!(page.contains(&section), "{name}");
        }
        assert_eq!(note("none"), "");
    }
}
