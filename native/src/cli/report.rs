//! `eblora report`: the report of an earlier run again.

use std::fs;
use std::path::Path;

use super::args::ReportArgs;
use super::demo::write_report;
use super::print;
use crate::Error;
use crate::formats::atomic;
use crate::report::result::RunResult;
use crate::report::summary;
use crate::run::RunError;
use crate::run::folder::RunFolder;

pub fn run(args: &ReportArgs) -> Result<(), Error> {
    if args.result.is_dir() {
        return of_folder(args);
    }
    let file = &args.result;
    let bytes = fs::read(file).map_err(|source| RunError::Read { file: file.clone(), source })?;
    let result = RunResult::from_json(&bytes, &file.display().to_string())?;
    let beside = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = args.out.as_deref().unwrap_or(beside);
    if let Some(file) = &args.markdown {
        return markdown(&[result], file);
    }
    atomic::prepare_folder(folder)?;
    write_report(&result, folder)
}

/// All seeds of a run; those that have not finished are an error.
fn of_folder(args: &ReportArgs) -> Result<(), Error> {
    let mut results = Vec::new();
    for folder in RunFolder::all_at(&args.result)? {
        let missing = || RunError::NotFinished { folder: folder.path().to_owned() };
        let result = folder.result()?.ok_or_else(missing)?;
        if args.markdown.is_none() {
            let out = match &args.out {
                Some(out) => out.join(format!("seed-{}", result.seed)),
                None => folder.path().to_owned(),
            };
            atomic::prepare_folder(&out)?;
            write_report(&result, &out)?;
        }
        results.push(result);
    }
    match &args.markdown {
        Some(file) => markdown(&results, file),
        None => {
            if results.len() > 1 {
                print(&summary::markdown(&results)?);
            }
            Ok(())
        }
    }
}

fn markdown(results: &[RunResult], file: &Path) -> Result<(), Error> {
    let text = summary::markdown(results)?;
    if file == Path::new("-") {
        print(&text);
        return Ok(());
    }
    Ok(atomic::write(file, text.as_bytes())?)
}
