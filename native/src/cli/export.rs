//! `eblora export`: what was learnt, for others to use.

use std::path::{Path, PathBuf};

use super::args::{ExportArgs, ExportFormat};
use super::merge::{check_not_empty, summary};
use super::print;
use crate::Error;
use crate::data::bundled;
use crate::formats::atomic;
use crate::hub;
use crate::peft::merged::{self, Base};
use crate::peft::{AdapterSet, PeftAdapter, PeftError, sum, write_unpacked};

pub fn run(args: &ExportArgs) -> Result<(), Error> {
    let is_set = |folder: &PathBuf| AdapterSet::is_in(folder);
    if let Some(task) = args.task.clone().filter(|_| !args.sources.iter().any(is_set)) {
        return Err(PeftError::TaskOfNoSet { task }.into());
    }
    let read = |folder: &PathBuf| match AdapterSet::is_in(folder) {
        true => {
            let set = AdapterSet::read(folder)?;
            set.sum(set.position(args.task.as_deref())?)
        }
        false => PeftAdapter::read(folder),
    };
    let parts: Vec<_> = args.sources.iter().map(read).collect::<Result<_, PeftError>>()?;
    let adapter = sum::stack(&parts)?;
    check_not_empty(&adapter, "the sum")?;
    match args.format {
        ExportFormat::Peft => {
            let adapter = match &args.base {
                Some(base) => {
                    let (folder, _kept) = on_disk(base)?;
                    let renamed = Base::open(&folder)?.rename(&adapter)?;
                    PeftAdapter { base_model: Some(base.display().to_string()), ..renamed }
                }
                None => adapter,
            };
            merged::prepare_empty(&args.out)?;
            adapter.write(&args.out)?;
            print(&format!("{}: {}\n", args.out.display(), summary(&adapter)));
        }
        ExportFormat::Merged => {
            let base = base_folder(args, &adapter)?;
            let (folder, _kept) = on_disk(&base)?;
            match folder.is_file() {
                true => write_unpacked(&folder, &adapter, &args.out)?,
                false => Base::open(&folder)?.write_merged(&adapter, &args.out)?,
            }
            print(&format!("{}: {} with {} merged in\n", args.out.display(), base.display(), summary(&adapter)));
        }
    }
    Ok(())
}

/// Where the base's files are: those of the bundled one in a temporary folder, which is there as long as the second is kept.
fn on_disk(base: &Path) -> Result<(PathBuf, Option<tempfile::TempDir>), Error> {
    if base != Path::new(bundled::BASE) || base.exists() {
        return Ok((base.to_owned(), None));
    }
    let parent = std::env::temp_dir();
    let folder = tempfile::tempdir_in(&parent)
        .map_err(|source| atomic::WriteError::CreateFolder { folder: parent.clone(), source })?;
    for name in bundled::BASE_FILES {
        let (from, to) = (bundled::assets().at("base").join(name), folder.path().join(name));
        let bytes = from.read().map_err(|source| PeftError::Read { file: from.path().to_owned(), source })?;
        atomic::write(&to, &bytes)?;
    }
    Ok((folder.path().to_owned(), Some(folder)))
}

/// The folder that was given, or the one that the adapters name.
fn base_folder(args: &ExportArgs, adapter: &PeftAdapter) -> Result<PathBuf, Error> {
    let named = adapter.base_model.as_deref();
    match (&args.base, named) {
        (Some(base), _) => Ok(base.clone()),
        (None, Some(name))
            if name == bundled::BASE || Path::new(name).join("config.json").exists() || Path::new(name).is_file() =>
        {
            Ok(PathBuf::from(name))
        }
        (None, Some(name)) => match hub::named(name) {
            on_hub if on_hub.starts_with(hub::PREFIX) => Ok(hub::locate(&on_hub)?),
            _ => Err(PeftError::NoBase { what: format!("`{name}` is no folder of a model here") }.into()),
        },
        (None, None) => Err(PeftError::NoBase { what: "the adapters name no base".to_owned() }.into()),
    }
}
