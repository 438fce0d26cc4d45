//! What experiments run on: a base with its tasks, a budget, and the ways to run methods there.

use eblora_core::adapter::HostAdapters;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::model::{Model, ModelError, Site};
use eblora_core::train::{Checkpoints, Fact, Outcome, RunRecord, RunState, Silent, Task, TrainConfig, Trainer};

use crate::Error;
use crate::device::Device;
use crate::model::Family;
use crate::progress::{Event, ProgressSink};
use crate::report::summary::mean_and_sd;
use crate::run::engine::{self, MethodRun, Plan, Ran};
use crate::run::{self, Job, MethodConfig, MethodName, RunError, Subject};

/// What an experiment runs on.
pub struct Ground<'a, S> {
    /// Base and tasks.
    pub subject: &'a S,
    /// The budget, the same for all; its seed is replaced by each of `seeds`.
    pub train: TrainConfig,
    /// The methods with the rates that suit this base.
    pub methods: &'a [MethodConfig],
    /// A run of each; only those that the experiment uses.
    pub seeds: &'a [u64],
    /// Threads of the CPU.
    pub threads: usize,
    /// Where to compute.
    pub device: &'a Device,
    /// Fewer variants.
    pub quick: bool,
}

/// Means over the seeds, and standard deviations of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Accuracy at the end of each seed.
    pub mfn: Vec<f64>,
    /// Accuracy just after training.
    pub mft: Vec<f64>,
    /// Change since training.
    pub bwt: Vec<f64>,
    /// Seconds of each run.
    pub seconds: Vec<f64>,
    /// Directions in M at the end, mean over the layers, as a share of their inputs.
    pub memory: Vec<f64>,
    /// Numbers stored for M at the end, of all layers.
    pub stored: Vec<f64>,
}

/// Mean of a list; 0 of an empty one.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { mean_and_sd(values).0 }
}

/// Standard deviation of a sample; 0 of fewer than two.
pub fn deviation(values: &[f64]) -> f64 {
    mean_and_sd(values).1.unwrap_or(0.0)
}

impl Measured {
    fn push(&mut self, run: &MethodRun) {
        let accuracy = &run.record.accuracy;
        self.mfn.push(accuracy.mfn().unwrap_or(f64::NAN));
        self.mft.push(accuracy.mft().unwrap_or(f64::NAN));
        self.bwt.push(accuracy.bwt().unwrap_or(0.0));
        self.seconds.push(run.seconds);
        let last = run.record.memory.iter().map(|m| m.task).max();
        let at_end: Vec<_> = run.record.memory.iter().filter(|m| Some(m.task) == last).collect();
        self.memory.push(mean(&at_end.iter().map(|m| m.k as f64 / m.dim.max(1) as f64).collect::<Vec<_>>()));
        self.stored.push(at_end.iter().map(|m| m.stored as f64).sum());
    }
}

