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

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::RunError;
use crate::Error;
use crate::config::RunConfig;
use crate::report::result::RunResult;

/// The resolved config's name.
pub const CONFIG: &str = "config.toml";
/// The result's name.
pub const RESULT: &str = "result.json";

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
        let unreadable = |source| RunError::Read { file: path.to_owned(), source };
        if path.join(CONFIG).is_file() {
            return Ok(vec![Self::at(path)]);
        }
        let mut seeds = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let seed = entry.file_name().to_str().and_then(|name| name.strip_prefix("seed-")?.parse::<u64>().ok());
            if let Some(seed) = seed.filter(|_| entry.path().join(CONFIG).is_file()) {
                seeds.push((seed, Self::at(entry.path())));
            }
        }
        seeds.sort_by_key(|(seed, _)| *seed);
        match seeds.is_empty() {
            true => Err(RunError::NoRun { folder: path.to_owned() }.into()),
            false => Ok(seeds.into_iter().map(|(_, folder)| folder).collect()),
        }
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
