//! A run's state as plain data, from which it goes on: bit for bit on the CPU, to rounding on another device.
//!
//! Weights are not in it. What changed them is: the adapters of every task that has ended, in order, whose merges a
//! resumed run repeats. In mid-task the gradient of the task isn't in it either, as the same samples at the same merged
//! model give it again.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use super::RunRecord;
use crate::Real;
use crate::adapter::{AdapterError, HostAdapters};
use crate::method::{After, MethodError, ValueError, Values};
use crate::model::Site;

/// Something that a run and the state it goes on from must have in common, by name: a setting, a task, a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub name: String,
    /// What is the case.
    pub value: String,
}

impl Fact {
    /// A fact.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Self {
        Self { name: name.into(), value: value.to_string() }
    }
}

/// A task that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct LearntTask<T> {
    /// Its adapters after the last step.
    pub adapters: HostAdapters<T>,
    /// What became of them.
    pub after: After,
}

/// A task in its course.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskState<T> {
    /// Steps taken.
    pub step: usize,
    /// Their losses.
    pub losses: Vec<f64>,
    /// The adapters after them.
    pub adapters: HostAdapters<T>,
    /// What the method's steps changed beside: [`Method::parts`](crate::method::Method::parts).
    pub parts: Values<T>,
}

/// Where a run stands, and everything that it needs to go on from there.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState<T> {
    /// The run that this is of.
    pub facts: Vec<Fact>,
    /// What was measured so far.
    pub record: RunRecord,
    /// The tasks that have ended, in order. The last of them may not have been measured yet.
    pub learnt: Vec<LearntTask<T>>,
    /// What the method has learnt from them: [`Method::remembered`](crate::method::Method::remembered).
    pub remembered: Values<T>,
    /// The task in its course, if it has taken a step.
    pub current: Option<TaskState<T>>,
}

impl<T: Real> RunState<T> {
    /// The start of a run.
    pub(super) fn new(facts: Vec<Fact>, record: RunRecord) -> Self {
        Self { facts, record, learnt: Vec::new(), remembered: Values::new(), current: None }
    }

    /// Whether every task is learnt and measured.
    pub fn is_complete(&self) -> bool {
        self.record.accuracy.rows().len() == self.record.accuracy.tasks()
    }

    /// The task at hand, from 0, and the steps taken in it. A task that has ended but is not measured counts as at hand,
    /// with all its steps.
    pub fn place(&self) -> (usize, usize) {
        let measured = self.record.accuracy.rows().len();
        match &self.current {
            Some(task) => (self.learnt.len(), task.step),
            None => (measured, if measured < self.learnt.len() { self.record.losses[measured].len() } else { 0 }),
        }
    }

    /// Whether this is a state of the run that `facts` describe, and whole.
    pub(super) fn check(&self, facts: &[Fact], sites: &[Site], steps: usize) -> Result<(), StateError> {
        let differences = differences(&self.facts, facts);
        if !differences.is_empty() {
            return Err(StateError::Differs { differences });
        }
        let broken = |what: &str| Err(StateError::Content { what: what.to_string() });
        let (learnt, accuracy) = (self.learnt.len(), &self.record.accuracy);
        let begun = learnt > 0 || self.current.is_some();
        if accuracy.rows().len() != learnt && accuracy.rows().len() + 1 != learnt {
            return broken("tasks learnt and rows of accuracies don't fit together");
        }
        if learnt > accuracy.tasks() || self.record.losses.len() != learnt || (begun && accuracy.zero_shot().is_none())
        {
            return broken("tasks, losses and accuracies don't fit together");
        }
        if self.record.losses.iter().any(|losses| losses.len() != steps) {
            return broken("a task has other losses than steps");
        }
        if let Some(task) = &self.current {
            let between = learnt < accuracy.tasks() && accuracy.rows().len() == learnt;
            if !between || task.step == 0 || task.step > steps || task.losses.len() != task.step {
                return broken("the task in its course does not follow those before it");
            }
        }
        let all = self.learnt.iter().map(|task| &task.adapters).chain(self.current.as_ref().map(|task| &task.adapters));
        for factors in all.flat_map(|adapters| &adapters.factors) {
            let fits = sites.get(factors.site).is_some_and(|site| {
                let rank = factors.u.ncols();
                factors.u.nrows() == site.out && factors.v.shape() == (site.inp, rank)
            });
            if !fits {
                return broken("an adapter does not fit its layer");
            }
        }
        Ok(())
    }
}

/// What differs, by name; a fact that only one side has is `none` on the other.
pub(super) fn differences(saved: &[Fact], now: &[Fact]) -> Vec<Difference> {
    let find = |facts: &[Fact], name: &str| facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.clone());
    let names = now.iter().chain(saved.iter().filter(|fact| find(now, &fact.name).is_none())).map(|fact| &fact.name);
    let pairs = names.map(|name| Difference { name: name.clone(), saved: find(saved, name), now: find(now, name) });
    pairs.filter(|pair| pair.saved != pair.now).collect()
}

