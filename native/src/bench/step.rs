//! One training step of a model, with LoRA and with EBLoRA, whose memory is as large as in the middle of a sequence.
//!
//! Which models: [`super::subjects`].

use std::time::Instant;

use eblora_core::adapter::{AdapterGrads, Adapters};
use eblora_core::method::{Method, MethodError, TaskStart};
use eblora_core::model::{Model, Wanted};

use super::clock::{Clock, Effort, Sample, Times};
use super::subjects::StepSubject;
use super::{BenchConfig, BenchError, Figure, Phases, SEED, StepSetting, figure, gradients};
use crate::demo::DemoConfig;
use crate::memory;
use crate::run::MethodName;

/// Rank of the adapters, whatever the demo's default is.
pub const RANK: usize = 8;
/// Directions of each task's gradient. Real ones have as many: `benchmarks/instruct.toml`'s M has 47 a layer after three tasks.
const TASK: usize = 16;
const WARM_UP: Effort = Effort { repeats: 10, patience: std::time::Duration::from_secs(1) };
/// Steps between two waits, where steps are queued: where one takes more than [`SLOW`] seconds, waiting for each is nothing.
const QUEUED: usize = 10;
const SLOW: f64 = 0.5;
const METHODS: [MethodName; 2] = [MethodName::LoraFt, MethodName::Eblora];

fn name<S: StepSubject>(method: MethodName) -> String {
    match method {
        MethodName::LoraFt => format!("{}_step/lora", S::NAME),
        other => format!("{}_step/{other}", S::NAME),
    }
}

/// The names of a model's figures.
pub fn names<S: StepSubject>() -> impl Iterator<Item = String> {
    METHODS.into_iter().map(name::<S>)
}

