//! One training step of the bundled vision transformer, with LoRA and with EBLoRA, which has a memory of [`MEMORY`]
//! directions a layer, as in the middle of a sequence.

use std::time::Instant;

use eblora_core::adapter::{AdapterGrads, Adapters};
use eblora_core::method::{Method, MethodError, TaskStart};
use eblora_core::model::vit::{Vit, VitConfig, VitWeights};
use eblora_core::model::{Model, Wanted};

use super::clock::{Clock, Sample, Times};
use super::{BenchConfig, BenchError, Figure, Phases, SEED, figure, gradients};
use crate::Error;
use crate::data::{bundled, mix};
use crate::demo::DemoConfig;
use crate::model::vit;
use crate::run::MethodName;

/// Directions of M that EBLoRA's step projects off.
pub const MEMORY: usize = 16;
/// Rank of the adapters, whatever the demo's default is.
pub const RANK: usize = 8;
const WARM_UP: usize = 10;
/// Steps between two waits, where steps are queued.
const QUEUED: usize = 10;
const METHODS: [MethodName; 2] = [MethodName::LoraFt, MethodName::Eblora];

fn name(method: MethodName) -> String {
    match method {
        MethodName::LoraFt => "vit_step/lora".to_owned(),
        other => format!("vit_step/{other}"),
    }
}

/// The names of these figures.
pub fn names() -> impl Iterator<Item = String> {
    METHODS.into_iter().map(name)
}

/// Model and data of the step.
pub struct Inputs {
    config: DemoConfig,
    extents: VitConfig,
    weights: VitWeights,
    tasks: Vec<mix::Task>,
}

impl Inputs {
    /// From the bundle.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read() -> Result<Self, Error> {
        let folder = bundled::base()?;
        let config = DemoConfig { rank: RANK, ..DemoConfig::default() };
        Ok(Self { config, extents: vit::config(&folder), weights: vit::weights(&folder), tasks: mix::tasks()? })
    }

    /// Images of a step.
    pub fn batch(&self) -> usize {
        self.config.batch
    }
}

/// The figures that are wanted.
pub fn measure<B: Clock + 'static>(b: &B, config: &BenchConfig, inputs: &Inputs) -> Result<Vec<Figure>, BenchError> {
    let wanted = METHODS.into_iter().filter(|&method| config.wants(&name(method)));
    let mut steps = wanted.map(|method| Step::new(b, method, inputs)).collect::<Result<Vec<_>, _>>()?;
    let (effort, start) = (config.effort(), Instant::now());
    for _ in 0..WARM_UP.min(config.repeats) {
        steps.iter_mut().try_for_each(|step| step.phases(b).map(drop))?;
    }
    let enough = |steps: &[Step<'_, B>]| steps.iter().all(|s| effort.suffices(s.total.runs(), start));
    // The methods take turns, so that a busy machine disturbs both alike.
    while !enough(&steps) {
        for step in &mut steps {
            let phases = step.phases(b)?;
            for (times, sample) in step.parts.iter_mut().zip(phases) {
                times.push(sample);
            }
            let total = if B::QUEUES { step.queued(b)? } else { phases.iter().map(|p| p.host).sum() };
            step.total.push(Sample { host: total, device: None });
        }
    }
    Ok(steps.iter().map(|step| step.figure(b)).collect())
}

/// One method's step on a model of its own.
struct Step<'a, B: Clock> {
    method_name: MethodName,
    inputs: &'a Inputs,
    batch: Vec<usize>,
    model: Vit<B>,
    work: <Vit<B> as Model<B>>::Workspace,
    method: Box<dyn Method<B>>,
    adapters: Adapters<B>,
    grads: AdapterGrads<B>,
    loss: B::Tensor,
    /// Of forward, backward and optimiser.
    parts: [Times; 3],
    total: Times,
}

impl<'a, B: Clock + 'static> Step<'a, B> {
    fn new(b: &B, method_name: MethodName, inputs: &'a Inputs) -> Result<Self, BenchError> {
        let model = Vit::new(b, &inputs.extents, &inputs.weights)?;
        // No threshold: each task's gradient goes into M whole.
        let mut method = DemoConfig { epsilon: 1.0, ..inputs.config.clone() }.method(method_name).make::<B>();
        let mut adapters = None;
        for task in 0..2 {
            let gradients = gradients(model.sites(), MEMORY, task)?;
            let (sites, blocks) = (model.sites(), model.blocks());
            let start = TaskStart { task, sites, blocks, gradients, previous: None, seed: SEED };
            adapters = Some(method.begin_task(b, start)?);
            if task == 0 {
                method.end_task(b)?;
            }
        }
        let Some(adapters) = adapters else { return Err(MethodError::Order("no task").into()) };
        let mut work = model.workspace(b, inputs.batch())?;
        model.attach(b, &mut work, &adapters)?;
        let (grads, loss) = (adapters.grads(b)?, b.zeros([1, 1, 1])?);
        let batch = (0..inputs.batch()).collect();
        let (parts, total) = Default::default();
        Ok(Self { method_name, inputs, batch, model, work, method, adapters, grads, loss, parts, total })
    }

    fn forward(&mut self, b: &B) -> Result<(), BenchError> {
        self.model.load(b, &mut self.work, &self.inputs.tasks[0].train, &self.batch)?;
        self.model.forward(b, &mut self.work, Some(&self.adapters));
        Ok(())
    }

    fn backward(&mut self, b: &B) {
        self.model.loss(b, &mut self.work, &mut self.loss, 0);
        self.model.backward(b, &mut self.work, &mut Wanted::Adapters(&self.adapters, &mut self.grads));
    }

    fn optimizer(&mut self, b: &B) -> Result<(), BenchError> {
        Ok(self.method.step(b, &mut self.adapters, &mut self.grads, 0.01)?)
    }

    /// A step, its parts timed one by one.
    fn phases(&mut self, b: &B) -> Result<[Sample; 3], BenchError> {
        let forward = b.timed(&mut || self.forward(b))?;
        let backward = b.timed(&mut || {
            self.backward(b);
            Ok(())
        })?;
        Ok([forward, backward, b.timed(&mut || self.optimizer(b))?])
    }

    /// Seconds of a step as it runs in earnest: the host goes on to the next while the device computes.
    fn queued(&mut self, b: &B) -> Result<f64, BenchError> {
        b.settle()?;
        let start = Instant::now();
        for _ in 0..QUEUED {
            self.forward(b)?;
            self.backward(b);
            self.optimizer(b)?;
        }
        b.settle()?;
        Ok(start.elapsed().as_secs_f64() / QUEUED as f64)
    }

    fn figure(&self, b: &B) -> Figure {
        let [forward_ms, backward_ms, optimizer_ms] = self.parts.each_ref().map(|t| t.median() * 1e3);
        let phases = Some(Phases { forward_ms, backward_ms, optimizer_ms });
        Figure { phases, ..figure(b, &name(self.method_name), &self.total, None) }
    }
}
