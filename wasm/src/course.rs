//! How a training is watched, held and stopped, and where its states go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use eblora_core::train::state::SaveError;
use eblora_core::train::{Checkpoints, Moment, Observer, Pause, Progress, RunState};
use futures_channel::oneshot::{Receiver, Sender, channel};
use js_sys::{Function, Promise};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::device::Device;

/// Work between two turns of the event loop, in milliseconds: short enough for every message to be answered at once.
const TURN: f64 = 12.0;
/// Submissions that a device may have to do at a time: one more than it is at, so that it never waits.
const IN_FLIGHT: usize = 2;

/// Milliseconds of the machine's clock.
pub fn now() -> f64 {
    js_sys::Date::now()
}

/// Gives the worker's event loop its turn.
pub async fn tick(tick: &Function) {
    if let Ok(promise) = tick.call0(&JsValue::UNDEFINED)
        && let Ok(promise) = promise.dyn_into::<Promise>()
    {
        // It resolves with nothing.
        let _ = JsFuture::from(promise).await;
    }
}

/// Those who wait for something.
#[derive(Debug, Default)]
pub struct Waiting(RefCell<Vec<Sender<()>>>);

impl Waiting {
    /// Waits for the next [`wake`](Self::wake).
    pub fn wait(&self) -> Receiver<()> {
        let (tell, told) = channel();
        self.0.borrow_mut().push(tell);
        told
    }

    /// Whether anyone waits.
    pub fn any(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// Lets all go on.
    pub fn wake(&self) {
        for waiting in self.0.take() {
            // Whoever waited may have gone.
            let _ = waiting.send(());
        }
    }
}

/// The course of a learner's training: what is asked of it, and where it is.
#[derive(Debug, Default)]
pub struct Course {
    /// Whether it trains.
    pub running: Cell<bool>,
    /// Whether it is to stop.
    pub stop: Cell<bool>,
    /// Whether it is to be held.
    pub paused: Cell<bool>,
    /// Whether it is held.
    held: Cell<bool>,
    /// Whether it takes steps, and what is saved is older than the last.
    stepping: Cell<bool>,
    saved: Cell<bool>,
    /// The last state saved.
    pub state: RefCell<Option<RunState<f32>>>,
    /// Those who want a state of this step.
    state_wanted: Waiting,
    resumed: Waiting,
    /// Those who want to know that it is held, or has ended.
    pub rest: Waiting,
}

impl Course {
    /// Holds it from the next step or batch on; resolves when that is so.
    pub async fn pause(&self) {
        if !self.running.get() {
            return;
        }
        self.paused.set(true);
        if !self.held.get() {
            // A training that has ended rests too.
            let _ = self.rest.wait().await;
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.paused.set(false);
        self.resumed.wake();
    }

    /// Has it stop at the next step or batch; resolves when it has.
    pub async fn stop(&self) {
        self.stop.set(true);
        self.resume();
        while self.running.get() {
            let _ = self.rest.wait().await;
        }
    }

    /// Waits until [`Course::state`] is that of the last step.
    pub async fn settle(&self) {
        if self.running.get() && self.stepping.get() && !self.held.get() {
            let _ = self.state_wanted.wait().await;
        }
    }

    /// It begins.
    pub fn begin(&self) {
        self.running.set(true);
        self.stop.set(false);
        self.stepping.set(false);
        self.saved.set(false);
    }

    /// It has ended, however.
    pub fn end(&self) {
        self.running.set(false);
        self.stepping.set(false);
        self.held.set(false);
        self.paused.set(false);
        self.state_wanted.wake();
        self.rest.wake();
    }

    /// Stays here while it is to be held.
    async fn hold(&self) {
        while self.paused.get() {
            self.held.set(true);
            self.rest.wake();
            let _ = self.resumed.wait().await;
        }
        self.held.set(false);
    }
}

/// Keeps the states of a course.
pub struct Keeper(pub Rc<Course>);

impl Checkpoints<f32> for Keeper {
    fn save(&mut self, state: &RunState<f32>) -> Result<(), SaveError> {
        *self.0.state.borrow_mut() = Some(state.clone());
        self.0.saved.set(true);
        self.0.state_wanted.wake();
        Ok(())
    }

    fn stop(&mut self) -> bool {
        self.0.stop.get()
    }

