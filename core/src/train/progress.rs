//! What a run tells while it goes on.

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<'a> {
    /// A model is being measured on all tasks; before the first task, `task` is `None`.
    Evaluating {
        /// The task just learnt.
        task: Option<usize>,
        /// Tasks measured so far.
        done: usize,
        /// Tasks to measure.
        total: usize,
    },
    /// A task began.
    Task {
        /// 0-based task.
        task: usize,
    },
    /// A task that an earlier sitting began goes on.
    Resumed {
        /// 0-based task.
        task: usize,
        /// Steps taken before.
        step: usize,
    },
    /// The gradient pass of a task began.
    Gradient {
        /// 0-based task.
        task: usize,
    },
    /// Some steps of a task were taken.
    Step {
        /// 0-based task.
        task: usize,
        /// Steps taken.
        step: usize,
        /// Steps of the task.
        steps: usize,
        /// Training loss of the last of them.
        loss: f64,
    },
    /// A task was learnt and everything measured: a row of the accuracy matrix.
    Learnt {
        /// 0-based task.
        task: usize,
        /// Accuracy on each task, per cent.
        accuracy: &'a [f64],
    },
    /// Something the user should know, but that does not stop the run.
    Warning(&'a str),
}

/// Is told of a run's progress.
pub trait Observer {
    /// Called in the course of a run.
    fn progress(&mut self, progress: Progress<'_>);
}

/// Ignores all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: Progress<'_>) {}
}
