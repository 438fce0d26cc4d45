//! `metrics.jsonl`: what a method measured, one JSON object a line.
//!
//! Lines are added while it runs, the losses as they come back from the device. When it has ended, the file is written
//! anew from the run's record, with every step: a run that was stopped and resumed leaves the same file. Lines:
//! `{"event":"zero_shot","accuracy":{task: %, …}}`, `{"event":"step","task":…,"step":1…,"loss":…}`,
//! `{"event":"learnt","task":…,"accuracy":{…}}`, `{"event":"warning","text":…}`, and at the end
//! `{"event":"spectrum",…,"site":…,"sigma":[…]}` and `{"event":"memory","task":…,"site":…,"k":…,"dim":…}`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use eblora_core::model::{Samples, Site};
use eblora_core::train::{Observer, Progress, RunRecord, RunState, Task};
use serde_json::{Map, Value, json};

use crate::formats::atomic::{self, WriteError};

/// The file's name.
pub const FILE: &str = "metrics.jsonl";

/// The metrics of one method while it runs.
pub(super) struct Metrics {
    path: PathBuf,
    file: File,
    tasks: Vec<String>,
    sites: Vec<String>,
}

impl Metrics {
    /// Begins the file in `folder`; of a run that goes on, with what it has measured so far.
    pub fn begin<S: Samples>(
        folder: &Path,
        tasks: &[Task<'_, S>],
        sites: &[Site],
        state: Option<&RunState<f32>>,
    ) -> Result<Self, WriteError> {
        atomic::prepare_folder(folder)?;
        let path = folder.join(FILE);
        let tasks: Vec<String> = tasks.iter().map(|task| task.name.to_owned()).collect();
        let sites: Vec<String> = sites.iter().map(|site| site.name.clone()).collect();
        let mut text = String::new();
        if let Some(state) = state {
            text = lines(&state.record, &tasks, &sites);
            if let Some(current) = &state.current {
                let task = tasks.get(state.learnt.len()).map_or("", String::as_str);
                current.losses.iter().enumerate().for_each(|(i, &loss)| add(&mut text, &step(task, i + 1, loss)));
            }
        }
        atomic::write(&path, text.as_bytes())?;
        let failed = |source| WriteError::File { file: path.clone(), source };
        let file = File::options().append(true).open(&path).map_err(failed)?;
        Ok(Self { path, file, tasks, sites })
    }

    /// Writes the whole file anew, from the record of the run.
    pub fn finish(self, record: &RunRecord) -> Result<(), WriteError> {
        atomic::write(&self.path, lines(record, &self.tasks, &self.sites).as_bytes())
    }

    fn task(&self, task: usize) -> &str {
        self.tasks.get(task).map_or("", String::as_str)
    }
}

impl Observer for Metrics {
    fn progress(&mut self, progress: Progress<'_>) {
        let mut text = String::new();
        match progress {
            Progress::Step { task, step: number, loss, .. } => add(&mut text, &step(self.task(task), number, loss)),
            Progress::Learnt { task, accuracy } => {
                add(
                    &mut text,
                    &json!({ "event": "learnt", "task": self.task(task), "accuracy": named(accuracy, &self.tasks) }),
                );
            }
            Progress::Warning(warning) => add(&mut text, &json!({ "event": "warning", "text": warning })),
            _ => return,
        }
        // What is added here is written again at the end: a disk that is full then is told then.
        let _ = self.file.write_all(text.as_bytes());
    }
}

fn add(text: &mut String, line: &Value) {
    text.push_str(&line.to_string());
    text.push('\n');
}

fn step(task: &str, step: usize, loss: f64) -> Value {
    json!({ "event": "step", "task": task, "step": step, "loss": loss })
}

fn named<T: Copy + Into<Value>>(values: &[T], tasks: &[String]) -> Map<String, Value> {
    tasks.iter().cloned().zip(values.iter().map(|&value| value.into())).collect()
}

/// Everything that is known, in the order in which it came to be.
fn lines(record: &RunRecord, tasks: &[String], sites: &[String]) -> String {
    let mut text = String::new();
    let name = |task: usize| tasks.get(task).map_or("", String::as_str);
    let site = |site: usize| sites.get(site).map_or("", String::as_str);
    if let Some(zero_shot) = record.accuracy.zero_shot() {
        add(&mut text, &json!({ "event": "zero_shot", "accuracy": named(zero_shot, tasks) }));
    }
    for (task, losses) in record.losses.iter().enumerate() {
        losses.iter().enumerate().for_each(|(i, &loss)| add(&mut text, &step(name(task), i + 1, loss)));
        for point in record.spectra.iter().filter(|point| point.task == task) {
            add(
                &mut text,
                &json!({ "event": "spectrum", "task": name(task), "step": point.step, "site": site(point.site), "sigma": point.sigma }),
            );
        }
        for point in record.memory.iter().filter(|point| point.task == task) {
            add(
                &mut text,
                &json!({ "event": "memory", "task": name(task), "site": site(point.site), "k": point.k, "dim": point.dim, "stored": point.stored }),
            );
        }
        if let Some(row) = record.accuracy.rows().get(task) {
            add(&mut text, &json!({ "event": "learnt", "task": name(task), "accuracy": named(row, tasks) }));
        }
    }
    for warning in &record.warnings {
        add(&mut text, &json!({ "event": "warning", "text": warning }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::model::vit::ImageSet;
    use eblora_core::train::MemoryPoint;

    #[test]
    fn a_run_that_goes_on_ends_with_the_file_of_one_that_was_not_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let set = ImageSet::default();
        let tasks = ["a", "b"].map(|name| Task { name, train: &set, test: &set });
        let sites = [Site { name: "layers.0.q".into(), out: 2, inp: 2, depth: 0 }];
        let mut record = RunRecord::new("ebo", 2);
        record.accuracy.set_zero_shot(&[1.0, 2.0]).unwrap();
        record.accuracy.push(&[50.0, 3.0]).unwrap();
        record.losses.push(vec![0.5, 0.25]);
        record.memory.push(MemoryPoint { task: 0, site: 0, k: 1, dim: 2, stored: 2 });
        let mut metrics = Metrics::begin(folder.path(), &tasks, &sites, None).unwrap();
        metrics.progress(Progress::Step { task: 0, step: 2, steps: 2, loss: 0.25 });
        let read = || std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(read().trim_end()).unwrap(), step("a", 2, 0.25));
        metrics.finish(&record).unwrap();
        let whole = read();
        assert_eq!(whole.lines().count(), 5);
        for line in whole.lines() {
            assert!(serde_json::from_str::<Value>(line).unwrap()["event"].is_string());
        }
        let state = RunState {
            facts: Vec::new(),
            record: record.clone(),
            learnt: Vec::new(),
            remembered: Default::default(),
            current: None,
        };
        let metrics = Metrics::begin(folder.path(), &tasks, &sites, Some(&state)).unwrap();
        assert_eq!(read(), whole);
        metrics.finish(&record).unwrap();
        assert_eq!(read(), whole);
    }
}
