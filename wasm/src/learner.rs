//! A method with what it has learnt so far, from the session's base.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use eblora::demo::{DemoConfig, Rates};
use eblora::device::Device as Computer;
use eblora::run::subject::vit::facts;
use eblora::run::{Answer, MethodConfig, MethodName};
use eblora_core::adapter::HostAdapters;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::model::vit::ImageSet;
use eblora_core::train::{RunState, TrainConfig, Trainer};
use eblora_gpu::{Gpu, Wanted};
use js_sys::Function;
use serde::{Deserialize, Serialize};

use crate::base::Base;
use crate::course::{Course, Keeper, Waiting, Watcher, now};
use crate::device::Device;
use crate::error::{Code, Result, WebError};
use crate::predict::Predictor;
use crate::tasks::SessionTask;

/// Spectra of a task that are recorded and told: enough for bars that move.
const SNAPSHOTS: usize = 24;

/// A learner's settings, under their names in JavaScript; what is not set is the native demo's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    pub method: MethodName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_step: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
}

impl Options {
    /// The settings as the native demo has them.
    pub fn demo(&self) -> DemoConfig {
        let default = DemoConfig::default();
        DemoConfig {
            methods: vec![self.method],
            rank: self.rank,
            steps: self.steps.unwrap_or(default.steps),
            batch: self.batch.unwrap_or(default.batch),
            seed: self.seed.unwrap_or(default.seed),
            epsilon: self.epsilon.unwrap_or(default.epsilon),
            budget: self.budget,
            rates: Rates { lora: self.rate, s: self.s_rate, relative_step: self.relative_step },
            test_images: self.test_images,
            threads: 1,
            ..default
        }
    }
}

/// Adapters of a task that were imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The task, or the adapter's folder.
    pub name: String,
    /// Its adapters.
    pub adapters: HostAdapters<f32>,
}

/// A predictor on either device.
enum AnyPredictor {
    Cpu(Box<Predictor<Cpu<f32>>>),
    Gpu(Box<Predictor<Gpu>>),
}

/// Accuracies that were measured without training.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The tasks' names.
    pub tasks: Vec<String>,
    /// Their accuracies, per cent.
    pub accuracy: Vec<f64>,
}

/// A learner.
pub struct Learner {
    /// Its settings.
    pub options: Options,
    /// Its training.
    pub course: Rc<Course>,
    /// The tasks of its state: those learnt, the one in its course, those to come.
    pub tasks: RefCell<Vec<Rc<SessionTask>>>,
    /// Where, among them, the last call to train began, and whether that was stopped.
    pub call: Cell<(usize, bool)>,
    /// What is merged into the base before anything is learnt.
    pub imported: RefCell<Vec<Imported>>,
    /// What was measured when that was imported.
    pub measured: RefCell<Measured>,
    /// Seconds of training, what it was held left out.
    pub seconds: Cell<f64>,
    predictor: RefCell<Option<AnyPredictor>>,
    /// Whether a prediction is under way: there is one workspace.
    predicting: Cell<bool>,
    answered: Waiting,
}

impl Learner {
    /// One that has learnt nothing.
    ///
    /// # Errors
    /// When a setting is out of its range, or does not suit the base.
    pub fn new(options: Options, base: &Base) -> Result<Self> {
        options.demo().check([], &base.folder)?;
        Ok(Self {
            options,
            course: Rc::default(),
            tasks: RefCell::default(),
            call: Cell::default(),
            imported: RefCell::default(),
            measured: RefCell::default(),
            seconds: Cell::default(),
            predictor: RefCell::default(),
            predicting: Cell::default(),
            answered: Waiting::default(),
        })
    }

    /// Its method with the settings.
    pub fn method(&self) -> MethodConfig {
        self.options.demo().method(self.options.method)
    }

    /// Refuses while it trains.
    ///
    /// # Errors
    /// When it trains.
    pub fn idle(&self) -> Result<()> {
        match self.course.running.get() {
            true => Err(WebError::new(Code::Busy, "this learner is training; stop it first")),
            false => Ok(()),
        }
    }

