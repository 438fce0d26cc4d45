//! One sitting of a run: its state, whom it tells of its progress, and who keeps its states.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Checkpoints, Moment, Observer, Progress, RunState, TrainError};
use crate::Real;
use crate::backend::Backend;
use crate::method::Method;

/// How a sitting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is done.
    Finished,
    /// It was asked to stop, and its state is saved.
    Stopped,
}

/// What a run carries along.
pub struct Sitting<'s, T> {
    /// Where it stands.
    pub state: RunState<T>,
    /// Is told of its progress.
    pub observer: &'s mut dyn Observer,
    /// Keeps its states, if anyone does.
    pub checkpoints: Option<&'s mut dyn Checkpoints<T>>,
}

impl<T: Real> Sitting<'_, T> {
    /// Whether states are kept.
    pub fn saves(&self) -> bool {
        self.checkpoints.is_some()
    }

    /// Whether the run should stop.
    pub fn stop(&mut self) -> bool {
        self.checkpoints.as_mut().is_some_and(|checkpoints| checkpoints.stop())
    }

    /// Whether the state is asked for.
    pub fn wanted(&mut self) -> bool {
        self.checkpoints.as_mut().is_some_and(|checkpoints| checkpoints.wants())
    }

    /// Waits as long as the observer says.
    pub async fn pause(&mut self, moment: Moment) {
        pause(self.observer, moment).await;
    }

    /// Hands the state out, with what the method remembers now.
    pub fn save<B: Backend<Scalar = T>>(&mut self, method: &dyn Method<B>) -> Result<(), TrainError> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        self.state.remembered = method.remembered();
        let saved = checkpoints.save(&self.state);
        self.state.remembered.clear(); // the method has it, and it may be large
        let (task, step) = self.state.place();
        saved.map_err(|source| TrainError::Save { task, step, source: Arc::from(source) })
    }

    /// Saves the state before the run stops.
    pub fn stopped<B: Backend<Scalar = T>>(&mut self, method: &dyn Method<B>) -> Result<Ended, TrainError> {
        self.save(method).map(|()| Ended::Stopped)
    }

    /// Tells warnings, and keeps them.
    pub fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings {
            self.observer.progress(Progress::Warning(&warning));
            self.state.record.warnings.push(warning);
        }
    }
}

/// Waits as long as an observer says.
pub async fn pause(observer: &mut dyn Observer, moment: Moment) {
    if let Some(pause) = observer.pause(moment) {
        pause.await;
    }
}