/// A fact that is not the same in a run and in the state it should go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub name: String,
    /// What it was; `None`: the state says nothing of it.
    pub saved: Option<String>,
    /// What it is in this run.
    pub now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_string());
        write!(f, "{} was {} and is {}", self.name, value(&self.saved), value(&self.now))
    }
}

/// Differences that a message names; the others are counted.
const NAMED: usize = 4;

fn list(differences: &[Difference]) -> String {
    let named: Vec<String> = differences.iter().take(NAMED).map(ToString::to_string).collect();
    let more = differences.len().saturating_sub(NAMED);
    let rest = if more > 0 { alloc::format!("; and {more} more") } else { String::new() };
    named.join("; ") + &rest
}

/// Why a run can't go on from a state.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is the state of another run.
    #[error("it is of a run with other settings: {}", list(differences))]
    Differs {
        /// In what.
        differences: Vec<Difference>,
    },
    /// It contradicts itself.
    #[error("it contradicts itself: {what}")]
    Content {
        /// How.
        what: String,
    },
    /// The adapters of the task in its course are not those that the method makes.
    #[error("its adapters are not those of this method: {0}")]
    Adapters(#[from] AdapterError),
    /// What the method's steps change is something else.
    #[error("its optimiser state is not that of this method: {0}")]
    Parts(#[from] ValueError),
    /// The method can't have learnt what is remembered.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The trainer's model is no longer at the base weights.
    #[error("this trainer has already run; a run goes on in a new one")]
    Used,
}

/// Why a state could not be kept.
pub type SaveError = Box<dyn Error + Send + Sync>;

/// Keeps the states of a run, wherever that is, and may ask it to stop.
pub trait Checkpoints<T> {
    /// Keeps a state: after every [`TrainConfig::checkpoint_every`](super::TrainConfig::checkpoint_every) steps of a task,
    /// once a task is learnt, once it is measured, and before the run stops.
    ///
    /// # Errors
    /// When it can't be kept. The run stops then.
    fn save(&mut self, state: &RunState<T>) -> Result<(), SaveError>;

    /// Whether the run should stop: it then saves its state and ends as [`Outcome::Stopped`]. Asked after every step,
    /// between the batches of a gradient pass, and between tasks that are measured.
    fn stop(&mut self) -> bool {
        false
    }

    /// Whether the state is wanted now: it is then saved, and the run goes on. Asked after every step but a task's last,
    /// whose state is saved in any case.
    fn wants(&mut self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// All tasks are learnt and measured.
    Finished {
        /// What was measured.
        record: Box<RunRecord>,
        /// The adapters of each task.
        learnt: Vec<LearntTask<T>>,
    },
    /// It was asked to stop; the last state saved is the one to go on from.
    Stopped {
        /// The task at hand, from 0.
        task: usize,
        /// Steps taken in it.
        step: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn differences_are_named_and_many_are_counted() {
        let saved: Vec<Fact> = (0..6).map(|i| Fact::new(alloc::format!("f{i}"), i)).collect();
        assert!(differences(&saved, &saved).is_empty());
        let mut now = saved.clone();
        now[2].value = "7".into();
        assert_eq!(list(&differences(&saved, &now)), "f2 was 2 and is 7");
        now.remove(0);
        now.push(Fact::new("new", "x"));
        assert_eq!(list(&differences(&saved, &now)), "f2 was 2 and is 7; new was none and is x; f0 was 0 and is none");
        assert!(list(&differences(&saved, &[])).ends_with("f3 was 3 and is none; and 2 more"));
    }

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let facts = vec![Fact::new("seed", 0)];
        let check = |change: fn(&mut RunState<f32>)| {
            let mut state = RunState::new(facts.clone(), RunRecord::new("m", 1));
            change(&mut state);
            state.check(&facts, &[], 2)
        };
        let task = |step, losses| TaskState {
            step,
            losses: vec![0.0; losses],
            adapters: HostAdapters { factors: vec![], fixed: None },
            parts: Values::new(),
        };
        assert!(check(|_| {}).is_ok());
        assert!(matches!(check(|s| s.facts.clear()), Err(StateError::Differs { .. })));
        let broken: [fn(&mut RunState<f32>); 3] = [
            |s| s.record.losses.push(vec![]),
            |s| s.record.accuracy.push(&[1.0]).expect("a row"),
            |s| {
                s.learnt
                    .push(LearntTask { adapters: HostAdapters { factors: vec![], fixed: None }, after: After::Merge })
            },
        ];
        for change in broken {
            assert!(matches!(check(change), Err(StateError::Content { .. })));
        }
        // In mid-task after the zero-shot row: sound, but for its steps.
        for (step, losses, sound) in [(1, 1, true), (2, 2, true), (0, 0, false), (3, 3, false), (1, 2, false)] {
            let mut state = RunState::<f32>::new(facts.clone(), RunRecord::new("m", 1));
            state.record.accuracy.set_zero_shot(&[5.0]).expect("a row");
            state.current = Some(task(step, losses));
            assert_eq!(state.check(&facts, &[], 2).is_ok(), sound, "step {step}");
            assert_eq!(state.place(), (0, step));
        }
    }
}