impl<S: Subject + Sync> Ground<'_, S>
where
    S::Samples: Sync,
{
    /// A method of this ground with its rates; with its defaults where the ground has none of this name.
    pub fn method(&self, name: MethodName) -> MethodConfig {
        self.methods.iter().find(|method| method.name == name).cloned().unwrap_or_else(|| MethodConfig::new(name))
    }

    /// The seed of an experiment that uses one.
    pub fn seed(&self) -> u64 {
        self.seeds.first().copied().unwrap_or(0)
    }

    /// Runs methods with one seed over a subject's tasks.
    ///
    /// # Errors
    /// When the device can't be had or training fails.
    pub fn runs<T: Subject + Sync>(
        &self,
        subject: &T,
        methods: &[MethodConfig],
        seed: u64,
        progress: &mut dyn ProgressSink,
    ) -> Result<Vec<MethodRun>, Error>
    where
        T::Samples: Sync,
    {
        let train = TrainConfig { seed, ..self.train.clone() };
        let plan = Plan { methods, train, threads: self.threads, device: self.device.clone(), folder: None };
        match engine::run(&plan, subject, None, progress)? {
            Ran::Finished { methods, .. } => Ok(methods),
            // Nobody could ask for it.
            Ran::Stopped { .. } => Ok(Vec::new()),
        }
    }

    /// Runs methods with every seed, and gathers what was measured of each, in their order.
    ///
    /// # Errors
    /// As [`Ground::runs`].
    pub fn measure(&self, methods: &[MethodConfig], progress: &mut dyn ProgressSink) -> Result<Vec<Measured>, Error> {
        let mut all = vec![Measured::default(); methods.len()];
        for &seed in self.seeds {
            progress.report(Event::Note(&format!("seed {seed}")));
            for (measured, run) in all.iter_mut().zip(self.runs(self.subject, methods, seed, progress)?) {
                measured.push(&run);
            }
        }
        Ok(all)
    }

    /// Does a job on the device.
    ///
    /// # Errors
    /// When the device can't be had, or the job fails.
    pub(crate) fn on_device<J: Job + Sync>(&self, job: &J) -> Result<J::Output, Error> {
        run::on_device(self.device, self.threads, job)
    }

    /// What a method learns of the subject's tasks: the record, and the adapters of each task.
    ///
    /// # Errors
    /// When training fails.
    pub fn learn<B: Backend<Scalar = f32> + 'static>(
        &self,
        backend: &B,
        method: &MethodConfig,
        tasks: &[Task<'_, S::Samples>],
        seed: u64,
    ) -> Result<(RunRecord, Vec<HostAdapters<f32>>), Error> {
        let mut trainer = self.trainer(backend, seed)?;
        let mut made = method.make::<B>();
        let (mut silent, mut nowhere) = (Silent, Nowhere);
        let ended = trainer.run_from(made.as_mut(), tasks, None, &mut silent, &mut nowhere);
        let failed = |source| RunError::Train { method: method.label().to_owned(), source: Box::new(source) };
        match pollster::block_on(ended).map_err(failed)? {
            Outcome::Finished { record, learnt } => Ok((*record, learnt.into_iter().map(|t| t.adapters).collect())),
            Outcome::Stopped { .. } => Ok((RunRecord::new(method.label(), tasks.len()), Vec::new())),
        }
    }

    /// The layers that can carry adapters.
    ///
    /// # Errors
    /// When the base's parts don't fit together.
    pub fn sites(&self) -> Result<Vec<Site>, Error> {
        let model = self.subject.model(&Cpu::<f32>::new()).map_err(|source| self.wrong(source))?;
        Ok(model.sites().to_vec())
    }

    /// A trainer at the base.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn trainer<'b, B: Backend<Scalar = f32>>(
        &self,
        backend: &'b B,
        seed: u64,
    ) -> Result<Trainer<'b, B, S::Model<B>>, Error> {
        let train = TrainConfig { seed, ..self.train.clone() };
        let trainer = Trainer::new(backend, train, || self.subject.model(backend));
        trainer.map_err(|source| self.wrong(source))
    }

    /// An error of the base.
    pub fn wrong(&self, source: ModelError) -> Error {
        RunError::Model { base: self.subject.base().to_owned(), source }.into()
    }
}

/// Keeps no states.
struct Nowhere;

impl Checkpoints<f32> for Nowhere {
    fn save(&mut self, _: &RunState<f32>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

/// Some tasks of a subject, in an order of their own.
pub struct Selected<'a, S> {
    /// Of what.
    pub of: &'a S,
    /// Their numbers.
    pub tasks: Vec<usize>,
}

impl<S: Subject> Subject for Selected<'_, S> {
    type Samples = S::Samples;
    type Model<B: Backend<Scalar = f32>> = S::Model<B>;

    fn family(&self) -> Family {
        self.of.family()
    }

    fn base(&self) -> &str {
        self.of.base()
    }

    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<S::Model<B>, ModelError> {
        self.of.model(backend)
    }

    fn tasks(&self) -> Vec<Task<'_, S::Samples>> {
        let all = self.of.tasks();
        self.tasks.iter().filter_map(|&task| all.get(task).cloned()).collect()
    }

    fn facts(&self) -> Vec<Fact> {
        self.of.facts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_deviations() {
        assert_eq!((mean(&[1.0, 3.0]), deviation(&[1.0, 3.0])), (2.0, 2f64.sqrt()));
        assert_eq!((mean(&[]), deviation(&[4.0])), (0.0, 0.0));
    }
}
