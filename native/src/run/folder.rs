//! The folder of a run: what lies where in it.
//!
//! ```text
//! config.toml             the config as it was resolved
//! result.json             everything that was measured
//! report.html, forgetting.svg
//! METHOD/metrics.jsonl    losses, accuracies, spectra, line by line
//! METHOD/adapters/        one PEFT adapter for each task, and their list
//! checkpoints/            until the run has finished
//! ```
//! A run of several seeds has one such folder, `seed-N`, for each.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Labels, RunError, checkpoint_folder, saved};
use crate::Error;
use crate::config::RunConfig;
use crate::formats::atomic::{self, WriteError};
use crate::report::result::RunResult;

/// The resolved config's name.
pub const CONFIG: &str = "config.toml";
/// The result's name.
pub const RESULT: &str = "result.json";
/// The names of the pages.
pub(super) const PAGES: [&str; 2] = ["report.html", "forgetting.svg"];
/// What the config of a run begins with: a file without it was written by somebody else.
const MARK: &str = "# Written by eblora train: the config of this run, as it was resolved.\n";
/// Held while a process trains into the folder.
const LOCK: &str = ".eblora.lock";

/// Whether something else of a run's folder, or its neighbour, has this name on any system.
pub(crate) fn is_reserved(name: &str) -> bool {
    let name = name.to_lowercase();
    let files = [CONFIG, RESULT, Labels::FILE, saved::FOLDER];
    files.iter().chain(&PAGES).any(|file| *file == name) || name.starts_with("seed-")
}

