//! A state as the bytes of its two files, and back.

use std::path::Path;

use eblora_core::method::After;
use eblora_core::train::{Fact, LearntTask, RunState, TaskState};
use serde::{Deserialize, Serialize};

use super::header::{Current, FORMAT, Header, Learnt, TensorFile, VERSION, checksum, pairs};
use super::{CheckpointError, tensors};
use crate::formats::safetensors::{SafetensorsError, Tensors};

/// What a run's sittings had in common, and what they needed, up to a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sittings {
    /// The eblora that wrote it.
    pub eblora_version: String,
    /// The device that computed last.
    pub device: String,
    /// Time of all sittings, what was lost when one broke off left out.
    pub seconds: f64,
    /// The most memory that any of them needed.
    pub peak_memory_bytes: Option<u64>,
}

/// A checkpoint's two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Everything but the tensors: one line of JSON.
    pub header: Vec<u8>,
    /// The tensors.
    pub tensors: Vec<u8>,
}

impl Snapshot {
    /// The files of a state; the header names that of the tensors.
    ///
    /// # Errors
    /// When the state holds a number that is not finite: nothing good comes of going on from it.
    pub fn of(state: &RunState<f32>, sittings: &Sittings, tensor_file: String) -> Result<Self, CheckpointError> {
        let mut writer = tensors::Writer::default();
        let learnt = (state.learnt.iter().enumerate())
            .map(|(i, task)| Learnt {
                kept: task.after == After::Keep,
                adapters: writer.adapters(&format!("learnt{i}"), &task.adapters),
            })
            .collect();
        let remembered = writer.values("remembered", &state.remembered);
        let current = state.current.as_ref().map(|task| Current {
            step: task.step,
            losses: task.losses.clone(),
            adapters: writer.adapters("current", &task.adapters),
            parts: writer.values("parts", &task.parts),
        });
        check_finite(state)?;
        let bytes = writer.into_bytes().map_err(|e| CheckpointError::NonFinite { what: e.to_string() })?;
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            sittings: sittings.clone(),
            tensors: TensorFile { file: tensor_file, bytes: bytes.len() as u64, crc32: checksum(&bytes) },
            facts: pairs(&state.facts),
            record: (&state.record).into(),
            learnt,
            remembered,
            current,
        };
        Ok(Self { header: header.to_bytes()?, tensors: bytes })
    }

    /// The state in the files; `name` is what they are called in errors.
    ///
    /// # Errors
    /// When they are of a later version, or not what was written.
    pub fn read(self, name: &Path) -> Result<(RunState<f32>, Sittings), CheckpointError> {
        read(&self.header, name, |_| Ok((self.tensors, name)))
    }
}

/// The state of a header, whose tensors `tensors` gives, with the name of their file.
pub(super) fn read<'a>(
    header: &[u8],
    file: &Path,
    tensors: impl FnOnce(&TensorFile) -> Result<(Vec<u8>, &'a Path), CheckpointError>,
) -> Result<(RunState<f32>, Sittings), CheckpointError> {
    let damaged = |file: &Path, reason: String| CheckpointError::Damaged { file: file.to_owned(), reason };
    let header = Header::from_bytes(header, file)?;
    let (bytes, tensor_file) = tensors(&header.tensors)?;
    let TensorFile { bytes: length, crc32, .. } = &header.tensors;
    if bytes.len() as u64 != *length {
        return Err(damaged(tensor_file, format!("{} bytes of {length} are there", bytes.len())));
    }
    if checksum(&bytes) != *crc32 {
        return Err(damaged(tensor_file, "the checksum is wrong".to_owned()));
    }
    let tensors = Tensors::from_bytes(bytes, &tensor_file.display().to_string());
    let sittings = header.sittings.clone();
    let state = tensors.and_then(|mut tensors| state(header, &mut tensors));
    match state.map_err(|e| damaged(tensor_file, e.to_string()))? {
        Ok(state) => Ok((state, sittings)),
        Err(reason) => Err(damaged(file, reason)),
    }
}

/// The state of a header and its tensors; the inner error is the header's.
fn state(header: Header, tensors: &mut Tensors) -> Result<Result<RunState<f32>, String>, SafetensorsError> {
    let mut learnt = Vec::with_capacity(header.learnt.len());
    for (i, task) in header.learnt.iter().enumerate() {
        learnt.push(LearntTask {
            adapters: tensors::adapters(tensors, &format!("learnt{i}"), &task.adapters)?,
            after: if task.kept { After::Keep } else { After::Merge },
        });
    }
    let remembered = tensors::values(tensors, "remembered", header.remembered)?;
    let current = match header.current {
        None => None,
        Some(task) => Some(TaskState {
            step: task.step,
            losses: task.losses,
            adapters: tensors::adapters(tensors, "current", &task.adapters)?,
            parts: tensors::values(tensors, "parts", task.parts)?,
        }),
    };
    let facts = header.facts.into_iter().map(|(name, value)| Fact { name, value }).collect();
    Ok(header.record.into_core().map(|record| RunState { facts, record, learnt, remembered, current }))
}

/// Refuses a state with a number that is not finite: nothing good comes of going on from it.
fn check_finite(state: &RunState<f32>) -> Result<(), CheckpointError> {
    let current = state.current.as_ref();
    let all = state.learnt.iter().map(|task| &task.adapters).chain(current.map(|task| &task.adapters));
    for f in all.flat_map(|adapters| &adapters.factors) {
        let finite = f.s.is_finite() && f.u.is_all_finite() && f.v.is_all_finite();
        if !finite {
            return Err(CheckpointError::NonFinite { what: format!("the adapter of site {}", f.site) });
        }
    }
    let values = state.remembered.iter().chain(current.iter().flat_map(|task| &task.parts));
    match values.into_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((name, _)) => Err(CheckpointError::NonFinite { what: format!("`{name}`") }),
    }
}
