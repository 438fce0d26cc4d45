//! What a task is trained on: its own samples, or others' as well. Replay, and the bounds that every table needs, are
//! LoRA-FT ([`LoraFt`](crate::method::LoraFt)) on other data or from another start, with the budget that all methods
//! have.
//!
//! Rules:
//! - replay, [`Regime::Replay`]: each task is trained on its own samples and m of every earlier one, drawn by chance
//!   alike; a fresh adapter a task, merged after it.
//! - multi-task, [`Regime::Joint`]: one adapter is trained on, with the samples of all tasks in every stage. It has had
//!   the budget of all tasks only after the last.
//! - individual, [`Regime::Own`] with [`Continuation::Individual`](crate::method::Continuation::Individual): each task
//!   has a fresh adapter on the base as it was, and no other's.
//! - zero-shot: nothing is trained; the trainer measures the base on every task before the first one.
//!
//! Shapes: `ΔW = (α/r)·B·A` with A r×in and B out×r. Kept between tasks: replay, the merged weights and m samples of
//! each task (a choice by the seed, evenly spaced, the same in all later tasks); multi-task, the adapter; individual
//! and zero-shot, nothing. Memory: the sets are copies, all made before the first task, of n samples a task and T
//! tasks: replay has (t − 1)·m + n in task t (from 1), multi-task T·n in each of T; the others none. A step changes
//! AdamW's moments. Source: no paper's recipe, but rehearsal and the bounds as they are usual; LoRA is Hu et al. 2022.

use alloc::format;
use alloc::vec::Vec;

use super::Task;
use super::batches::spread;
use crate::model::Samples;

/// How the training samples of a sequence of tasks are composed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Regime {
    /// Each task has its own.
    #[default]
    Own,
    /// Each task has its own and so many of every earlier task, the same in all later ones.
    Replay {
        /// Samples of each earlier task; all where it has fewer.
        samples: usize,
    },
    /// Each task has those of all tasks: multi-task learning, with the budget of all tasks at the end of the last.
    Joint,
}

impl Regime {
    /// The training samples of each task; `None` where they are its own. The choice among earlier samples is seeded, and
    /// evenly spaced.
    ///
    /// ```
    /// use eblora_core::{model::bert::TextSet, train::{Regime, Task}};
    /// let mut set = TextSet::new();
    /// (0..4).for_each(|label| set.push(&[7], label));
    /// let task = |name| Task { name, train: &set, test: &set };
    /// let sizes = |regime: Regime| -> Vec<usize> {
    ///     let sets = regime.train_sets(&[task("a"), task("b"), task("c")], 0);
    ///     sets.iter().map(|own| own.as_ref().map_or(4, TextSet::len)).collect()
    /// };
    /// assert_eq!(sizes(Regime::Own), [4, 4, 4]);
    /// assert_eq!(sizes(Regime::Replay { samples: 2 }), [4, 6, 8]);
    /// assert_eq!(sizes(Regime::Joint), [12, 12, 12]);
    /// ```
    pub fn train_sets<S: Samples>(self, tasks: &[Task<'_, S>], seed: u64) -> Vec<Option<S>> {
        let kept = self.kept(tasks, seed);
        let set = |task: usize| {
            let others = match self {
                Self::Own => return None,
                Self::Replay { .. } => (0..task).collect::<Vec<_>>(),
                Self::Joint => (0..tasks.len()).filter(|j| *j != task).collect(),
            };
            let all: Vec<usize> = (0..tasks[task].train.len()).collect();
            let own = core::iter::once((tasks[task].train, all.as_slice()));
            let others = others.into_iter().map(|j| (tasks[j].train, kept[j].as_slice()));
            let parts: Vec<_> = own.chain(others).collect();
            (parts.len() > 1).then(|| S::gather(&parts))
        };
        (0..tasks.len()).map(set).collect()
    }

    /// Numbers of the samples that are kept for other tasks: pixels or tokens.
    pub fn stored<S: Samples>(self, tasks: &[Task<'_, S>], seed: u64) -> usize {
        let kept = self.kept(tasks, seed);
        tasks.iter().zip(&kept).flat_map(|(task, kept)| kept.iter().map(|&i| task.train.numbers(i))).sum()
    }

    /// The samples of each task that other tasks are trained on.
    fn kept<S: Samples>(self, tasks: &[Task<'_, S>], seed: u64) -> Vec<Vec<usize>> {
        let pick = |(i, task): (usize, &Task<'_, S>)| match self {
            Self::Own => Vec::new(),
            Self::Replay { samples } => {
                spread(seed, &format!("replay/{i}"), task.train.len(), samples.min(task.train.len()))
            }
            Self::Joint => (0..task.train.len()).collect(),
        };
        tasks.iter().enumerate().map(pick).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bert::TextSet;

    #[test]
    fn replayed_samples_are_the_same_in_all_later_tasks() {
        let sets: Vec<TextSet> = (0..3)
            .map(|task| {
                let mut set = TextSet::new();
                (0..10).for_each(|i| set.push(&[100 * task + i], task));
                set
            })
            .collect();
        let tasks: Vec<_> = sets.iter().map(|set| Task { name: "t", train: set, test: set }).collect();
        let composed = Regime::Replay { samples: 3 }.train_sets(&tasks, 4);
        let first = |set: &Option<TextSet>| -> Vec<u32> {
            let set = set.as_ref().expect("composed");
            (0..set.len()).filter(|&i| set.labels()[i] == 0).map(|i| set.tokens(i)[0]).collect()
        };
        assert!(composed[0].is_none());
        assert_eq!((first(&composed[1]).len(), composed[2].as_ref().map(TextSet::len)), (3, Some(16)));
        assert_eq!(first(&composed[1]), first(&composed[2]));
        assert_ne!(first(&composed[1]), first(&Regime::Replay { samples: 3 }.train_sets(&tasks, 5)[1]));
        let stored = |regime: Regime| regime.stored(&tasks, 4);
        assert_eq!(
            [Regime::Own, Regime::Replay { samples: 3 }, Regime::Joint].map(stored),
            [0, 9, 30],
            "of one token each"
        );
        assert_eq!(Regime::Replay { samples: 99 }.train_sets(&tasks, 0)[1].as_ref().map(TextSet::len), Some(20));
    }
}