/// The figures of a model that are wanted. On a software adapter, where a large model's step takes minutes, those that
/// were asked for.
pub fn measure<B: Clock + 'static, S: StepSubject>(
    b: &B,
    config: &BenchConfig,
    subject: &S,
) -> Result<Vec<Figure>, BenchError> {
    if !names::<S>().any(|name| config.wants(&name)) || (S::LARGE && config.only.is_empty() && b.is_software()) {
        return Ok(Vec::new());
    }
    memory::reset_peak();
    let model = subject.model(b)?;
    let wanted = METHODS.into_iter().filter(|&method| config.wants(&name::<S>(method)));
    let mut work = model.workspace(b, S::BATCH)?;
    let mut steps =
        wanted.map(|method| Step::new(b, method, subject, &model, &mut work)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let mut warm = 0;
    while !WARM_UP.suffices(warm, start) && warm < config.repeats {
        steps.iter_mut().try_for_each(|step| step.phases(b, &mut work).map(drop))?;
        warm += 1;
    }
    let (effort, start) = (config.effort(), Instant::now());
    let enough = |steps: &[Step<'_, B, S>]| steps.iter().all(|s| effort.suffices(s.total.runs(), start));
    // The methods take turns, so that a busy machine disturbs both alike.
    while !enough(&steps) {
        for step in &mut steps {
            let phases = step.phases(b, &mut work)?;
            for (times, sample) in step.parts.iter_mut().zip(phases) {
                times.push(sample);
            }
            let apart = phases.iter().map(|p| p.host).sum();
            let total = if B::QUEUES && apart < SLOW { step.queued(b, &mut work)? } else { apart };
            step.total.push(Sample { host: total, device: None });
        }
    }
    Ok(steps.iter().map(|step| step.figure(b)).collect())
}

/// A model's buffers.
type Work<B, S> = <<S as StepSubject>::Model<B> as Model<B>>::Workspace;

/// One method's step. The model is the same for all: steps don't change it; and so are the buffers, which hold nothing from
/// one step to the next.
struct Step<'a, B: Clock, S: StepSubject> {
    method_name: MethodName,
    subject: &'a S,
    batch: Vec<usize>,
    model: &'a S::Model<B>,
    method: Box<dyn Method<B>>,
    adapters: Adapters<B>,
    grads: AdapterGrads<B>,
    loss: B::Tensor,
    /// Of forward, backward and optimiser.
    parts: [Times; 3],
    total: Times,
}

impl<'a, B: Clock + 'static, S: StepSubject> Step<'a, B, S> {
    fn new(
        b: &B,
        method_name: MethodName,
        subject: &'a S,
        model: &'a S::Model<B>,
        work: &mut Work<B, S>,
    ) -> Result<Self, BenchError> {
        // No threshold: each task's gradient goes into M whole.
        let config = DemoConfig { epsilon: 1.0, rank: Some(RANK), ..DemoConfig::default() };
        let mut method = config.method(method_name).make::<B>();
        let mut adapters = None;
        // M is full at the start of the last one.
        let tasks = S::MEMORY / TASK + 1;
        for task in 0..tasks {
            let gradients = if method.needs().gradients { gradients(model.sites(), TASK, task)? } else { Vec::new() };
            let (sites, blocks) = (model.sites(), model.blocks());
            let start = TaskStart { blocks, gradients, ..TaskStart::new([task, tasks], sites, SEED) };
            adapters = Some(method.begin_task(b, start)?);
            if task + 1 < tasks {
                method.end_task(b, &[])?;
            }
        }
        let Some(adapters) = adapters else { return Err(MethodError::Order("no task").into()) };
        model.attach(b, work, &adapters)?;
        let (grads, loss) = (adapters.grads(b)?, b.zeros([1, 1, 1])?);
        let batch = (0..S::BATCH).collect();
        let (parts, total) = Default::default();
        Ok(Self { method_name, subject, batch, model, method, adapters, grads, loss, parts, total })
    }

    fn forward(&mut self, b: &B, work: &mut Work<B, S>) -> Result<(), BenchError> {
        self.model.load(b, work, self.subject.samples(), &self.batch)?;
        self.model.forward(b, work, Some(&self.adapters));
        Ok(())
    }

    fn backward(&mut self, b: &B, work: &mut Work<B, S>) {
        self.model.loss(b, work, &mut self.loss, 0);
        self.model.backward(b, work, &mut Wanted::Adapters(&self.adapters, &mut self.grads));
    }

    fn optimizer(&mut self, b: &B) -> Result<(), BenchError> {
        Ok(self.method.step(b, &mut self.adapters, &mut self.grads, 0.01)?)
    }

    /// A step, its parts timed one by one.
    fn phases(&mut self, b: &B, work: &mut Work<B, S>) -> Result<[Sample; 3], BenchError> {
        let forward = b.timed(&mut || self.forward(b, work))?;
        let backward = b.timed(&mut || {
            self.backward(b, work);
            Ok(())
        })?;
        Ok([forward, backward, b.timed(&mut || self.optimizer(b))?])
    }

    /// Seconds of a step as it runs in earnest: the host goes on to the next while the device computes.
    fn queued(&mut self, b: &B, work: &mut Work<B, S>) -> Result<f64, BenchError> {
        b.settle()?;
        let start = Instant::now();
        for _ in 0..QUEUED {
            self.forward(b, work)?;
            self.backward(b, work);
            self.optimizer(b)?;
        }
        b.settle()?;
        Ok(start.elapsed().as_secs_f64() / QUEUED as f64)
    }

    fn figure(&self, b: &B) -> Figure {
        let [forward_ms, backward_ms, optimizer_ms] = self.parts.each_ref().map(|t| t.median() * 1e3);
        let phases = Some(Phases { forward_ms, backward_ms, optimizer_ms });
        let linears = self.model.sites().len();
        let step = Some(StepSetting { batch: S::BATCH, tokens: S::TOKENS, linears, rank: RANK, memory: S::MEMORY });
        Figure { phases, step, ..figure(b, &name::<S>(self.method_name), &self.total, None) }
    }
}
