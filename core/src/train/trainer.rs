//! One method through a sequence of tasks.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Task;
use super::batches::{BatchOrder, evenly_spaced};
use super::gradient::{GradientError, GradientKind, GradientPass};
use super::record::{MemoryPoint, RunRecord, SpectrumPoint};
use crate::Real;
use crate::adapter::{AdapterError, Adapters};
use crate::backend::{Backend, BackendError};
use crate::method::{After, Method, MethodError, TaskStart};
use crate::metrics::AccuracyMatrix;
use crate::model::{Model, ModelError, Samples, Wanted};
use crate::optim::Schedule;

/// At which weights a task's gradient G is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GradientOrigin {
    /// The current model, with all earlier tasks merged.
    #[default]
    Merged,
    /// The base model, as the authors' released code does.
    Base,
}

/// What is the same for every method: the budget, the data order, and what is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Steps of each task.
    pub steps: usize,
    /// Samples of each step.
    pub batch: usize,
    /// Learning-rate schedule of each task.
    pub schedule: Schedule,
    /// Seed of data order, samples and inits.
    pub seed: u64,
    /// Where G is taken.
    pub gradient_origin: GradientOrigin,
    /// Share of a task's training samples that G is averaged over.
    pub gradient_share: f64,
    /// How G is kept.
    pub gradient_kind: GradientKind,
    /// Spectra recorded in each task, the last after its last step.
    pub snapshots: usize,
    /// Check the manifold's constraints after every so many steps; 0: only at the snapshots.
    pub audit_every: usize,
    /// Report the loss every so many steps, once it has come back: nothing waits for it. The last is always reported.
    pub report_every: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 150,
            batch: 32,
            schedule: Schedule::default(),
            seed: 0,
            gradient_origin: GradientOrigin::default(),
            gradient_share: 0.2,
            gradient_kind: GradientKind::Exact,
            snapshots: 8,
            audit_every: 0,
            report_every: 10,
        }
    }
}

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