    fn wants(&mut self) -> bool {
        self.0.paused.get() || self.0.state_wanted.any()
    }
}

/// Singular values of a layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerSpectrum<'a> {
    name: &'a str,
    values: &'a [f64],
}

/// What JavaScript is told.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Told<'a> {
    /// It is being measured.
    Evaluating { task: Option<u32>, done: usize, total: usize },
    /// A task began.
    Task { task: u32 },
    /// Its gradient is being taken.
    Gradient { task: u32 },
    /// Steps were taken.
    #[serde(rename_all = "camelCase")]
    Step { task: u32, step: usize, steps: usize, loss: f64, steps_per_second: f64 },
    /// Spectra of the task's update.
    Spectrum { task: u32, step: usize, layers: Vec<LayerSpectrum<'a>> },
    /// A task is learnt, and all are measured.
    Learnt { task: u32, accuracy: &'a [f64] },
    /// Something to know.
    Warning { text: &'a str },
}

/// Watches a training for JavaScript.
pub struct Watcher {
    course: Rc<Course>,
    device: Device,
    tick: Function,
    progress: Option<Function>,
    /// The tasks' numbers in the session.
    tasks: Vec<u32>,
    layers: Vec<String>,
    last_turn: f64,
    in_flight: VecDeque<Pin<Box<dyn Future<Output = ()>>>>,
    /// When which step was told last.
    last_step: Option<(usize, f64)>,
    held_for: Rc<Cell<f64>>,
}

impl Watcher {
    /// Watches this course; time for which it is held is added to `held_for`.
    pub fn new(
        course: Rc<Course>,
        device: Device,
        tick: Function,
        progress: Option<Function>,
        tasks: Vec<u32>,
        layers: Vec<String>,
        held_for: Rc<Cell<f64>>,
    ) -> Self {
        let (last_turn, in_flight) = (now(), VecDeque::new());
        Self { course, device, tick, progress, tasks, layers, last_turn, in_flight, last_step: None, held_for }
    }

    /// Watches only to give the event loop its turn.
    pub fn quiet(course: Rc<Course>, device: Device, tick: Function) -> Self {
        Self::new(course, device, tick, None, Vec::new(), Vec::new(), Rc::default())
    }

    fn id(&self, task: usize) -> u32 {
        self.tasks.get(task).copied().unwrap_or_default()
    }

    fn tell(&self, told: &Told<'_>) {
        if let Some(progress) = &self.progress
            && let Ok(json) = serde_json::to_string(told)
        {
            // What the listener throws is its own affair.
            let _ = progress.call1(&JsValue::UNDEFINED, &json.into());
        }
    }

    fn step(&mut self, task: usize, step: usize, steps: usize, loss: f64) {
        let time = now() - self.held_for.get();
        let steps_per_second = match self.last_step {
            Some((before, at)) if step > before && time > at => 1000.0 * (step - before) as f64 / (time - at),
            _ => 0.0,
        };
        // Of steps that come in the same millisecond, the first counts on.
        if self.last_step.is_none_or(|(before, at)| step < before || time > at) {
            self.last_step = Some((step, time));
        }
        self.tell(&Told::Step { task: self.id(task), step, steps, loss, steps_per_second });
    }
}

impl Observer for Watcher {
    fn progress(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Evaluating { task, done, total } => {
                self.course.stepping.set(false);
                self.tell(&Told::Evaluating { task: task.map(|task| self.id(task)), done, total });
            }
            Progress::Task { task } => {
                self.course.stepping.set(false);
                self.last_step = None;
                self.tell(&Told::Task { task: self.id(task) });
            }
            Progress::Gradient { task } => self.tell(&Told::Gradient { task: self.id(task) }),
            Progress::Step { task, step, steps, loss } => self.step(task, step, steps, loss),
            Progress::Spectra { task, step, spectra } => {
                let name = |site: usize| self.layers.get(site).map_or("", String::as_str);
                let layers = spectra.iter().map(|s| LayerSpectrum { name: name(s.site), values: &s.sigma }).collect();
                self.tell(&Told::Spectrum { task: self.id(task), step, layers });
            }
            Progress::Learnt { task, accuracy } => self.tell(&Told::Learnt { task: self.id(task), accuracy }),
            Progress::Warning(text) => self.tell(&Told::Warning { text }),
            Progress::Resumed { .. } => {}
        }
    }

    fn pause(&mut self, moment: Moment) -> Option<Pause<'_>> {
        // In its steps it can be held only where its state is known.
        let holds = match moment {
            Moment::Step => {
                self.course.stepping.set(true);
                self.course.saved.replace(false)
            }
            Moment::Batch => !self.course.stepping.get(),
        };
        let holds = holds && self.course.paused.get();
        if let Device::Gpu(gpu) = self.device {
            self.in_flight.push_back(Box::pin(gpu.submitted()));
        }
        let late = now() - self.last_turn >= TURN;
        if !holds && !late && self.in_flight.len() < IN_FLIGHT {
            return None;
        }
        Some(Box::pin(async move {
            while self.in_flight.len() >= IN_FLIGHT
                && let Some(submission) = self.in_flight.pop_front()
            {
                submission.await;
            }
            tick(&self.tick).await;
            if holds {
                let since = now();
                self.course.hold().await;
                self.held_for.set(self.held_for.get() + now() - since);
            }
            self.last_turn = now();
        }))
    }
}