    /// The tasks after which `wanted` comes, and then `wanted`; a task in its course that is not the next is given up.
    fn plan(&self, wanted: Vec<Rc<SessionTask>>) -> Vec<Rc<SessionTask>> {
        let begins = |all: &[Rc<SessionTask>]| {
            !all.is_empty() && wanted.len() >= all.len() && all.iter().zip(&wanted).all(|(a, b)| a.id == b.id)
        };
        let tasks = self.tasks.borrow();
        let mut state = self.course.state.borrow_mut();
        let learnt = state.as_ref().map_or(0, |state| state.learnt.len()).min(tasks.len());
        let (from, stopped) = self.call.get();
        let mut kept = learnt;
        if stopped && from < tasks.len() && from <= learnt && begins(&tasks[from..]) {
            kept = from; // the same call again
        } else if let Some(state) = state.as_mut()
            && state.current.is_some()
            && !tasks.get(learnt).is_some_and(|current| wanted.first().is_some_and(|first| first.id == current.id))
        {
            state.current = None;
        }
        self.call.set((kept, false));
        tasks[..kept].iter().cloned().chain(wanted).collect()
    }

    /// Trains tasks, one after the other.
    ///
    /// # Errors
    /// When it trains already; when a task does not suit the base; when training fails. What was saved stays.
    pub async fn train(
        &self,
        device: Device,
        base: &Base,
        wanted: Vec<Rc<SessionTask>>,
        turn: Function,
        progress: Option<Function>,
    ) -> Result<()> {
        self.idle()?;
        if wanted.is_empty() {
            return Err(WebError::input("no task is named"));
        }
        self.options.demo().check(wanted.iter().map(|task| &task.task), &base.folder)?;
        let tasks = self.plan(wanted);
        *self.tasks.borrow_mut() = tasks.clone();
        self.course.begin();
        let held = Rc::new(Cell::new(0.0));
        let layers = base.sites().into_iter().map(|site| site.name).collect();
        let ids = tasks.iter().map(|task| task.id).collect();
        let mut watcher = Watcher::new(self.course.clone(), device, turn, progress, ids, layers, held.clone());
        let begun = now();
        let ended = match device {
            Device::Cpu(cpu) => self.train_on(cpu, base, &tasks, &mut watcher).await,
            Device::Gpu(gpu) => self.train_on(gpu, base, &tasks, &mut watcher).await,
        };
        self.seconds.set(self.seconds.get() + (now() - begun - held.get()) / 1000.0);
        self.call.set((self.call.get().0, self.course.stop.get()));
        self.course.end();
        ended
    }

