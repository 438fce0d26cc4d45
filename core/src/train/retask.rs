//! Going on with other tasks than a run began with: more of them, or others in place of those not begun yet.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::state::Difference;
use super::{Fact, RunState, StateError, Task, Trainer};
use crate::backend::Backend;
use crate::method::Method;
use crate::model::Model;

/// Of the facts, that there are so many tasks.
pub(super) const NUMBER: &str = "number of tasks";

/// The name of the fact of the i-th task, from 0.
pub(super) fn task_fact(task: usize) -> String {
    format!("task {}", task + 1)
}

/// The name of the fact of what it is measured on.
pub(super) fn measured_fact(task: usize) -> String {
    format!("what task {} is measured on", task + 1)
}

impl<B: Backend, M: Model<B>> Trainer<'_, B, M> {
    /// The state of a run that has gone on to these tasks: `tasks` begins with those that `state` has learnt and the one in
    /// its course, and what follows may be anything. The run then goes on ([`Trainer::run_from`]) as one that had these
    /// tasks from the start, and to the same numbers; but scores on tasks that were not there yet are absent. Those of
    /// the model before any training are made up for.
    ///
    /// # Errors
    /// Names what differs beside the tasks to come, or what is broken.
    pub fn retask(
        &self,
        method: &dyn Method<B>,
        tasks: &[Task<'_, M::Samples>],
        state: RunState<B::Scalar>,
    ) -> Result<RunState<B::Scalar>, StateError> {
        let now = self.facts(method, tasks);
        let begun = state.learnt.len() + usize::from(state.current.is_some());
        let names: Vec<&str> = tasks.iter().map(|task| task.name).collect();
        let before = state.record.accuracy.tasks();
        let differences: Vec<Difference> = super::state::differences(&state.facts, &now)
            .into_iter()
            .filter(|difference| !is_of_the_future(difference, &state.facts, begun, &names, before))
            .collect();
        if !differences.is_empty() {
            return Err(StateError::Differs { differences });
        }
        let columns: Vec<Option<usize>> = (0..tasks.len())
            .map(|j| (j < before && (j < begun || same(&state.facts, &now, j, names[j]))).then_some(j))
            .collect();
        let mut record = state.record;
        record.accuracy = record.accuracy.with_columns(&columns);
        record.masked = record.masked.with_columns(&columns);
        let state = RunState { facts: now, record, ..state };
        self.check(method, tasks, &state)?;
        Ok(state)
    }
}

/// Whether something differs only because the tasks that have not begun do.
fn is_of_the_future(difference: &Difference, saved: &[Fact], begun: usize, names: &[&str], before: usize) -> bool {
    let name = difference.name.as_str();
    if name == NUMBER || (begun..before.max(names.len())).any(|j| name == task_fact(j) || name == measured_fact(j)) {
        return true;
    }
    // Whoever trains has facts of its own about each task, such as `images of fashion`.
    let Some((_, task)) = name.split_once(" of ") else { return false };
    let of = |name: &str, fact: &Fact| fact.value.strip_prefix(name).is_some_and(|rest| rest.starts_with(", "));
    let was = |range: core::ops::Range<usize>| {
        range.into_iter().any(|j| saved.iter().any(|f| f.name == task_fact(j) && of(task, f)))
    };
    let comes = names.iter().skip(begun).any(|name| *name == task);
    !was(0..begun) && (comes || was(begun..before))
}

/// Whether the j-th task is the same in both.
fn same(saved: &[Fact], now: &[Fact], j: usize, name: &str) -> bool {
    let suffix = format!(" of {name}");
    let of_task =
        |fact: &&Fact| fact.name == task_fact(j) || fact.name == measured_fact(j) || fact.name.ends_with(&suffix);
    now.iter().filter(of_task).all(|fact| saved.contains(fact))
}
