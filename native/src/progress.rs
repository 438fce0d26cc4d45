//! What a run says while it goes on: bars on a terminal, plain lines elsewhere, or nothing.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Something that happened in a run. Methods, tasks and steps count from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A method begins.
    Method {
        /// Its name.
        name: &'a str,
        /// Which one it is.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// A task begins.
    Task {
        /// Its name.
        name: &'a str,
        /// Which one it is.
        number: usize,
        /// How many there are.
        of: usize,
        /// Steps that it will take.
        steps: usize,
    },
    /// The task goes on where an earlier sitting left it.
    Resumed {
        /// Steps taken before.
        step: usize,
    },
    /// A training step is done.
    Step {
        /// Which one it was.
        number: usize,
        /// The loss, where it has been read.
        loss: Option<f64>,
    },
    /// The task is trained, and the model evaluated.
    Accuracy {
        /// Accuracy on this task, in per cent.
        task: f64,
        /// Mean accuracy on all tasks seen so far.
        seen: f64,
    },
    /// Something the user should know, such as a rank that had to shrink.
    Note(&'a str),
    /// The method is through.
    Done,
}

/// Takes the events of a run.
pub trait ProgressSink: Send {
    /// Called as things happen; must return quickly.
    fn report(&mut self, event: Event<'_>);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl ProgressSink for Silent {
    fn report(&mut self, _: Event<'_>) {}
}

/// The sink for standard error: bars on a terminal, lines elsewhere, nothing when `quiet`.
pub fn standard(quiet: bool) -> Box<dyn ProgressSink> {
    if quiet {
        Box::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bars::default())
    } else {
        Box::new(Lines::new(std::io::stderr()))
    }
}

/// Where in the run we are.
#[derive(Debug, Default)]
struct Place {
    method: String,
    task: String,
    step: usize,
    /// Steps that an earlier sitting took.
    before: usize,
    loss: Option<f64>,
    since: Option<Instant>,
}

impl Place {
    fn follow(&mut self, event: Event<'_>) {
        match event {
            Event::Method { name, number, of } => self.method = format!("{name} ({number}/{of})"),
            Event::Task { name, number, of, .. } => {
                self.task = format!("task {number}/{of} {name}");
                (self.step, self.before, self.loss, self.since) = (0, 0, None, Some(Instant::now()));
            }
            Event::Resumed { step } => (self.step, self.before, self.since) = (step, step, Some(Instant::now())),
            Event::Step { number, loss } => {
                self.step = number;
                self.loss = loss.or(self.loss);
            }
            _ => {}
        }
    }

    /// Loss, accuracy and speed of a task that is through.
    fn summary(&self, task: f64, seen: f64) -> String {
        let loss = self.loss.map_or(String::new(), |loss| format!("loss {loss:.3}, "));
        let seconds = self.since.map_or(0.0, |t| t.elapsed().as_secs_f64());
        let speed = if seconds > 0.0 { (self.step - self.before) as f64 / seconds } else { 0.0 };
        format!(
            "{}  {}: {loss}accuracy {task:.1} %, mean of seen tasks {seen:.1} %, {} steps, {speed:.0} steps/s",
            self.method, self.task, self.step
        )
    }
}

/// One plain line per task.
#[derive(Debug)]
pub struct Lines<W> {
    place: Place,
    out: W,
}

impl<W: Write + Send> Lines<W> {
    /// Writes to `out`; what cannot be written is dropped.
    pub fn new(out: W) -> Self {
        Self { place: Place::default(), out }
    }
}

impl<W: Write + Send> ProgressSink for Lines<W> {
    fn report(&mut self, event: Event<'_>) {
        self.place.follow(event);
        // Progress is no reason to stop: a closed pipe is ignored.
        let _ = match event {
            Event::Accuracy { task, seen } => writeln!(self.out, "{}", self.place.summary(task, seen)),
            Event::Note(text) => writeln!(self.out, "{}  note: {text}", self.place.method),
            _ => Ok(()),
        };
    }
}

/// One bar for the task at hand; finished tasks stay above it as lines.
#[derive(Debug)]
struct Bars {
    place: Place,
    bar: ProgressBar,
}

impl Default for Bars {
    fn default() -> Self {
        let bar = ProgressBar::new(0);
        let template = "{prefix}  {bar:24} {pos:>4}/{len} {msg}  {per_sec:>12}  ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { place: Place::default(), bar }
    }
}

impl ProgressSink for Bars {
    fn report(&mut self, event: Event<'_>) {
        self.place.follow(event);
        match event {
            Event::Task { steps, .. } => {
                self.bar.reset();
                self.bar.set_length(steps as u64);
                self.bar.set_prefix(format!("{}  {}", self.place.method, self.place.task));
                self.bar.set_message("");
            }
            Event::Resumed { step } => self.bar.set_position(step as u64),
            Event::Step { number, loss } => {
                self.bar.set_position(number as u64);
                if let Some(loss) = loss {
                    self.bar.set_message(format!("loss {loss:.3}"));
                }
            }
            Event::Accuracy { task, seen } => self.bar.println(self.place.summary(task, seen)),
            Event::Note(text) => self.bar.println(format!("{}  note: {text}", self.place.method)),
            Event::Method { .. } | Event::Done => {}
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_each_task_once() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        lines.report(Event::Method { name: "ebo", number: 2, of: 3 });
        lines.report(Event::Task { name: "fashion", number: 1, of: 5, steps: 2 });
        lines.report(Event::Step { number: 1, loss: Some(0.5) });
        lines.report(Event::Step { number: 2, loss: None });
        lines.report(Event::Note("rank 8 → 7 at layers.0.q"));
        lines.report(Event::Accuracy { task: 81.25, seen: 70.0 });
        lines.report(Event::Done);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "ebo (2/3)  note: rank 8 → 7 at layers.0.q");
        assert!(lines[1].starts_with(
            "ebo (2/3)  task 1/5 fashion: loss 0.500, accuracy 81.2 %, mean of seen tasks 70.0 %, 2 steps, "
        ));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn bars_take_every_event_without_a_terminal() {
        let mut bars = Bars::default();
        bars.report(Event::Task { name: "t", number: 1, of: 1, steps: 3 });
        bars.report(Event::Step { number: 3, loss: Some(1.0) });
        bars.report(Event::Accuracy { task: 1.0, seen: 1.0 });
        assert_eq!(bars.bar.position(), 3);
    }
}
