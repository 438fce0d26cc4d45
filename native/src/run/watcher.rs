//! From the trainer's progress to the events of the command line.

use eblora_core::train::{Observer, Progress};

use crate::checkpoint::{Loaded, Sittings};
use crate::progress::{Event, ProgressSink};

/// Turns the trainer's progress into events.
pub(super) struct Watcher<'a> {
    sink: &'a mut dyn ProgressSink,
    names: Vec<String>,
    steps: usize,
    /// The task that the sink was told of last.
    task: Option<usize>,
}

impl<'a> Watcher<'a> {
    pub fn new(sink: &'a mut dyn ProgressSink, names: Vec<String>, steps: usize) -> Self {
        Self { sink, names, steps, task: None }
    }

    fn begin(&mut self, task: usize) {
        self.task = Some(task);
        let of = self.names.len();
        self.sink.report(Event::Task { name: &self.names[task], number: task + 1, of, steps: self.steps });
    }

    /// Tells from where a method goes on.
    pub fn goes_on(&mut self, loaded: &Loaded, device: &str) {
        let (task, step) = loaded.state.place();
        let place = match self.names.get(task) {
            Some(name) => format!("task {} {name}, step {step}", task + 1),
            None => "the end".to_owned(),
        };
        self.sink.report(Event::Note(&format!("goes on from its checkpoint at {place}")));
        let Sittings { device: last, eblora_version, .. } = &loaded.sittings;
        if last != device {
            let note = format!("computed on {last} so far, and on {device} from here: the same to rounding only");
            self.sink.report(Event::Note(&note));
        }
        if eblora_version != env!("CARGO_PKG_VERSION") {
            let note = format!("the checkpoint is by eblora {eblora_version}: the same to rounding only");
            self.sink.report(Event::Note(&note));
        }
    }
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Task { task } => self.begin(task),
            Progress::Step { step, loss, .. } => self.sink.report(Event::Step { number: step, loss: Some(loss) }),
            Progress::Learnt { task, accuracy } => {
                // An earlier sitting may have trained it, and this one only measured it.
                if self.task != Some(task) {
                    self.begin(task);
                }
                let seen = accuracy[..=task].iter().sum::<f64>() / (task + 1) as f64;
                self.sink.report(Event::Accuracy { task: accuracy[task], seen });
            }
            Progress::Resumed { step, .. } => self.sink.report(Event::Resumed { step }),
            Progress::Warning(text) => self.sink.report(Event::Note(text)),
            Progress::Evaluating { .. } | Progress::Gradient { .. } | Progress::Spectra { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Lines;

    #[test]
    fn a_task_that_is_only_measured_is_named_too() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        let mut watcher = Watcher::new(&mut lines, ["a", "b"].map(str::to_owned).to_vec(), 3);
        watcher.progress(Progress::Learnt { task: 1, accuracy: &[50.0, 60.0] });
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("task 2/2 b: accuracy 60.0 %, mean of seen tasks 55.0 %"), "{text}");
    }
}