/// Why a run stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Nothing to train on.
    #[error("task {task}: {what}")]
    Task {
        /// Name of the task.
        task: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// In the course of a task.
    #[error("task {task}, step {step}: {source}")]
    Method {
        /// Name of the task.
        task: String,
        /// Steps taken in it.
        step: usize,
        /// Why.
        source: Box<MethodError>,
    },
    /// The model could not take the data.
    #[error("task {task}: {source}")]
    Model {
        /// Name of the task.
        task: String,
        /// Why.
        source: ModelError,
    },
    /// The gradient pass failed.
    #[error(transparent)]
    Gradient(#[from] GradientError),
    /// A spectrum could not be computed.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The accuracies don't make a matrix.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricError),
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Takes a model through tasks with a method.
pub struct Trainer<'a, B: Backend, M: Model<B>> {
    backend: &'a B,
    model: M,
    /// A copy at the base weights, where the gradients' origin asks for one.
    base: Option<M>,
    work: M::Workspace,
    config: TrainConfig,
}

impl<'a, B: Backend, M: Model<B>> Trainer<'a, B, M> {
    /// A trainer for a model in device memory; `make` builds it (twice where gradients are taken at the base model).
    ///
    /// # Errors
    /// When the device is out of memory, or `make` fails.
    pub fn new(
        backend: &'a B,
        config: TrainConfig,
        make: impl Fn() -> Result<M, ModelError>,
    ) -> Result<Self, ModelError> {
        let model = make()?;
        let base = (config.gradient_origin == GradientOrigin::Base).then(make).transpose()?;
        let work = model.workspace(backend, config.batch.max(1))?;
        Ok(Self { backend, model, base, work, config })
    }

    /// The model, with everything merged so far.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Trains the tasks one after the other and measures all of them after each.
    ///
    /// # Errors
    /// When a task has no samples or does not fit the model, a gradient is not finite, or the device fails.
    pub async fn run(
        &mut self,
        method: &mut dyn Method<B>,
        tasks: &[Task<'_, M::Samples>],
        observer: &mut dyn Observer,
    ) -> Result<RunRecord, TrainError> {
        for task in tasks {
            let refuse = |what| Err(TrainError::Task { task: task.name.to_string(), what });
            if task.train.is_empty() {
                return refuse("no training samples");
            }
            if task.test.is_empty() {
                return refuse("no samples to measure the accuracy on");
            }
        }
        let mut accuracy = AccuracyMatrix::new(tasks.len());
        accuracy.set_zero_shot(&self.evaluate(tasks, None, None, observer).await?)?;
        let mut record = RunRecord {
            method: method.name().to_string(),
            accuracy,
            losses: Vec::new(),
            spectra: Vec::new(),
            memory: Vec::new(),
            orthonormality: 0.0,
            overlap: 0.0,
            trainable_parameters: 0,
            warnings: Vec::new(),
        };
        let mut kept = None;
        for (index, task) in tasks.iter().enumerate() {
            observer.progress(Progress::Task { task: index });
            kept = self.learn(method, index, task, kept, &mut record, observer).await?;
            let row = self.evaluate(tasks, kept.as_ref(), Some(index), observer).await?;
            observer.progress(Progress::Learnt { task: index, accuracy: &row });
            record.accuracy.push(&row)?;
        }
        Ok(record)
    }

    /// One task: gradient, init, steps, memory; returns the adapters if they are kept beside the weights.
    async fn learn(
        &mut self,
        method: &mut dyn Method<B>,
        index: usize,
        task: &Task<'_, M::Samples>,
        previous: Option<Adapters<B>>,
        record: &mut RunRecord,
        observer: &mut dyn Observer,
    ) -> Result<Option<Adapters<B>>, TrainError> {
        let failed =
            |step| move |source| TrainError::Method { task: task.name.to_string(), step, source: Box::new(source) };
        let unfit = |source| TrainError::Model { task: task.name.to_string(), source };
        let gradients = if method.needs_gradients() {
            observer.progress(Progress::Gradient { task: index });
            self.gradients(index, task).await?
        } else {
            Vec::new()
        };
        let (b, config) = (self.backend, &self.config);
        let sites = self.model.sites();
        let start =
            TaskStart { task: index, sites, blocks: self.model.blocks(), gradients, previous, seed: config.seed };
        let mut adapters = method.begin_task(b, start).map_err(failed(0))?;
        record.trainable_parameters = adapters.trainable_parameters();
        for warning in method.warnings() {
            observer.progress(Progress::Warning(&warning));
            record.warnings.push(warning);
        }
        let mut grads = adapters.grads(b)?;
        self.model.attach(b, &mut self.work, &adapters).map_err(unfit)?;
        let mut losses = b.zeros([1, config.steps.max(1), 1])?;
        let mut order = BatchOrder::new(config.seed, index, task.train.len(), config.batch);
        // Losses asked for, by the step that they are of; the device goes on meanwhile.
        let mut on_their_way: VecDeque<(usize, B::Ticket)> = VecDeque::new();
        for step in 0..config.steps {
            self.model.load(b, &mut self.work, task.train, order.next_batch()).map_err(unfit)?;
            self.model.forward(b, &mut self.work, Some(&adapters));
            self.model.loss(b, &mut self.work, &mut losses, step);
            self.model.backward(b, &mut self.work, &mut Wanted::Adapters(&adapters, &mut grads));
            let factor = config.schedule.factor(step, config.steps);
            method.step(b, &mut adapters, &mut grads, factor).map_err(failed(step))?;
            let done = step + 1;
            if config.report_every > 0 && done % config.report_every == 0 && done < config.steps {
                on_their_way.push_back((done, b.read_later(&losses)?));
            }
            // What has arrived is told in order; nothing waits for what has not.
            while let Some((asked, ticket)) = on_their_way.front_mut() {
                let Some(values) = b.try_read(ticket)? else { break };
                let (step, loss) = (*asked, values[*asked - 1].f64());
                observer.progress(Progress::Step { task: index, step, steps: config.steps, loss });
                on_their_way.pop_front();
            }
            let snapshot = is_snapshot(done, config.steps, config.snapshots);
            if snapshot || (config.audit_every > 0 && done % config.audit_every == 0) {
                audit(b, method, &adapters, record, snapshot.then_some((index, done))).await?;
            }
        }
        let losses = b.read(&losses).await?;
        // The last step is always told, and last; what is still on its way would come after it.
        on_their_way.clear();
        if let Some(loss) = losses.get(config.steps.wrapping_sub(1)) {
            let (step, loss) = (config.steps, loss.f64());
            observer.progress(Progress::Step { task: index, step, steps: config.steps, loss });
        }
        record.losses.push(losses[..config.steps].iter().map(|l| l.f64()).collect());
        let after = method.end_task(b).map_err(failed(config.steps))?;
        for m in method.memory() {
            record.memory.push(MemoryPoint { task: index, site: m.site, k: m.k, dim: m.dim, stored: m.stored });
        }
        Ok(match after {
            After::Keep => Some(adapters),
            After::Merge => {
                self.model.merge(b, &adapters).map_err(unfit)?;
                None
            }
        })
    }

    /// The mean loss gradient of every site over a sample of the task's training data.
    async fn gradients(
        &mut self,
        index: usize,
        task: &Task<'_, M::Samples>,
    ) -> Result<Vec<crate::gpm::Gradient<B::Scalar>>, TrainError> {
        let (b, config) = (self.backend, &self.config);
        let model = self.base.as_ref().unwrap_or(&self.model);
        let unfit = |source| TrainError::Model { task: task.name.to_string(), source };
        let sample = evenly_spaced(config.seed, index, task.train.len(), config.gradient_share);
        let rows = model.rows(config.batch);
        let mut pass = GradientPass::new(b, model.sites(), config.gradient_kind, rows, config.seed)?;
        let mut loss = b.zeros([1, 1, 1])?;
        for batch in sample.chunks(config.batch.max(1)) {
            model.load(b, &mut self.work, task.train, batch).map_err(unfit)?;
            model.forward(b, &mut self.work, None);
            model.loss(b, &mut self.work, &mut loss, 0);
            pass.set_weight(batch.len() as f64 / sample.len() as f64);
            model.backward(b, &mut self.work, &mut Wanted::Weights(&mut pass));
        }
        Ok(pass.finish(b).await?)
    }

    async fn evaluate(
        &mut self,
        tasks: &[Task<'_, M::Samples>],
        adapters: Option<&Adapters<B>>,
        task: Option<usize>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f64>, TrainError> {
        let mut row = Vec::with_capacity(tasks.len());
        for (done, measured) in tasks.iter().enumerate() {
            observer.progress(Progress::Evaluating { task, done, total: tasks.len() });
            let accuracy = self.accuracy(measured.test, adapters).await;
            row.push(accuracy.map_err(|source| TrainError::Model { task: measured.name.to_string(), source })?);
        }
        Ok(row)
    }

    /// Share of samples that the model gets right ([`Model::count_right`]), in per cent.
    ///
    /// # Errors
    /// When the samples don't fit the model, or the device fails.
    pub async fn accuracy(&mut self, samples: &M::Samples, adapters: Option<&Adapters<B>>) -> Result<f64, ModelError> {
        let b = self.backend;
        let indices: Vec<usize> = (0..samples.len()).collect();
        let mut right = 0_usize;
        for batch in indices.chunks(self.config.batch.max(1)) {
            right += self.model.count_right(b, &mut self.work, adapters, samples, batch).await?;
        }
        Ok(100.0 * right as f64 / samples.len().max(1) as f64)
    }
}

/// Whether one of `snapshots` evenly spaced moments, the last at the end, is after step `done`.
fn is_snapshot(done: usize, steps: usize, snapshots: usize) -> bool {
    snapshots > 0 && done * snapshots / steps != (done - 1) * snapshots / steps
}

/// Reads the adapters back, checks the method's constraints and, at a snapshot `(task, step)`, keeps their spectra.
async fn audit<B: Backend>(
    backend: &B,
    method: &dyn Method<B>,
    adapters: &Adapters<B>,
    record: &mut RunRecord,
    snapshot: Option<(usize, usize)>,
) -> Result<(), TrainError> {
    let factors = adapters.read(backend).await?;
    let violation = method.violation(&factors);
    if let Some(v) = violation {
        record.orthonormality = record.orthonormality.max(v.orthonormality);
        record.overlap = record.overlap.max(v.overlap);
    }
    let Some((task, step)) = snapshot else { return Ok(()) };
    for f in factors {
        let site = f.site;
        // On the manifold all singular values are |s|; elsewhere they come from the factors.
        let sigma: Vec<B::Scalar> = match violation {
            Some(_) => f.spectral().singular_values(),
            None => f.lora().singular_values()?,
        };
        record.spectra.push(SpectrumPoint { task, step, site, sigma: sigma.iter().map(|s| s.f64()).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_as_many_as_asked_and_end_with_the_task() {
        for (steps, snapshots) in [(150, 8), (7, 3), (5, 5), (100, 1)] {
            let at: Vec<usize> = (1..=steps).filter(|&s| is_snapshot(s, steps, snapshots)).collect();
            assert_eq!((at.len(), at.last()), (snapshots, Some(&steps)), "{at:?}");
        }
        assert_eq!((1..=3).filter(|&s| is_snapshot(s, 3, 8)).count(), 3);
    }
}
