//! `cargo xtask results`: runs every benchmark config and writes its tables to `docs/results.md`.

use crate::models;
use crate::process::{built, cargo, command, output, root, run};
use std::fmt::Write;
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
    let eblora = built()?.join(format!("eblora{}", std::env::consts::EXE_SUFFIX));
    let mut configs: Vec<_> = (fs::read_dir(root().join(FOLDER)).map_err(|e| format!("{FOLDER}: {e}"))?)
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    configs.sort();
    if let Some(unknown) = names.iter().find(|name| !configs.contains(name)) {
        return Err(format!("{FOLDER} has no {unknown}.toml; there are {}", configs.join(", ")));
    }
    let before = fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    let mut page = HEAD.to_owned();
    for name in configs {
        if !names.is_empty() && !names.contains(&name) {
            if let Some(kept) = section(&before, &name) {
                let _ = write!(page, "\n{}\n", kept.trim_end());
            }
            continue;
        }
        let (config, folder) = (format!("{FOLDER}/{name}.toml"), format!("{FOLDER}/{name}-run"));
        run(&mut command(&eblora, &["train", &config, "--resume", "--quiet"]))?;
        let tables = output(&mut command(&eblora, &["report", &folder, "--markdown", "-"]));
        let tables =
            tables.ok_or_else(|| format!("no tables of {folder}: does {config} say `out = \"{name}-run\"`?"))?;
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {name}\n\n`eblora train {config}`\n\n{tables}\n");
    }
    fs::write(root().join(PAGE), page).map_err(|e| format!("{PAGE}: {e}"))?;
    println!("{PAGE} is written");
    Ok(())
}

/// What stands in a page under the heading of this name, with it.
pub fn section<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let start = page.find(&format!("\n## {name}\n"))? + 1;
    let rest = &page[start..];
    Some(&rest[..rest[2..].find("\n## ").map_or(rest.len(), |end| end + 3)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let page = "# Results\n\n## one\n\ntable\n\n## two\n\n### inner\n\nlast\n";
        assert_eq!(section(page, "one"), Some("## one\n\ntable\n\n"));
        assert_eq!(section(page, "two"), Some("## two\n\n### inner\n\nlast\n"));
        assert_eq!(section(page, "three"), None);
    }
}
