//! The header of a checkpoint: everything but its tensors, as JSON with a checksum around it.

use std::collections::BTreeMap;
use std::path::Path;

use eblora_core::metrics::AccuracyMatrix;
use eblora_core::train::{Fact, MemoryPoint, RunRecord, SpectrumPoint};
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use super::snapshot::Sittings;

/// What the file is.
pub const FORMAT: &str = "eblora.checkpoint";
/// Version of the format; goes up when an older eblora can no longer read it.
pub const VERSION: u32 = 1;

/// What stands around the content, so that the whole is JSON: the checksum is that of the exact bytes between.
const OPEN: &str = "{\"crc32\":\"";
const MIDDLE: &str = "\",\"content\":";
const CLOSE: &str = "}\n";
/// Digits of the checksum.
const DIGITS: usize = 8;

/// The content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// What is known of how the run went so far.
    pub sittings: Sittings,
    /// The file with the tensors.
    pub tensors: TensorFile,
    /// What the run is, by name.
    pub facts: Vec<(String, String)>,
    /// What was measured.
    pub record: Record,
    /// The tasks that have ended.
    pub learnt: Vec<Learnt>,
    /// What the method remembers of them.
    pub remembered: BTreeMap<String, Piece>,
    /// The task in its course.
    pub current: Option<Current>,
}

/// The file with the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorFile {
    /// Its name, in the header's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its checksum.
    pub crc32: String,
}

/// A task that has ended; its factors are tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    /// Whether its adapters stay beside the weights instead of being merged.
    pub kept: bool,
    /// Its adapters.
    pub adapters: Layers,
}

/// Which layers have an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// Their sites.
    pub sites: Vec<usize>,
    /// The constant factor where s is not trained.
    pub fixed: Option<f64>,
}

/// A task in its course; its factors are tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// Steps taken.
    pub step: usize,
    /// Their losses.
    pub losses: Vec<f64>,
    /// The adapters.
    pub adapters: Layers,
    /// What the method's steps change beside.
    pub parts: BTreeMap<String, Piece>,
}

/// A piece of plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Piece {
    /// A tensor of the other file.
    Tensor,
    /// Numbers in double precision.
    Reals(Vec<f64>),
    /// A whole number.
    Count(u64),
}

/// What was measured: [`RunRecord`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    method: String,
    tasks: usize,
    zero_shot: Option<Vec<Option<f64>>>,
    accuracy: Vec<Vec<Option<f64>>>,
    #[serde(default)]
    masked_zero_shot: Option<Vec<Option<f64>>>,
    #[serde(default)]
    masked: Vec<Vec<Option<f64>>>,
    losses: Vec<Vec<f64>>,
    /// Task, step, site, σ.
    spectra: Vec<(usize, usize, usize, Vec<f64>)>,
    /// Task, site, k, dim, stored.
    memory: Vec<(usize, usize, usize, usize, usize)>,
    orthonormality: f64,
    overlap: f64,
    trainable_parameters: usize,
    warnings: Vec<String>,
}

impl From<&RunRecord> for Record {
    fn from(record: &RunRecord) -> Self {
        Self {
            method: record.method.clone(),
            tasks: record.accuracy.tasks(),
            zero_shot: record.accuracy.zero_shot().map(<[_]>::to_vec),
            accuracy: record.accuracy.rows().to_vec(),
            masked_zero_shot: record.masked.zero_shot().map(<[_]>::to_vec),
            masked: record.masked.rows().to_vec(),
            losses: record.losses.clone(),
            spectra: record.spectra.iter().map(|p| (p.task, p.step, p.site, p.sigma.clone())).collect(),
            memory: record.memory.iter().map(|p| (p.task, p.site, p.k, p.dim, p.stored)).collect(),
            orthonormality: record.orthonormality,
            overlap: record.overlap,
            trainable_parameters: record.trainable_parameters,
            warnings: record.warnings.clone(),
        }
    }
}

