//! Everything that crosses the border to JavaScript. Plain data goes over as JSON, bytes as they are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use eblora::core::backend::Backend as _;
use eblora::data::images::read_image;
use eblora::formats::files::Files;
use js_sys::{Array, Function, Reflect, Uint8Array};
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::base::Base;
use crate::bench;
use crate::course::Watcher;
use crate::device::{self, Device, DeviceInfo};
use crate::error::{Result, WebError};
use crate::learner::{Learner, Measured, Options};
use crate::results::Results;
use crate::tasks::{self, Drawing, SessionTask};
use crate::{adapters, saved};

/// Bundled tasks.
const BUNDLED: usize = eblora::data::mix::NAMES.len();

/// A worker's session: a device, a base, tasks, learners.
#[wasm_bindgen]
pub struct Session {
    device: Device,
    info: DeviceInfo,
    /// Gives the event loop its turn: returns a promise.
    turn: Function,
    base: RefCell<Option<Base>>,
    tasks: RefCell<Vec<Rc<SessionTask>>>,
    learners: RefCell<BTreeMap<u32, Rc<Learner>>>,
    next: Cell<u32>,
}

fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Files out of an array of `{name, bytes}`.
fn files(array: &Array) -> Result<Files> {
    let mut files = Vec::with_capacity(array.length() as usize);
    for item in array.iter() {
        files.push(file(&item)?);
    }
    Ok(Files::new(files))
}

fn file(item: &JsValue) -> Result<(String, Vec<u8>)> {
    let strange = || WebError::input("a file is expected: an object with a name and its bytes");
    let name = Reflect::get(item, &"name".into()).ok().and_then(|name| name.as_string()).ok_or_else(strange)?;
    let bytes = Reflect::get(item, &"bytes".into()).ok().and_then(|bytes| bytes.dyn_into::<Uint8Array>().ok());
    Ok((name, bytes.ok_or_else(strange)?.to_vec()))
}

/// An array of `{name, bytes}`.
fn array(files: Vec<(String, Vec<u8>)>) -> Array {
    let item = |(name, bytes): (String, Vec<u8>)| {
        let item = js_sys::Object::new();
        // A new object takes any property.
        let _ = Reflect::set(&item, &"name".into(), &name.into());
        let _ = Reflect::set(&item, &"bytes".into(), &Uint8Array::from(bytes.as_slice()));
        item
    };
    files.into_iter().map(item).collect()
}

impl Session {
    fn base_now(&self) -> Result<Base> {
        self.base.borrow().clone().ok_or_else(|| WebError::input("there is no base model yet"))
    }

    fn learner(&self, id: u32) -> Result<Rc<Learner>> {
        self.learners.borrow().get(&id).cloned().ok_or_else(|| WebError::input("this learner is gone"))
    }

    fn keep(&self, learner: Learner) -> u32 {
        let id = self.next.replace(self.next.get() + 1);
        self.learners.borrow_mut().insert(id, Rc::new(learner));
        id
    }

    fn free_name(&self, name: &str) -> Result<()> {
        if name.trim().is_empty() {
            return Err(WebError::input("a task needs a name"));
        }
        match self.tasks.borrow().iter().any(|task| task.task.name == name) {
            true => Err(WebError::input(format!("there is a task {name} already; choose another name"))),
            false => Ok(()),
        }
    }

    /// Adds a task that `make` makes with the base; both are as they were where it fails.
    fn add(
        &self,
        make: impl FnOnce(&mut Base) -> Result<(eblora::data::mix::Task, Vec<String>)>,
    ) -> Result<Rc<SessionTask>> {
        let mut base = self.base_now()?;
        let (task, warnings) = make(&mut base)?;
        *self.base.borrow_mut() = Some(base);
        let mut tasks = self.tasks.borrow_mut();
        let task = Rc::new(SessionTask::new(tasks.len() as u32, task, warnings));
        tasks.push(Rc::clone(&task));
        Ok(task)
    }

    /// Destroys the device buffers that nobody uses: those of another number of protected directions fit nobody.
    fn trim(&self) {
        if let Device::Gpu(gpu) = self.device {
            gpu.trim();
        }
    }

    fn named(&self, ids: &[u32]) -> Result<Vec<Rc<SessionTask>>> {
        let tasks = self.tasks.borrow();
        let find = |id: &u32| tasks.get(*id as usize).cloned().ok_or_else(|| WebError::input(format!("no task {id}")));
        ids.iter().map(find).collect()
    }
}

#[wasm_bindgen]
impl Session {
    /// Opens a device: `auto`, `webgpu` or `cpu`. `turn` returns a promise that the event loop resolves.
    pub async fn open(device: String, turn: Function) -> core::result::Result<Session, JsValue> {
        let (device, info) = device::open(&device).await?;
        Ok(Self {
            device,
            info,
            turn,
            base: RefCell::default(),
            tasks: RefCell::default(),
            learners: RefCell::default(),
            next: Cell::default(),
        })
    }

