//! A learner as bytes, and back: a line that describes it, then its checkpoint in the native format and its imported
//! adapters in PEFT's. Every part has its CRC-32, the line too:
//!
//! ```text
//! eblora-learner 1 CRC32 {"options":{…},"tasks":[…],…,"parts":[{"name":"header","bytes":…,"crc32":"…"},…]}
//! the parts, one after the other
//! ```

use std::path::Path;
use std::rc::Rc;

use eblora::checkpoint::{Sittings, Snapshot};
use eblora::formats::files::Files;
use eblora::model::Family;
use eblora::peft::AdapterSet;
use eblora::run::subject::vit::facts;
use serde::{Deserialize, Serialize};

use crate::adapters;
use crate::base::Base;
use crate::error::{Result, WebError};
use crate::learner::{Learner, Measured, Options};
use crate::tasks::SessionTask;

const FORMAT: &str = "eblora-learner";
const VERSION: u32 = 1;
/// What the parts of a checkpoint are called.
const HEADER: &str = "learner.json";
const TENSORS: &str = "learner.safetensors";
/// The folder of the imported adapters.
const IMPORTED: &str = "imported";

#[derive(Serialize, Deserialize)]
struct Part {
    name: String,
    bytes: usize,
    crc32: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    options: Options,
    /// The names of its tasks.
    tasks: Vec<String>,
    /// Where the last call to train began, and whether it was stopped.
    call: (usize, bool),
    seconds: f64,
    /// What was measured when something was imported.
    measured: Vec<(String, f64)>,
    parts: Vec<Part>,
}

/// The learner as bytes, in the state after the last step.
///
/// # Errors
/// When a number is not finite.
pub async fn save(learner: &Learner, base: &Base, device: &str) -> Result<Vec<u8>> {
    learner.course.settle().await;
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    if let Some(state) = learner.course.state.borrow().as_ref() {
        let sittings = Sittings {
            eblora_version: env!("CARGO_PKG_VERSION").to_owned(),
            device: device.to_owned(),
            seconds: learner.seconds.get(),
            peak_memory_bytes: None,
        };
        let Snapshot { header, tensors } = Snapshot::of(state, &sittings, TENSORS.to_owned())?;
        parts.extend([(HEADER.to_owned(), header), (TENSORS.to_owned(), tensors)]);
    }
    let (names, imported) = adapters::imported(learner);
    if !imported.is_empty() {
        let files = AdapterSet::run_files(None, Family::Vit, &names, &imported, &base.sites())?;
        parts.extend(files.into_iter().map(|(name, bytes)| (format!("{IMPORTED}/{name}"), bytes)));
    }
    let measured = learner.measured.borrow();
    let line = Line {
        options: learner.options.clone(),
        tasks: learner.tasks.borrow().iter().map(|task| task.task.name.clone()).collect(),
        // One that trains was not stopped, but what was restored goes on as if it had been.
        call: (learner.call.get().0, learner.call.get().1 || learner.course.running.get()),
        seconds: learner.seconds.get(),
        measured: measured.tasks.iter().cloned().zip(measured.accuracy.iter().copied()).collect(),
        parts: (parts.iter())
            .map(|(name, bytes)| Part { name: name.clone(), bytes: bytes.len(), crc32: checksum(bytes) })
            .collect(),
    };
    let line = serde_json::to_string(&line)?;
    let mut whole = format!("{FORMAT} {VERSION} {} {line}\n", checksum(line.as_bytes())).into_bytes();
    parts.iter().for_each(|(_, bytes)| whole.extend_from_slice(bytes));
    Ok(whole)
}

/// The learner in the bytes; its tasks must be among those of the session.
///
/// # Errors
/// When they are not what was saved, or a task is missing or another.
pub fn restore(bytes: &[u8], base: &Base, session: &[Rc<SessionTask>]) -> Result<Learner> {
    let (line, mut rest) = describe(bytes)?;
    let mut parts: Vec<(String, Vec<u8>)> = Vec::with_capacity(line.parts.len());
    for part in line.parts {
        let Some((bytes, behind)) = rest.split_at_checked(part.bytes) else {
            return Err(damaged("it is cut off"));
        };
        if checksum(bytes) != part.crc32 {
            return Err(damaged(&format!("the checksum of {} is wrong", part.name)));
        }
        parts.push((part.name, bytes.to_vec()));
        rest = behind;
    }
    let learner = Learner::new(line.options, base)?;
    let mut tasks = Vec::with_capacity(line.tasks.len());
    for name in line.tasks {
        let task = session.iter().find(|task| task.task.name == name);
        tasks.push(task.cloned().ok_or_else(|| {
            WebError::input(format!("the saved learner knows the task {name}, which is not here: add it first"))
        })?);
    }
    let (imported, checkpoint): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(name, _)| name.starts_with(IMPORTED));
    if let Ok([(_, header), (_, tensors)]) = <[_; 2]>::try_from(checkpoint) {
        let (state, _) = Snapshot { header, tensors }.read(Path::new("the saved learner"))?;
        let measured: Vec<_> = tasks.iter().map(|task| task.measured(learner.options.test_images)).collect();
        let views = tasks.iter().zip(&measured).map(|(task, measured)| task.of(measured));
        for fact in facts(base.checksum, views) {
            if let Some(saved) = state.facts.iter().find(|saved| saved.name == fact.name && saved.value != fact.value) {
                let (name, was, is) = (&fact.name, &saved.value, &fact.value);
                return Err(WebError::input(format!(
                    "the saved learner can't be used: it is of a run with other settings: {name} was {was} and is {is}"
                )));
            }
        }
        if state.record.accuracy.tasks() != tasks.len() {
            return Err(damaged("its tasks are not those of its checkpoint"));
        }
        *learner.course.state.borrow_mut() = Some(state);
    }
    if !imported.is_empty() {
        *learner.imported.borrow_mut() = adapters::read(&Files::new(imported), base)?;
    }
    *learner.tasks.borrow_mut() = tasks;
    learner.call.set(line.call);
    learner.seconds.set(line.seconds);
    let (tasks, accuracy) = line.measured.into_iter().unzip();
    *learner.measured.borrow_mut() = Measured { tasks, accuracy };
    Ok(learner)
}

/// The line, and what follows it.
fn describe(bytes: &[u8]) -> Result<(Line, &[u8])> {
    let foreign = || WebError::input("this is no saved learner of eblora");
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(foreign)?;
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| foreign())?;
    let rest = line.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(foreign)?;
    let (version, rest) = rest.split_once(' ').ok_or_else(foreign)?;
    if version.parse::<u32>().map_err(|_| foreign())? > VERSION {
        return Err(WebError::input(format!(
            "a saved learner of format version {version}, and this eblora reads {VERSION}: use the eblora that saved it"
        )));
    }
    let (crc32, json) = rest.split_once(' ').ok_or_else(foreign)?;
    if checksum(json.as_bytes()) != crc32 {
        return Err(damaged("the checksum of its first line is wrong"));
    }
    Ok((serde_json::from_str(json)?, &bytes[end + 1..]))
}

fn damaged(how: &str) -> WebError {
    WebError::input(format!("the saved learner is damaged: {how}"))
}

fn checksum(bytes: &[u8]) -> String {
    eblora::checkpoint::checksum(bytes)
}
