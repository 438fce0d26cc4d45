//! `cargo xtask claims`: runs the paper's experiments in full and writes what they found to `docs/claims.md`.

use std::fs;
use std::time::Instant;

use crate::page;
use crate::process::{cargo, command, output, program, root, run};

const PAGE: &str = "docs/claims.md";
/// Where the pages, the numbers and what was printed are kept, of experiments that are through.
const FOLDER: &str = "target/claims";
/// `eblora experiment`'s, in the order of the page; the one that takes times comes first, before anything is warm.
const EXPERIMENTS: [&str; 9] =
    ["overhead", "spectra", "interference", "smoothing", "ablation", "epsilon", "rank", "order", "memory"];

const HEAD: &str = "\
# What became of the paper's claims

Made by `cargo xtask claims`, which runs every [experiment](experiments.md) in full (one that is there, in
`target/claims`, is kept) and shows what it printed. Bundled model and data, seeds 0, 1 and 2, of which `overhead`,
`spectra` and `memory` use the first alone: their figures are those of one run. Times are those of a machine with 2
cores and no GPU, whatever else it did.
";

/// Runs what has not been run yet, and writes the page; with names, runs these anew, and the others' sections stay.
pub fn make(names: &[String]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|name| !EXPERIMENTS.contains(&name.as_str())) {
        return Err(format!("there is no experiment {unknown}; there are {}", EXPERIMENTS.join(", ")));
    }
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let eblora = program("eblora")?;
    page::write(PAGE, HEAD, &EXPERIMENTS, names, |name| {
        let kept = root().join(FOLDER).join(format!("{name}.txt"));
        let printed = match fs::read_to_string(&kept) {
            Ok(printed) if names.is_empty() => printed,
            _ => {
                println!("$ eblora experiment {name}");
                let start = Instant::now();
                let printed = output(&mut command(&eblora, &["experiment", name, "--out", FOLDER, "--quiet"]))
                    .ok_or_else(|| format!("the experiment {name} failed: run `eblora experiment {name}`"))?;
                let printed = format!("{printed}\n{} s\n", start.elapsed().as_secs());
                fs::write(&kept, &printed).map_err(|e| format!("{}: {e}", kept.display()))?;
                printed
            }
        };
        shown(name, &printed)
    })
}

/// The claim and the verdict in words, then the table as it was printed, and the time it took.
fn shown(name: &str, printed: &str) -> Result<String, String> {
    let lines: Vec<&str> = printed.trim().lines().collect();
    let Some(claim) = lines.iter().position(|line| line.starts_with("claim: ")) else {
        return Err(format!("the experiment {name} printed no claim"));
    };
    let (Some(verdict), Some(time)) = (lines.get(claim + 1), lines.last()) else {
        return Err(format!("the experiment {name} printed no verdict"));
    };
    let says = lines[claim].trim_start_matches("claim: ");
    let table = lines[..claim].join("\n");
    Ok(format!(
        "Claim: {says}.\n\n**{verdict}**\n\n`eblora experiment {name}`, {time}:\n\n```text\n{}\n```\n",
        table.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_this_head() {
        assert!(fs::read_to_string(root().join(PAGE)).unwrap().starts_with(HEAD));
    }

    #[test]
    fn claim_and_verdict_come_before_the_table() {
        let printed =
            "title\na  b\n────\n1  2\n\nclaim: ones are less than twos\nheld: 1 < 2\npage: x/one.html\n12 s\n";
        let wanted = "Claim: ones are less than twos.\n\n**held: 1 < 2**\n\n`eblora experiment one`, 12 s:\n\n\
                      ```text\ntitle\na  b\n────\n1  2\n```\n";
        assert_eq!(shown("one", printed), Ok(wanted.to_owned()));
        assert!(shown("one", "no such thing").unwrap_err().contains("one"));
    }
}