    /// What the device is.
    pub fn device(&self) -> core::result::Result<String, JsValue> {
        Ok(json(&self.info)?)
    }

    /// The version of eblora.
    pub fn version() -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    /// Resolves with the message once the device is lost.
    pub async fn lost(&self) -> String {
        match self.device {
            Device::Gpu(gpu) => gpu.lost().await,
            Device::Cpu(_) => std::future::pending().await,
        }
    }

    /// Takes the device away.
    #[wasm_bindgen(js_name = loseDevice)]
    pub fn lose_device(&self) {
        if let Device::Gpu(gpu) = self.device {
            gpu.destroy();
        }
    }

    /// The base out of its files; once, before any task.
    pub fn base(&self, from: &Array, bundled: bool) -> core::result::Result<String, JsValue> {
        if self.base.borrow().is_some() {
            return Err(WebError::input("there is a base model already; open another session for another one").into());
        }
        let base = Base::read(&files(from)?, bundled)?;
        let info = json(&base.info())?;
        *self.base.borrow_mut() = Some(base);
        Ok(info)
    }

    /// The assets that the first `count` bundled tasks still need, as paths below the assets.
    #[wasm_bindgen(js_name = bundledFiles)]
    pub fn bundled_files(&self, count: usize) -> Vec<String> {
        let known = self.tasks.borrow();
        let known = |name: &str| known.iter().any(|task| task.task.name == name);
        tasks::bundled_files(count, known).into_iter().map(|file| format!("mix/{file}")).collect()
    }

    /// The first `count` bundled tasks, out of the assets that are not there yet.
    #[wasm_bindgen(js_name = bundledTasks)]
    pub fn bundled_tasks(&self, count: usize, from: &Array) -> core::result::Result<String, JsValue> {
        let files = files(from)?;
        let mut all = Vec::new();
        for (number, name) in eblora::data::mix::NAMES.iter().enumerate().take(count.min(BUNDLED)) {
            let known = self.tasks.borrow().iter().find(|task| task.task.name == *name).cloned();
            let task = match known {
                Some(known) => known,
                None => self.add(|base| {
                    let task = tasks::bundled(number, &files)?;
                    eblora::demo::DemoConfig::default().check([&task], &base.folder)?;
                    Ok((task, Vec::new()))
                })?,
            };
            all.push(task.info(&self.base_now()?));
        }
        Ok(json(&all)?)
    }

    /// A task out of a reader's files.
    #[wasm_bindgen(js_name = addFiles)]
    pub fn add_files(&self, name: &str, from: &Array) -> core::result::Result<String, JsValue> {
        self.free_name(name)?;
        let files = files(from)?;
        let task = self.add(|base| tasks::from_files(name, &files, base))?;
        Ok(json(&task.info(&self.base_now()?))?)
    }

    /// A task out of drawings: an array of `{label, pixels}`.
    #[wasm_bindgen(js_name = addDrawn)]
    pub fn add_drawn(&self, name: &str, examples: &Array) -> core::result::Result<String, JsValue> {
        self.free_name(name)?;
        let mut drawings = Vec::with_capacity(examples.length() as usize);
        for example in examples.iter() {
            let strange = || WebError::input("a drawing is expected: an object with a label and pixels");
            let label = Reflect::get(&example, &"label".into()).ok().and_then(|label| label.as_string());
            let pixels = Reflect::get(&example, &"pixels".into()).ok().and_then(|p| p.dyn_into::<Uint8Array>().ok());
            let (label, pixels) = label.zip(pixels).ok_or_else(strange)?;
            drawings.push(Drawing { label, pixels: pixels.to_vec() });
        }
        let task = self.add(|base| tasks::from_drawings(name, drawings, base))?;
        Ok(json(&task.info(&self.base_now()?))?)
    }

    /// All tasks.
    pub fn tasks(&self) -> core::result::Result<String, JsValue> {
        let tasks = self.tasks.borrow();
        let base = self.base.borrow();
        let all: Vec<_> = base.iter().flat_map(|base| tasks.iter().map(move |task| task.info(base))).collect();
        Ok(json(&all)?)
    }

    /// An image as the base takes it.
    pub fn image(&self, from: JsValue) -> core::result::Result<Vec<u8>, JsValue> {
        let (name, bytes) = file(&from)?;
        let shape = self.base_now()?.shape();
        let image = read_image(Files::new([(&name, bytes)]).at(&name), shape);
        Ok(image.map_err(WebError::from)?)
    }

    /// Live device buffers and their bytes, as the pool counts them.
    pub fn memory(&self) -> Vec<f64> {
        match self.device {
            Device::Cpu(_) => vec![0.0, 0.0],
            Device::Gpu(gpu) => {
                let counters = gpu.counters();
                vec![counters.live as f64, counters.bytes as f64]
            }
        }
    }

