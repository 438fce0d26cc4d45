//! `eblora report`: the report of an earlier run again.

use std::fs;
use std::path::Path;

use super::args::ReportArgs;
use super::demo::write_report;
use crate::Error;
use crate::demo::DemoError;
use crate::formats::atomic;
use crate::report::result::DemoResult;

pub fn run(args: &ReportArgs) -> Result<(), Error> {
    let file = &args.result;
    let bytes = fs::read(file).map_err(|source| DemoError::Read { file: file.clone(), source })?;
    let result = DemoResult::from_json(&bytes, &file.display().to_string())?;
    let beside = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = args.out.as_deref().unwrap_or(beside);
    atomic::prepare_folder(folder)?;
    write_report(&result, folder)
}
