//! `eblora inspect`: what is in an adapter, as a table or JSON.

use std::path::Path;

use super::args::InspectArgs;
use super::{demo, print};
use crate::Error;
use crate::formats::atomic;
use crate::peft::PeftError;
use crate::peft::inspection::Inspection;
use crate::report::adapter_table;

pub fn run(args: &InspectArgs) -> Result<(), Error> {
    let inspection = Inspection::read(&args.folder)?;
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if !to_stdout {
        print(&adapter_table::render(&inspection, demo::style()));
    }
    if let Some(file) = &args.json {
        let broken = |e: serde_json::Error| PeftError::Content { file: file.clone(), reason: e.to_string() };
        let json = serde_json::to_string_pretty(&inspection).map_err(broken)? + "\n";
        if to_stdout {
            print(&json);
        } else {
            atomic::write(file, json.as_bytes())?;
        }
    }
    Ok(())
}