/// The folder of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The folder of a seed of this run.
    pub fn of(config: &RunConfig, seed: u64) -> Self {
        let out = PathBuf::from(&config.out);
        Self(if config.seeds.len() == 1 { out } else { out.join(format!("seed-{seed}")) })
    }

    /// This folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a method's adapters are.
    pub fn adapters(&self, method: &str) -> PathBuf {
        self.0.join(method).join("adapters")
    }

    /// The folders of runs at `path`: itself, or its `seed-N` in the order of N.
    ///
    /// # Errors
    /// When there is none.
    pub fn all_at(path: &Path) -> Result<Vec<Self>, Error> {
        if path.join(CONFIG).is_file() {
            return Ok(vec![Self::at(path)]);
        }
        let seeds = Self::seeds_at(path)?;
        match seeds.is_empty() {
            true => Err(RunError::NoRun { folder: path.to_owned() }.into()),
            false => Ok(seeds),
        }
    }

    /// The folder of the one run at `path`.
    ///
    /// # Errors
    /// When there is none, or those of several seeds.
    pub fn one_at(path: &Path) -> Result<Self, Error> {
        let all = Self::all_at(path)?;
        if all.iter().any(|run| run.path() == path) {
            return Ok(Self::at(path));
        }
        let names = all.iter().filter_map(|run| run.path().file_name()).map(|name| name.to_string_lossy());
        let known = names.collect::<Vec<_>>().join(", ");
        Err(RunError::WhichSeed { folder: path.to_owned(), known }.into())
    }

    /// The folders of seeds below `path`, in the order of the seeds.
    fn seeds_at(path: &Path) -> Result<Vec<Self>, Error> {
        let unreadable = |source| RunError::Read { file: path.to_owned(), source };
        let mut seeds = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let seed = entry.file_name().to_str().and_then(|name| name.strip_prefix("seed-")?.parse::<u64>().ok());
            if let Some(seed) = seed.filter(|_| entry.path().join(CONFIG).is_file()) {
                seeds.push((seed, Self::at(entry.path())));
            }
        }
        seeds.sort_by_key(|(seed, _)| *seed);
        Ok(seeds.into_iter().map(|(_, folder)| folder).collect())
    }

    /// Refuses a place for a config's runs that holds runs of another kind, one of one seed or some of several, or that
    /// can't be a folder.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check_place(config: &RunConfig) -> Result<(), Error> {
        let out = Path::new(&config.out);
        let nearest = out.ancestors().find(|path| path.exists());
        if let Some(path) = nearest.filter(|path| !path.is_dir()) {
            return Err(WriteError::NotAFolder { path: path.to_owned() }.into());
        }
        if !out.is_dir() {
            return Ok(());
        }
        let what = match config.seeds.len() {
            1 if !Self::seeds_at(out)?.is_empty() => "runs of several seeds, a folder for each, and this is of one",
            2.. if Self::at(out).is_ours() => "the run of one seed, and this is of several",
            _ => return Ok(()),
        };
        Err(RunError::OtherSeeds { folder: out.to_owned(), what }.into())
    }

    /// Whether a run of ours has begun here.
    fn is_ours(&self) -> bool {
        let marked = || fs::read(self.0.join(CONFIG)).is_ok_and(|text| text.starts_with(MARK.as_bytes()));
        self.0.join(RESULT).is_file() || checkpoint_folder(&self.0).is_dir() || marked()
    }

    /// Refuses a folder with a file of somebody else's that the run would replace.
    ///
    /// # Errors
    /// The first such file.
    pub(super) fn check_files(&self) -> Result<(), Error> {
        if self.is_ours() {
            return Ok(());
        }
        let names = [CONFIG, Labels::FILE].into_iter().chain(PAGES);
        match names.map(|name| self.0.join(name)).find(|file| file.exists()) {
            Some(file) => Err(RunError::NotOurs { file }.into()),
            None => Ok(()),
        }
    }

    /// Whether a process ended here before it had tidied up.
    pub(super) fn was_left(&self) -> bool {
        self.0.join(LOCK).exists() || checkpoint_folder(&self.0).exists()
    }

    /// Makes the folder, takes it for this process until the end of what is returned, and removes what a process that was
    /// killed has left half written.
    pub(super) fn take(&self) -> Result<Lock, Error> {
        atomic::prepare_folder(&self.0)?;
        let path = self.0.join(LOCK);
        let file = File::create(&path).map_err(|source| RunError::Read { file: path.clone(), source })?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(RunError::Busy { folder: self.0.clone() }.into());
        }
        // A file system without locks goes without.
        let lock = Lock { path, _file: file };
        let unreadable = |source| RunError::Read { file: self.0.clone(), source };
        tidy(&self.0, 3).map_err(unreadable)?;
        Ok(lock)
    }

    /// Writes the config.
    pub(super) fn write_config(&self, config: &RunConfig) -> Result<(), Error> {
        Ok(atomic::write(&self.0.join(CONFIG), format!("{MARK}{}", config.to_toml()?).as_bytes())?)
    }

    /// Its config.
    ///
    /// # Errors
    /// When it is not there, or none.
    pub fn config(&self) -> Result<RunConfig, Error> {
        Ok(RunConfig::read(&self.0.join(CONFIG), &[])?)
    }

    /// Its result; `None`: the run has not finished.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn result(&self) -> Result<Option<RunResult>, Error> {
        let file = self.0.join(RESULT);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(RunResult::from_json(&bytes, &file.display().to_string())?)),
            // Where the folder can't be, no result is either; making it says so.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(RunError::Read { file, source }.into()),
        }
    }
}

/// A folder that is taken; free again when dropped.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // it does no harm where it stays
    }
}

/// Removes half-written files from a folder and so many levels below it.
fn tidy(folder: &Path, levels: usize) -> std::io::Result<()> {
    atomic::remove_leftovers(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if levels > 0 && entry.file_type()?.is_dir() {
            tidy(&entry.path(), levels - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_folder_are_no_methods() {
        for name in
            ["result.json", "Config.toml", "labels.json", "report.html", "forgetting.svg", "checkpoints", "seed-1"]
        {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("seed") && !is_reserved("eblora"));
    }

    #[test]
    fn a_folder_is_taken_once_and_tidied() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::at(root.path().join("run"));
        fs::create_dir_all(run.adapters("ebo").join("0-a")).unwrap();
        let left = run.adapters("ebo").join("0-a").join(".eblora-a1B2c3.tmp");
        fs::write(&left, "half").unwrap();
        let lock = run.take().unwrap();
        assert!(!left.exists());
        assert!(matches!(run.take(), Err(Error::Run(error)) if matches!(*error, RunError::Busy { .. })));
        drop(lock);
        drop(run.take().unwrap());
        assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1, "no lock is left");
    }
}
