//! What a run tells while it goes on.

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;

use super::SpectrumPoint;

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
    /// Spectra were recorded.
    Spectra {
        /// 0-based task.
        task: usize,
        /// Steps taken.
        step: usize,
        /// Of each layer with an adapter.
        spectra: &'a [SpectrumPoint],
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

/// What a run may wait for.
pub type Pause<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Where a run offers to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After a step of a task.
    Step,
    /// After a batch of a gradient pass or of a measurement.
    Batch,
}

/// Is told of a run's progress.
pub trait Observer {
    /// Called in the course of a run.
    fn progress(&mut self, progress: Progress<'_>);

    /// Called after every step and every batch: the run waits for what is returned. So a thread that has an event loop can
    /// give it its turn, and a run can be held for a while. Nothing is waited for by default.
    fn pause(&mut self, moment: Moment) -> Option<Pause<'_>> {
        let _ = moment;
        None
    }
}

/// Ignores all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: Progress<'_>) {}
}