    /// What is the same for every method, with what tells this run from others.
    fn config<'a>(
        &self,
        is_cpu: bool,
        base: &Base,
        tasks: impl Iterator<Item = eblora_core::train::Task<'a, ImageSet>>,
    ) -> TrainConfig {
        let mut demo = self.options.demo();
        if !is_cpu {
            demo.device = Computer::Gpu(Wanted::Best);
        }
        let mut train = TrainConfig { snapshots: SNAPSHOTS, report_every: 1, ..demo.train() };
        train.facts.extend(facts(base.checksum, tasks));
        train
    }

    async fn train_on<B: Backend<Scalar = f32> + 'static>(
        &self,
        backend: &B,
        base: &Base,
        tasks: &[Rc<SessionTask>],
        watcher: &mut Watcher,
    ) -> Result<()> {
        let method = self.method();
        let failed = |error| WebError::training(method.label(), &error);
        let measured: Vec<_> = tasks.iter().map(|task| task.measured(self.options.test_images)).collect();
        let views: Vec<_> = tasks.iter().zip(&measured).map(|(task, measured)| task.of(measured)).collect();
        let is_cpu = std::any::TypeId::of::<B>() == std::any::TypeId::of::<Cpu<f32>>();
        let config = self.config(is_cpu, base, views.iter().copied());
        let imported = self.imported.borrow().clone();
        let make = || base.model(backend, imported.iter().map(|imported| &imported.adapters));
        let mut trainer = Trainer::new(backend, config, make)?;
        let mut made = method.make::<B>();
        let state = self.course.state.borrow().clone();
        let state = state.map(|state| trainer.retask(made.as_ref(), &views, state)).transpose();
        let state = state.map_err(|error| failed(error.into()))?;
        *self.course.state.borrow_mut() = state.clone();
        let mut keeper = Keeper(self.course.clone());
        let ended = trainer.run_from(made.as_mut(), &views, state, watcher, &mut keeper).await;
        ended.map(drop).map_err(failed)
    }

    /// Accuracies of what it has imported, on these tasks.
    ///
    /// # Errors
    /// When something doesn't fit, or the device fails.
    pub async fn measure(
        &self,
        device: Device,
        base: &Base,
        tasks: &[Rc<SessionTask>],
        watcher: &mut Watcher,
    ) -> Result<Vec<f64>> {
        match device {
            Device::Cpu(cpu) => self.measure_on(cpu, base, tasks, watcher).await,
            Device::Gpu(gpu) => self.measure_on(gpu, base, tasks, watcher).await,
        }
    }

    async fn measure_on<B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        base: &Base,
        tasks: &[Rc<SessionTask>],
        watcher: &mut Watcher,
    ) -> Result<Vec<f64>> {
        let imported = self.imported.borrow().clone();
        let model = base.model(backend, imported.iter().map(|imported| &imported.adapters))?;
        let config = TrainConfig { batch: self.options.demo().batch, ..TrainConfig::default() };
        let mut trainer = Trainer::with_model(backend, config, model)?;
        let mut measured = Vec::with_capacity(tasks.len());
        for task in tasks {
            measured.push(trainer.measure(&task.measured(self.options.test_images), None, watcher).await?);
        }
        Ok(measured)
    }

    /// What it says of an image, in its state after the last step.
    ///
    /// # Errors
    /// When the image has another size, or the device fails.
    pub async fn predict(&self, device: Device, base: &Base, pixels: Vec<u8>) -> Result<Vec<Answer>> {
        let mut image = base.no_images();
        if pixels.len() != image.image_len() {
            let (found, due) = (pixels.len(), image.image_len());
            return Err(WebError::input(format!("an image of {found} bytes, where {due} are due")));
        }
        (image.pixels, image.labels) = (pixels, vec![0]);
        while self.predicting.get() {
            let _ = self.answered.wait().await;
        }
        self.predicting.set(true);
        let answers = self.answer(device, base, &image).await;
        self.predicting.set(false);
        self.answered.wake();
        answers
    }

    async fn answer(&self, device: Device, base: &Base, image: &ImageSet) -> Result<Vec<Answer>> {
        self.course.settle().await;
        let state: Option<RunState<f32>> = self.course.state.borrow().clone();
        let labels = &base.folder.config.labels;
        let known = self.predictor.take();
        let imported = self.imported.borrow().clone();
        let merged = || imported.iter().map(|imported| &imported.adapters);
        match device {
            Device::Cpu(cpu) => {
                let mut predictor = match known {
                    Some(AnyPredictor::Cpu(known)) if known.fits(base) => known,
                    _ => Box::new(Predictor::new(cpu, base, merged())?),
                };
                let answers = predictor.answers(cpu, state.as_ref(), image, labels).await;
                *self.predictor.borrow_mut() = Some(AnyPredictor::Cpu(predictor));
                answers
            }
            Device::Gpu(gpu) => {
                let mut predictor = match known {
                    Some(AnyPredictor::Gpu(known)) if known.fits(base) => known,
                    _ => Box::new(Predictor::new(gpu, base, merged())?),
                };
                let answers = predictor.answers(gpu, state.as_ref(), image, labels).await;
                *self.predictor.borrow_mut() = Some(AnyPredictor::Gpu(predictor));
                answers
            }
        }
    }

    /// Becomes the base with these adapters; what was learnt before is gone.
    pub fn import(&self, imported: Vec<Imported>) {
        self.course.state.take();
        self.tasks.take();
        self.call.take();
        self.measured.take();
        self.forget_predictor();
        *self.imported.borrow_mut() = imported;
    }

    /// Forgets the model that predicts: it is made anew from the state.
    pub fn forget_predictor(&self) {
        self.predictor.take();
    }
}
