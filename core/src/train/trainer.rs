//! One method through a sequence of tasks.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::audit::{audit, is_snapshot};
use super::batches::{BatchOrder, evenly_spaced, labels_hash};
use super::gradient::{GradientPass, Mean};
use super::measure::Scores;
use super::retask::{NUMBER, measured_fact, task_fact};
use super::sitting::{Ended, Sitting};
use super::{
    Checkpoints, Fact, GradientOrigin, LearntTask, MemoryPoint, Moment, Observer, Outcome, Progress, RunRecord,
    RunState, StateError, Task, TaskState, TrainConfig, TrainError, parts,
};
use crate::Real;
use crate::adapter::{Adapters, HostAdapters};
use crate::backend::Backend;
use crate::gpm::Gradient;
use crate::method::{After, Method, TaskStart};
use crate::model::{Model, ModelError, Samples, Wanted};

/// How a task went.
enum Learning<B: Backend> {
    /// It is learnt; the adapters if they stay beside the weights.
    Done(Option<Adapters<B>>),
    /// The run was asked to stop, and its state is saved.
    Stopped,
}

/// Takes a model through tasks with a method.
pub struct Trainer<'a, B: Backend, M: Model<B>> {
    pub(super) backend: &'a B,
    pub(super) model: M,
    /// A copy at the base weights, where the gradients' origin asks for one.
    base: Option<M>,
    pub(super) work: M::Workspace,
    pub(super) config: TrainConfig,
    /// Whether the model is at the base weights.
    fresh: bool,
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
        Ok(Self { backend, model, base, work, config, fresh: true })
    }

    /// A trainer for a model that there is already, such as one with adapters merged, to measure it: gradients at the
    /// base model are not to be had.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn with_model(backend: &'a B, config: TrainConfig, model: M) -> Result<Self, ModelError> {
        let work = model.workspace(backend, config.batch.max(1))?;
        Ok(Self { backend, model, base: None, work, config, fresh: false })
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
        let state = RunState::new(Vec::new(), RunRecord::new(method.name(), tasks.len()));
        let mut sitting = Sitting { state, observer, checkpoints: None };
        self.go(method, tasks, &mut sitting).await?;
        Ok(sitting.state.record)
    }

    /// As [`Trainer::run`], from the start or from a saved state on, and saves its states. It ends with the same record
    /// and adapters, bit for bit on the CPU, however often it was stopped and resumed; a state of another device serves to
    /// rounding. Needs a trainer that has not run yet and a method that was just made.
    ///
    /// # Errors
    /// As [`Trainer::run`]; when a state can't be saved; when `from` is not a state of this run, before anything is done.
    pub async fn run_from(
        &mut self,
        method: &mut dyn Method<B>,
        tasks: &[Task<'_, M::Samples>],
        from: Option<RunState<B::Scalar>>,
        observer: &mut dyn Observer,
        checkpoints: &mut dyn Checkpoints<B::Scalar>,
    ) -> Result<Outcome<B::Scalar>, TrainError> {
        if !self.fresh {
            return Err(StateError::Used.into());
        }
        let state = match from {
            Some(state) => {
                self.check(method, tasks, &state)?;
                state
            }
            None => RunState::new(self.facts(method, tasks), RunRecord::new(method.name(), tasks.len())),
        };
        let mut sitting = Sitting { state, observer, checkpoints: Some(checkpoints) };
        let finished = self.go(method, tasks, &mut sitting).await?;
        let state = sitting.state;
        let (task, step) = state.place();
        Ok(match finished {
            Ended::Finished => Outcome::Finished { record: Box::new(state.record), learnt: state.learnt },
            Ended::Stopped => Outcome::Stopped { task, step },
        })
    }

    /// Whether a run of this method on these tasks can go on from `state`.
    ///
    /// # Errors
    /// Names what differs, or what is broken.
    pub fn check(
        &self,
        method: &dyn Method<B>,
        tasks: &[Task<'_, M::Samples>],
        state: &RunState<B::Scalar>,
    ) -> Result<(), StateError> {
        state.check(&self.facts(method, tasks), self.model.sites(), self.config.steps)
    }

    /// What decides this run's numbers.
    pub(super) fn facts(&self, method: &dyn Method<B>, tasks: &[Task<'_, M::Samples>]) -> Vec<Fact> {
        let mut facts = Vec::from([Fact::new("method", method.name())]);
        facts.extend(method.settings().into_iter().map(|(name, value)| Fact::new(name, value)));
        facts.extend(self.config.facts());
        facts.push(Fact::new("precision", B::Scalar::NAME));
        facts.push(Fact::new(NUMBER, tasks.len()));
        for (i, task) in tasks.iter().enumerate() {
            let [train, test] = [task.train, task.test].map(|samples| (samples.len(), labels_hash(samples)));
            let samples = format!("{}, {} samples (labels {:08x})", task.name, train.0, train.1);
            facts.push(Fact::new(task_fact(i), samples));
            let samples = format!("{} samples (labels {:08x})", test.0, test.1);
            facts.push(Fact::new(measured_fact(i), samples));
        }
        let blocks = self.model.blocks();
        for site in self.model.sites() {
            let place = format!("{}×{}, block {} of {blocks}", site.out, site.inp, site.depth);
            facts.push(Fact::new(format!("layer {}", site.name), place));
        }
        facts
    }

    /// Does what `sitting.state` says is still to be done.
    async fn go(
        &mut self,
        method: &mut dyn Method<B>,
        tasks: &[Task<'_, M::Samples>],
        sitting: &mut Sitting<'_, B::Scalar>,
    ) -> Result<Ended, TrainError> {
        for task in tasks {
            let refuse = |what| Err(TrainError::Task { task: task.name.to_string(), what });
            if task.train.is_empty() {
                return refuse("no training samples");
            }
            if task.test.is_empty() {
                return refuse("no samples to measure the accuracy on");
            }
        }
        self.fresh = false;
        // Before anything is merged.
        let all: Vec<usize> = (0..tasks.len()).collect();
        let missing = sitting.state.record.accuracy.missing_zero_shot();
        let zero_shot = match missing.is_empty() {
            true => Some(Scores::default()),
            false => self.evaluate(tasks, &missing, None, None, sitting).await?,
        };
        match zero_shot {
            Some(scores) => sitting.state.record.complete_zero_shot(&scores)?,
            None => {
                self.replay(method, sitting)?; // what the method remembers is to be saved
                return sitting.stopped(method);
            }
        }
        let mut kept = self.replay(method, sitting)?;
        if let (Some(adapters), Some(task)) = (&kept, tasks.get(sitting.state.learnt.len().wrapping_sub(1))) {
            // The next thing may be to measure with them.
            let unfit = |source| TrainError::Model { task: task.name.to_string(), source };
            self.model.attach(self.backend, &mut self.work, adapters).map_err(unfit)?;
        }
        loop {
            let (learnt, measured) = (sitting.state.learnt.len(), sitting.state.record.accuracy.rows().len());
            if measured < learnt {
                let Some(scores) = self.evaluate(tasks, &all, kept.as_ref(), Some(measured), sitting).await? else {
                    return sitting.stopped(method);
                };
                sitting.observer.progress(Progress::Learnt { task: measured, accuracy: &scores.free });
                sitting.state.record.push(&scores)?;
            } else if let Some(task) = tasks.get(learnt) {
                match self.learn(method, [learnt, tasks.len()], task, kept, sitting).await? {
                    Learning::Done(adapters) => kept = adapters,
                    Learning::Stopped => return Ok(Ended::Stopped),
                }
            } else {
                return Ok(Ended::Finished);
            }
            sitting.save(method)?;
        }
    }

    /// Repeats what the ended tasks did to model and method; returns the adapters that are kept beside the weights.
    fn replay(
        &mut self,
        method: &mut dyn Method<B>,
        sitting: &mut Sitting<'_, B::Scalar>,
    ) -> Result<Option<Adapters<B>>, TrainError> {
        let (b, sites) = (self.backend, self.model.sites().len());
        let mut kept = None;
        for (index, task) in sitting.state.learnt.iter().enumerate() {
            match task.after {
                After::Merge => {
                    let adapters = task.adapters.upload(b, sites)?;
                    let unfit = |source| TrainError::Model { task: (index + 1).to_string(), source };
                    self.model.merge(b, &adapters).map_err(unfit)?;
                    kept = None;
                }
                After::Keep => kept = Some(&task.adapters),
            }
        }
        let kept = kept.map(|adapters| adapters.upload(b, sites)).transpose()?;
        if !sitting.state.learnt.is_empty() || sitting.state.current.is_some() {
            let remembered = core::mem::take(&mut sitting.state.remembered);
            method.recall(remembered, self.model.sites()).map_err(StateError::from)?;
        }
        Ok(kept)
    }

    /// One task, or what is left of it: gradient, init, steps, memory; and the adapters if they are kept beside the
    /// weights.
    async fn learn(
        &mut self,
        method: &mut dyn Method<B>,
        [index, tasks]: [usize; 2],
        task: &Task<'_, M::Samples>,
        previous: Option<Adapters<B>>,
        sitting: &mut Sitting<'_, B::Scalar>,
    ) -> Result<Learning<B>, TrainError> {
        let failed =
            |step| move |source| TrainError::Method { task: task.name.to_string(), step, source: Box::new(source) };
        let unfit = |source| TrainError::Model { task: task.name.to_string(), source };
        sitting.observer.progress(Progress::Task { task: index });
        let needs = method.needs();
        let (mut gradients, mut inputs) = (Vec::new(), Vec::new());
        for (mean, needed, matrices) in
            [(Mean::Gradient, needs.gradients, &mut gradients), (Mean::Inputs, needs.inputs, &mut inputs)]
        {
            if !needed {
                continue;
            }
            sitting.observer.progress(Progress::Gradient { task: index });
            let origin = self.config.gradient_origin;
            match self.mean(mean, origin, index, task, sitting).await? {
                Some(means) => *matrices = means,
                None => return sitting.stopped(method).map(|_| Learning::Stopped),
            }
        }
        let (b, config) = (self.backend, &self.config);
        let (sites, blocks) = (self.model.sites(), self.model.blocks());
        let mut weights = Vec::new();
        if needs.weights {
            for site in 0..sites.len() {
                weights.push(self.model.weight(b, site).await.map_err(unfit)?);
            }
        }
        let start =
            TaskStart { task: index, tasks, sites, blocks, gradients, inputs, weights, previous, seed: config.seed };
        let mut adapters = method.begin_task(b, start).map_err(failed(0))?;
        let mut grads = adapters.grads(b)?;
        self.model.attach(b, &mut self.work, &adapters).map_err(unfit)?;
        let mut losses = b.zeros([1, config.steps.max(1), 1])?;
        // What the last task and this one's start have left would fit few of the steps' sizes.
        b.trim();
        let mut order = BatchOrder::new(config.seed, index, task.train.len(), config.batch);
        let mut first = 0;
        let warnings = method.warnings();
        match sitting.state.current.take() {
            // What happened at the task's beginning is in the record.
            Some(saved) => {
                saved.adapters.overwrite(b, &mut adapters).map_err(StateError::from)?;
                parts::write(b, method.parts(), &saved.parts)?;
                let known: Vec<_> = saved.losses.iter().map(|&loss| B::Scalar::of(loss)).collect();
                b.write(&mut losses, &known)?;
                first = saved.step;
                order.skip(first);
                sitting.observer.progress(Progress::Resumed { task: index, step: first });
            }
            None => {
                sitting.state.record.trainable_parameters = method.trainable_parameters(&adapters);
                sitting.warn(warnings);
            }
        }
        // Losses asked for, by the step that they are of; the device goes on meanwhile.
        let mut on_their_way: VecDeque<(usize, B::Ticket)> = VecDeque::new();
        for step in first..config.steps {
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
                sitting.observer.progress(Progress::Step { task: index, step, steps: config.steps, loss });
                on_their_way.pop_front();
            }
            let snapshot = is_snapshot(done, config.steps, config.snapshots);
            if snapshot || (config.audit_every > 0 && done % config.audit_every == 0) {
                let record = &mut sitting.state.record;
                let before = record.spectra.len();
                audit(b, method, &adapters, record, snapshot.then_some((index, done))).await?;
                if snapshot {
                    let spectra = &record.spectra[before..];
                    sitting.observer.progress(Progress::Spectra { task: index, step: done, spectra });
                }
            }
            if done < config.steps {
                let stop = sitting.stop();
                let asked = stop || sitting.wanted();
                if asked || (sitting.saves() && config.checkpoint_every > 0 && done % config.checkpoint_every == 0) {
                    sitting.state.current = Some(TaskState {
                        step: done,
                        losses: b.read(&losses).await?[..done].iter().map(|l| l.f64()).collect(),
                        adapters: HostAdapters::read(b, &adapters).await?,
                        parts: parts::read(b, method.parts()).await?,
                    });
                    sitting.save(method)?;
                    if stop {
                        return Ok(Learning::Stopped);
                    }
                    sitting.state.current = None;
                }
            }
            sitting.pause(Moment::Step).await;
        }
        let losses = b.read(&losses).await?;
        // The last step is always told, and last; what is still on its way would come after it.
        on_their_way.clear();
        if let Some(loss) = losses.get(config.steps.wrapping_sub(1)) {
            let (step, loss) = (config.steps, loss.f64());
            sitting.observer.progress(Progress::Step { task: index, step, steps: config.steps, loss });
        }
        let steps = config.steps;
        let losses: Vec<f64> = losses[..steps].iter().map(|l| l.f64()).collect();
        let learnt = HostAdapters::read(b, &adapters).await?;
        if needs.trained {
            self.model.merge(b, &adapters).map_err(unfit)?;
            sitting.observer.progress(Progress::Gradient { task: index });
            match self.mean(Mean::Gradient, GradientOrigin::Merged, index, task, sitting).await? {
                Some(means) => method.trained(means),
                None => {
                    // All steps are done, and what follows them isn't: that is where it goes on.
                    if steps > 0 {
                        let parts = parts::read(b, method.parts()).await?;
                        sitting.state.current = Some(TaskState { step: steps, losses, adapters: learnt, parts });
                    }
                    return sitting.stopped(method).map(|_| Learning::Stopped);
                }
            }
        }
        sitting.state.record.losses.push(losses);
        let after = method.end_task(b, &learnt.factors).map_err(failed(steps))?;
        for m in method.memory() {
            sitting.state.record.memory.push(MemoryPoint {
                task: index,
                site: m.site,
                k: m.k,
                dim: m.dim,
                stored: m.stored,
            });
        }
        sitting.warn(method.warnings());
        sitting.state.learnt.push(LearntTask { adapters: learnt, after });
        Ok(Learning::Done(match after {
            After::Keep => Some(adapters),
            After::Merge => {
                if !needs.trained {
                    self.model.merge(b, &adapters).map_err(unfit)?;
                }
                None
            }
        }))
    }

    /// A mean of every site over a sample of the task's training data; `None` when the run should stop.
    async fn mean(
        &mut self,
        mean: Mean,
        origin: GradientOrigin,
        index: usize,
        task: &Task<'_, M::Samples>,
        sitting: &mut Sitting<'_, B::Scalar>,
    ) -> Result<Option<Vec<Gradient<B::Scalar>>>, TrainError> {
        let (b, config) = (self.backend, &self.config);
        let base = self.base.as_ref().filter(|_| origin == GradientOrigin::Base);
        let model = base.unwrap_or(&self.model);
        let unfit = |source| TrainError::Model { task: task.name.to_string(), source };
        let sample = evenly_spaced(config.seed, index, task.train.len(), config.gradient_share);
        let rows = model.rows(config.batch);
        let mut pass = GradientPass::of(b, mean, model.sites(), config.gradient_kind, rows, config.seed)?;
        let mut loss = b.zeros([1, 1, 1])?;
        for batch in sample.chunks(config.batch.max(1)) {
            if sitting.stop() {
                return Ok(None);
            }
            model.load(b, &mut self.work, task.train, batch).map_err(unfit)?;
            model.forward(b, &mut self.work, None);
            model.loss(b, &mut self.work, &mut loss, 0);
            pass.set_weight(batch.len() as f64 / sample.len() as f64);
            model.backward(b, &mut self.work, &mut Wanted::Weights(&mut pass));
            sitting.pause(Moment::Batch).await;
        }
        Ok(Some(pass.finish(b).await?))
    }
}
