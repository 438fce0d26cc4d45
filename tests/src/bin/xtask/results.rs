//! `cargo xtask results`: runs every benchmark config and writes its tables to `docs/results.md`.

use crate::models;
use crate::page;
use crate::process::{cargo, command, output, program, root, run};
use std::fs;

const PAGE: &str = "docs/results.md";
const FOLDER: &str = "benchmarks";

const HEAD: &str = "\
# Results

Made by `cargo xtask results`, which trains the configs in `benchmarks` (a run that is there is kept) and writes their tables.
Means over the seeds, ± the standard deviation. MFT: accuracy (%) on each task just after training it; MFN: on all tasks at the
end; masked: the same where the model is told the task and chooses among its classes; MAA: mean over all stages; BWT: change from just trained to the end; FWT: before a task is trained; stored: thousands of numbers that M needs at the end.
Seconds are those of the machine named below a table, whatever else it did.
The data and their checksums: [benchmarks/data](../benchmarks/data/README.md).
";

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
        Ok(format!("`eblora train {config}`\n\n{tables}\n"))
    })
}
