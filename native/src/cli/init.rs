//! `eblora init`: a commented config to begin with.

use std::fs;

use super::args::InitArgs;
use super::print;
use crate::Error;
use crate::config::template_of;
use crate::formats::atomic::{self, WriteError};
use crate::hub;

pub fn run(args: &InitArgs) -> Result<(), Error> {
    let file = &args.file;
    if fs::exists(file).unwrap_or(false) && !args.force {
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it exists; --force replaces it");
        return Err(WriteError::File { file: file.clone(), source }.into());
    }
    let base = args.model.as_deref().map(hub::named);
    let text = template_of(args.family, base.as_deref());
    atomic::write(file, text.as_bytes())?;
    print(&format!(
        "{0} is written: name your model and data in it, then\n  eblora check {0}\n  eblora train {0}\n",
        file.display()
    ));
    Ok(())
}
