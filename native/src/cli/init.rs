//! `eblora init`: a commented config to begin with.

use std::fs;

use super::args::InitArgs;
use super::print;
use crate::Error;
use crate::config::template;
use crate::formats::atomic::{self, WriteError};

pub fn run(args: &InitArgs) -> Result<(), Error> {
    let file = &args.file;
    if fs::exists(file).unwrap_or(false) && !args.force {
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it exists; --force replaces it");
        return Err(WriteError::File { file: file.clone(), source }.into());
    }
    atomic::write(file, template(args.family).as_bytes())?;
    print(&format!(
        "{0} is written: name your model and data in it, then\n  eblora check {0}\n  eblora train {0}\n",
        file.display()
    ));
    Ok(())
}