    /// A figure of the device.
    pub async fn bench(&self, what: String, size: Option<usize>) -> core::result::Result<String, JsValue> {
        let base = self.base.borrow().clone();
        let figure = bench::measure(self.device, base.as_ref(), &what, size).await?;
        self.trim();
        Ok(json(&figure)?)
    }

    /// A learner with these options; its number.
    #[wasm_bindgen(js_name = learner)]
    pub fn new_learner(&self, options: &str) -> core::result::Result<u32, JsValue> {
        let options: Options = serde_json::from_str(options).map_err(|e| WebError::input(format!("options: {e}")))?;
        Ok(self.keep(Learner::new(options, &self.base_now()?)?))
    }

    /// A learner that was saved; its number.
    pub fn restore(&self, bytes: &[u8]) -> core::result::Result<u32, JsValue> {
        Ok(self.keep(saved::restore(bytes, &self.base_now()?, &self.tasks.borrow())?))
    }

    /// A learner's options.
    pub fn options(&self, learner: u32) -> core::result::Result<String, JsValue> {
        Ok(json(&self.learner(learner)?.options)?)
    }

    /// Trains tasks; `progress` is called with JSON.
    pub async fn train(
        &self,
        learner: u32,
        ids: Vec<u32>,
        progress: Option<Function>,
    ) -> core::result::Result<String, JsValue> {
        let (learner, tasks) = (self.learner(learner)?, self.named(&ids)?);
        let base = self.base_now()?;
        let ended = learner.train(self.device, &base, tasks, self.turn.clone(), progress).await;
        self.trim();
        ended?;
        Ok(json(&Results::of(&learner, &base))?)
    }

    /// Holds a training.
    pub async fn pause(&self, learner: u32) -> core::result::Result<(), JsValue> {
        let learner = self.learner(learner)?;
        learner.course.pause().await;
        Ok(())
    }

    /// Lets it go on.
    pub fn resume(&self, learner: u32) -> core::result::Result<(), JsValue> {
        self.learner(learner)?.course.resume();
        Ok(())
    }

    /// Ends it, its state kept.
    pub async fn stop(&self, learner: u32) -> core::result::Result<(), JsValue> {
        let learner = self.learner(learner)?;
        learner.course.stop().await;
        Ok(())
    }

    /// What a learner has measured.
    pub fn results(&self, learner: u32) -> core::result::Result<String, JsValue> {
        Ok(json(&Results::of(&*self.learner(learner)?, &self.base_now()?))?)
    }

    /// What it says of an image.
    pub async fn predict(&self, learner: u32, pixels: Vec<u8>) -> core::result::Result<String, JsValue> {
        let learner = self.learner(learner)?;
        let answers = learner.predict(self.device, &self.base_now()?, pixels).await?;
        Ok(json(&answers)?)
    }

    /// Its adapters as files.
    #[wasm_bindgen(js_name = exportAdapters)]
    pub fn export_adapters(&self, learner: u32) -> core::result::Result<Array, JsValue> {
        Ok(array(adapters::export(&*self.learner(learner)?, &self.base_now()?)?))
    }

    /// Makes it the base with adapters out of files, and measures all tasks.
    #[wasm_bindgen(js_name = importAdapters)]
    pub async fn import_adapters(&self, learner: u32, from: Array) -> core::result::Result<String, JsValue> {
        let (learner, base) = (self.learner(learner)?, self.base_now()?);
        learner.idle()?;
        let imported = adapters::read(&files(&from)?, &base)?;
        let tasks = self.tasks.borrow().clone();
        learner.import(imported);
        learner.course.begin();
        let mut watcher = Watcher::quiet(learner.course.clone(), self.device, self.turn.clone());
        let measured = learner.measure(self.device, &base, &tasks, &mut watcher).await;
        learner.course.end();
        let names = tasks.iter().map(|task| task.task.name.clone()).collect();
        *learner.measured.borrow_mut() = Measured { tasks: names, accuracy: measured? };
        Ok(json(&Results::of(&learner, &base))?)
    }

    /// Its state as bytes.
    pub async fn save(&self, learner: u32) -> core::result::Result<Vec<u8>, JsValue> {
        let (learner, base) = (self.learner(learner)?, self.base_now()?);
        Ok(saved::save(&learner, &base, &self.info.name).await?)
    }

    /// Forgets it; what it had on the device is destroyed.
    pub async fn free(&self, learner: u32) -> core::result::Result<(), JsValue> {
        let learner = self.learners.borrow_mut().remove(&learner);
        if let Some(learner) = learner {
            learner.course.stop().await;
            learner.forget_predictor();
        }
        self.trim();
        Ok(())
    }
}
