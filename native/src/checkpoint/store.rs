//! The checkpoints of one run in their folder: saving, loading, and which are kept.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use eblora_core::train::RunState;

use super::{CheckpointError, Sittings, Snapshot, snapshot};
use crate::formats::atomic;

/// Checkpoints kept.
const KEPT: usize = 2;
const HEADER: &str = "json";
const TENSORS: &str = "safetensors";

/// A checkpoint as it was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The run's state.
    pub state: RunState<f32>,
    /// Of the sittings before.
    pub sittings: Sittings,
    /// What the user should know: a newer one that can't be used.
    pub notes: Vec<String>,
}

/// The checkpoints of one run.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Those known to be whole, oldest first.
    good: Vec<u64>,
}

impl Store {
    /// The checkpoints in `folder`, which need not exist.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), good: Vec::new() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there is any checkpoint, whole or not.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn is_used(&self) -> Result<bool, CheckpointError> {
        Ok(self.files()?.iter().any(|(_, extension)| *extension == HEADER))
    }

    /// Saves a state as the newest checkpoint, and then removes all but the last two.
    ///
    /// # Errors
    /// When it can't be written, or holds a number that is not finite; the checkpoints before are as they were.
    pub fn save(&mut self, state: &RunState<f32>, sittings: &Sittings) -> Result<(), CheckpointError> {
        atomic::prepare_folder(&self.folder)?;
        let number = self.files()?.last().map_or(1, |(number, _)| number + 1);
        let [header_file, tensor_file] = [HEADER, TENSORS].map(|extension| file_name(number, extension));
        let snapshot = Snapshot::of(state, sittings, tensor_file.clone())?;
        atomic::write(&self.folder.join(tensor_file), &snapshot.tensors)?;
        atomic::write(&self.folder.join(header_file), &snapshot.header)?;
        self.good.push(number);
        self.prune();
        Ok(())
    }

    /// The newest checkpoint that can be used; `None` where there is none at all.
    ///
    /// # Errors
    /// When the folder can't be read, a checkpoint is of a later version, or all of them are damaged.
    pub fn load(&mut self) -> Result<Option<Loaded>, CheckpointError> {
        let files = self.files()?;
        let numbers: BTreeSet<u64> = files.iter().map(|(number, _)| *number).collect();
        let mut reasons = Vec::new();
        for &number in numbers.iter().rev() {
            match self.read(number) {
                Ok((state, sittings)) => {
                    self.good = vec![number];
                    let reason = |reason: &String| format!("{reason}; the checkpoint before it is used");
                    return Ok(Some(Loaded { state, sittings, notes: reasons.iter().map(reason).collect() }));
                }
                Err(error @ CheckpointError::Newer { .. }) => return Err(error),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if files.iter().all(|(_, extension)| *extension != HEADER) {
            return Ok(None); // at most tensors whose header was never written
        }
        Err(CheckpointError::NoneGood { folder: self.folder.clone(), reasons: reasons.join("; ") })
    }

    fn read(&self, number: u64) -> Result<(RunState<f32>, Sittings), CheckpointError> {
        let file = self.folder.join(file_name(number, HEADER));
        let damaged = |file: &Path, reason: String| CheckpointError::Damaged { file: file.to_owned(), reason };
        let missing = |file: &Path| {
            let file = file.to_owned();
            move |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => damaged(&file, "it is missing".to_owned()),
                _ => damaged(&file, format!("it can't be read: {error}")),
            }
        };
        let tensor_file = self.folder.join(file_name(number, TENSORS));
        let header = fs::read(&file).map_err(missing(&file))?;
        let tensors = |_: &_| Ok((fs::read(&tensor_file).map_err(missing(&tensor_file))?, tensor_file.as_path()));
        snapshot::read(&header, &file, tensors)
    }

    /// Removes all checkpoints, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub fn clear(&mut self) -> Result<(), CheckpointError> {
        self.good.clear();
        self.remove(|_| true)
            .and_then(|()| match fs::remove_dir(&self.folder) {
                Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(e),
                _ => Ok(()),
            })
            .map_err(|source| self.unreadable(source))
    }

    /// Removes what is neither among the last good checkpoints nor newer. What can't be removed does no harm: it is tried
    /// again after the next one.
    fn prune(&mut self) {
        let old = self.good.len().saturating_sub(KEPT);
        self.good.drain(..old);
        let good = self.good.clone();
        let _ = self.remove(|number| !good.contains(&number));
    }

    /// Removes checkpoints by number, and temporary files that a sitting which broke off has left. The header goes first:
    /// without it, tensors are no checkpoint.
    fn remove(&self, unwanted: impl Fn(u64) -> bool) -> io::Result<()> {
        let files = self.files().map_err(|error| match error {
            CheckpointError::Read { source, .. } => source,
            other => io::Error::other(other),
        })?;
        for extension in [HEADER, TENSORS] {
            for (number, _) in files.iter().filter(|(number, found)| *found == extension && unwanted(*number)) {
                fs::remove_file(self.folder.join(file_name(*number, extension)))?;
            }
        }
        atomic::remove_leftovers(&self.folder)
    }

    /// Numbers and extensions of all files that are a checkpoint's, in order.
    fn files(&self) -> Result<Vec<(u64, &'static str)>, CheckpointError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| self.unreadable(source))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| self.unreadable(source))?.file_name();
            let Some((stem, extension)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Some(extension) = [HEADER, TENSORS].into_iter().find(|known| *known == extension) else { continue };
            files.extend(
                stem.parse()
                    .ok()
                    .filter(|n| file_name(*n, extension) == name.to_string_lossy())
                    .map(|n| (n, extension)),
            );
        }
        files.sort_unstable();
        Ok(files)
    }

    fn unreadable(&self, source: io::Error) -> CheckpointError {
        CheckpointError::Read { folder: self.folder.clone(), source }
    }
}

fn file_name(number: u64, extension: &str) -> String {
    format!("{number:08}.{extension}")
}
