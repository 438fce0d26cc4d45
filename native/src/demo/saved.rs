//! Checkpoints of a demo run: one folder for each method, below the run's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::{DemoConfig, DemoError, MethodName};
use crate::Error;
use crate::checkpoint::{CheckpointError, Loaded, Store};
use crate::progress::{Event, ProgressSink};

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

fn store(folder: &Path, method: MethodName) -> Store {
    Store::new(folder.join(method.as_str()))
}

impl Saving<'_> {
    /// Opens the checkpoints of every method, before anything is trained.
    pub(super) fn open(&self, config: &DemoConfig, progress: &mut dyn ProgressSink) -> Result<Vec<Saved>, Error> {
        match self.start {
            Start::Anew => {
                for name in MethodName::ALL {
                    if store(self.folder, name).is_used()? {
                        return Err(DemoError::Unfinished { folder: self.folder.to_owned(), method: name }.into());
                    }
                }
            }
            Start::Restart => clear(self.folder, &MethodName::ALL)?,
            Start::Resume => {}
        }
        let mut all = Vec::with_capacity(config.methods.len());
        for &name in &config.methods {
            let mut store = store(self.folder, name);
            let from = if self.start == Start::Resume { store.load()? } else { None };
            for note in from.iter().flat_map(|loaded| &loaded.notes) {
                progress.report(Event::Note(note));
            }
            all.push(Saved { store, from });
        }
        if self.start == Start::Resume && all.iter().all(|saved| saved.from.is_none()) {
            progress.report(Event::Note(&format!(
                "there is no checkpoint of these methods in {}: the run starts anew",
                self.folder.display()
            )));
        }
        Ok(all)
    }
}

/// Removes the checkpoints of these methods.
///
/// # Errors
/// When a file can't be removed.
pub fn clear(folder: &Path, methods: &[MethodName]) -> Result<(), Error> {
    for &name in methods {
        store(folder, name).clear()?;
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
    out.join("checkpoints")
}
