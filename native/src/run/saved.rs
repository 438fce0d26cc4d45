//! Checkpoints of a run: one folder for each method, below the run's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::{MethodConfig, RunError};
use crate::Error;
use crate::checkpoint::{CheckpointError, Loaded, Store};
use crate::progress::{Event, ProgressSink};

/// The folder of the checkpoints, in that of the run.
pub(super) const FOLDER: &str = "checkpoints";

/// What to do with checkpoints that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Refuse to run, so that nothing is lost by mistake.
    #[default]
    Anew,
    /// Go on from them; start anew where there is none.
    Resume,
    /// Discard them.
    Restart,
}

/// How a run is saved while it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Saving<'a> {
    /// Folder of the checkpoints; each method has one of its own in it.
    pub folder: &'a Path,
    /// Steps between two checkpoints of a task, beside those at its end; 0: only there.
    pub every: usize,
    /// What to do with checkpoints that are there already.
    pub start: Start,
    /// The run saves its state and stops once this is set.
    pub stop: &'a AtomicBool,
}

/// One method's checkpoints, and the one that it goes on from.
pub(super) struct Saved {
    pub store: Store,
    pub from: Option<Loaded>,
}

fn store(folder: &Path, label: &str) -> Store {
    Store::new(folder.join(label))
}

impl Saving<'_> {
    /// Refuses to start anew over the checkpoints of an unfinished run.
    pub(super) fn check(&self) -> Result<(), Error> {
        match (self.start, labels(self.folder)?.into_iter().next()) {
            (Start::Anew, Some(method)) => Err(RunError::Unfinished { folder: self.folder.to_owned(), method }.into()),
            _ => Ok(()),
        }
    }

    /// Opens the checkpoints of every method, before anything is trained.
    pub(super) fn open(&self, methods: &[MethodConfig], progress: &mut dyn ProgressSink) -> Result<Vec<Saved>, Error> {
        self.check()?;
        if self.start == Start::Restart {
            clear(self.folder, &labels(self.folder)?)?;
        }
        let mut all = Vec::with_capacity(methods.len());
        for method in methods {
            let mut store = store(self.folder, method.label());
            let from = if self.start == Start::Resume { store.load()? } else { None };
            for note in from.iter().flat_map(|loaded| &loaded.notes) {
                progress.report(Event::Note(note));
            }
            all.push(Saved { store, from });
        }
        if self.start == Start::Resume && all.iter().all(|saved| saved.from.is_none()) {
            progress.report(Event::Note(&format!(
                "there is no checkpoint of these methods in {}: they start anew",
                self.folder.display()
            )));
        }
        Ok(all)
    }
}

/// The methods that have checkpoints in this folder, in the order of their names.
fn labels(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let failed = |source| CheckpointError::Read { folder: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Some(label) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if entry.file_type().map_err(failed)?.is_dir() && store(folder, &label).is_used()? {
            found.push(label);
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the checkpoints of these methods, by their labels; those of others stay.
///
/// # Errors
/// When a file can't be removed.
pub fn clear<S: AsRef<str>>(folder: &Path, labels: &[S]) -> Result<(), Error> {
    for label in labels {
        store(folder, label.as_ref()).clear()?;
    }
    match fs::remove_dir(folder) {
        // Others may have put something there.
        Err(e) if !matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {
            Err(CheckpointError::Read { folder: folder.to_owned(), source: e }.into())
        }
        _ => Ok(()),
    }
}

/// Where the checkpoints of a run into `out` are.
pub fn folder(out: &Path) -> PathBuf {
    out.join(FOLDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_checkpoints_of_the_methods_named_are_removed() {
        let root = tempfile::tempdir().unwrap();
        for label in ["ebo", "ours"] {
            fs::create_dir(root.path().join(label)).unwrap();
            fs::write(root.path().join(label).join("00000001.json"), "{}").unwrap();
        }
        assert_eq!(labels(root.path()).unwrap(), ["ebo", "ours"]);
        clear(root.path(), &["ebo"]).unwrap();
        assert_eq!(labels(root.path()).unwrap(), ["ours"]);
        clear(root.path(), &["ours"]).unwrap();
        assert!(!root.path().exists());
    }
}
