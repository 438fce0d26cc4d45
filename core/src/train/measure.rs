//! Accuracies on tasks: free, and masked to the task's own classes.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::batches::{by_length, classes};
use super::sitting::{Sitting, pause};
use super::{Moment, Observer, Progress, Silent, Task, TrainError, Trainer};
use crate::adapter::Adapters;
use crate::backend::Backend;
use crate::model::{Model, ModelError, Right, Samples};

/// Accuracies on some tasks, per cent.
#[derive(Default)]
pub(super) struct Scores {
    /// Where the model may choose any class.
    pub free: Vec<f64>,
    /// Where it chooses among the measured task's classes.
    pub masked: Vec<f64>,
}

impl<B: Backend, M: Model<B>> Trainer<'_, B, M> {
    /// Accuracies on these of the tasks; `None` when the run should stop.
    pub(super) async fn evaluate(
        &mut self,
        tasks: &[Task<'_, M::Samples>],
        wanted: &[usize],
        adapters: Option<&Adapters<B>>,
        task: Option<usize>,
        sitting: &mut Sitting<'_, B::Scalar>,
    ) -> Result<Option<Scores>, TrainError> {
        let mut scores = Scores::default();
        for (done, measured) in wanted.iter().map(|&wanted| &tasks[wanted]).enumerate() {
            if sitting.stop() {
                return Ok(None);
            }
            sitting.observer.progress(Progress::Evaluating { task, done, total: wanted.len() });
            let own = classes(&[measured.train, measured.test]);
            let right = self.count(measured.test, &own, adapters, sitting.observer).await;
            let right = right.map_err(|source| TrainError::Model { task: measured.name.to_string(), source })?;
            scores.free.push(percent(right.free, measured.test.len()));
            scores.masked.push(percent(right.masked, measured.test.len()));
        }
        Ok(Some(scores))
    }

    /// Share of samples that the model gets right ([`Model::count_right`]), in per cent.
    ///
    /// # Errors
    /// When the samples don't fit the model, or the device fails.
    pub async fn accuracy(&mut self, samples: &M::Samples, adapters: Option<&Adapters<B>>) -> Result<f64, ModelError> {
        self.measure(samples, adapters, &mut Silent).await
    }

    /// [`Trainer::accuracy`] with an observer that may make it wait between batches.
    ///
    /// # Errors
    /// As [`Trainer::accuracy`].
    pub async fn measure(
        &mut self,
        samples: &M::Samples,
        adapters: Option<&Adapters<B>>,
        observer: &mut dyn Observer,
    ) -> Result<f64, ModelError> {
        let right = self.count(samples, &[], adapters, observer).await?;
        Ok(percent(right.free, samples.len()))
    }

    /// What the model gets right of these samples of a task with these classes.
    async fn count(
        &mut self,
        samples: &M::Samples,
        classes: &[u32],
        adapters: Option<&Adapters<B>>,
        observer: &mut dyn Observer,
    ) -> Result<Right, ModelError> {
        let indices = by_length(samples);
        let mut right = Right::default();
        for batch in indices.chunks(self.config.batch.max(1)) {
            let of_batch = self.model.count_right(self.backend, &mut self.work, adapters, samples, batch, classes);
            let of_batch = of_batch.await?;
            right.free += of_batch.free;
            right.masked += of_batch.masked;
            pause(observer, Moment::Batch).await;
        }
        Ok(right)
    }
}

fn percent(right: usize, samples: usize) -> f64 {
    100.0 * right as f64 / samples.max(1) as f64
}