impl Record {
    /// The core's record, or what is wrong with this one.
    pub fn into_core(self) -> Result<RunRecord, String> {
        let matrix = |zero_shot: Option<&Vec<_>>, rows: &[Vec<_>]| -> Result<_, String> {
            let mut matrix = AccuracyMatrix::new(self.tasks);
            zero_shot.iter().try_for_each(|row| matrix.set_known_zero_shot(row)).map_err(|e| e.to_string())?;
            rows.iter().try_for_each(|row| matrix.push_known(row)).map_err(|e| e.to_string())?;
            Ok(matrix)
        };
        // Of a file from before these were measured, nothing is known of the tasks that are through.
        let unknown = self.accuracy.len().saturating_sub(self.masked.len());
        let masked = [vec![vec![None; self.tasks]; unknown], self.masked].concat();
        let (accuracy, masked) =
            (matrix(self.zero_shot.as_ref(), &self.accuracy)?, matrix(self.masked_zero_shot.as_ref(), &masked)?);
        Ok(RunRecord {
            method: self.method,
            accuracy,
            masked,
            losses: self.losses,
            spectra: (self.spectra.into_iter())
                .map(|(task, step, site, sigma)| SpectrumPoint { task, step, site, sigma })
                .collect(),
            memory: (self.memory.into_iter())
                .map(|(task, site, k, dim, stored)| MemoryPoint { task, site, k, dim, stored })
                .collect(),
            orthonormality: self.orthonormality,
            overlap: self.overlap,
            trainable_parameters: self.trainable_parameters,
            warnings: self.warnings,
        })
    }

    /// What is not finite; JSON can't hold that.
    fn not_finite(&self) -> Option<&'static str> {
        let rows = |rows: &[Vec<f64>]| rows.iter().flatten().all(|x| x.is_finite());
        [
            ("a loss", rows(&self.losses)),
            ("a singular value", self.spectra.iter().flat_map(|p| &p.3).all(|x| x.is_finite())),
            ("a factor's distance from its manifold", self.orthonormality.is_finite() && self.overlap.is_finite()),
        ]
        .into_iter()
        .find_map(|(what, finite)| (!finite).then_some(what))
    }
}

/// Pairs for the file.
pub fn pairs(facts: &[Fact]) -> Vec<(String, String)> {
    facts.iter().map(|fact| (fact.name.clone(), fact.value.clone())).collect()
}

/// A CRC-32 as it is written.
pub fn checksum(bytes: &[u8]) -> String {
    format!("{:0DIGITS$x}", crc32fast::hash(bytes))
}

impl Header {
    /// The file's content.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let losses = self.current.as_ref().is_none_or(|task| task.losses.iter().all(|loss| loss.is_finite()));
        let bad = self.record.not_finite().or((!losses).then_some("a loss"));
        let broken = |what: String| CheckpointError::NonFinite { what };
        if let Some(what) = bad {
            return Err(broken(what.to_owned()));
        }
        let content = serde_json::to_string(self).map_err(|e| broken(e.to_string()))?;
        Ok([OPEN, &checksum(content.as_bytes()), MIDDLE, &content, CLOSE].concat().into_bytes())
    }

    /// Reads a file's content; `file` names it in errors.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self, CheckpointError> {
        let damaged = |reason: String| CheckpointError::Damaged { file: file.to_owned(), reason };
        let framed = || {
            let rest = bytes.strip_prefix(OPEN.as_bytes())?.strip_suffix(CLOSE.as_bytes())?;
            let (sum, rest) = rest.split_at_checked(DIGITS)?;
            Some((sum, rest.strip_prefix(MIDDLE.as_bytes())?))
        };
        let Some((sum, content)) = framed() else {
            return Err(damaged(format!("cut off or no checkpoint ({} bytes)", bytes.len())));
        };
        if checksum(content).as_bytes() != sum {
            return Err(damaged("the checksum is wrong".to_owned()));
        }
        // From here on the content is what was written.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let head: Head = serde_json::from_slice(content).map_err(|e| damaged(e.to_string()))?;
        if head.format != FORMAT {
            return Err(damaged(format!("a file of the format {:?}", head.format)));
        }
        if head.version > VERSION {
            return Err(CheckpointError::Newer { file: file.to_owned(), version: head.version });
        }
        let mut json = serde_json::Deserializer::from_slice(content);
        serde_path_to_error::deserialize(&mut json).map_err(|e| damaged(format!("at `{}`: {}", e.path(), e.inner())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_from_before_masked_accuracies_only_the_tasks_to_come_have_them() {
        let mut record = RunRecord::new("ebo", 2);
        for matrix in [&mut record.accuracy, &mut record.masked] {
            matrix.set_zero_shot(&[1.0, 2.0]).unwrap();
            matrix.push(&[50.0, 3.0]).unwrap();
        }
        let mut json = serde_json::to_value(Record::from(&record)).unwrap();
        let keys = json.as_object_mut().unwrap();
        assert!(keys.remove("masked").is_some() && keys.remove("masked_zero_shot").is_some());
        let mut old = serde_json::from_value::<Record>(json).unwrap().into_core().unwrap();
        assert_eq!((&old.accuracy, old.masked.rows()), (&record.accuracy, &[vec![None; 2]][..]));
        old.masked.push(&[60.0, 70.0]).unwrap();
        assert_eq!((old.masked.mfn(), old.masked.complete_rows()), (Some(65.0), None));
    }
}
