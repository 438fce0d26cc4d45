//! A run's model after a task: measured again, or asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eblora_core::backend::Backend;
use eblora_core::model::bert::{Bert, TextSet};
use eblora_core::model::llama::{Llama, Window};
use eblora_core::model::vit::{ImageSet, Vit};
use eblora_core::model::{Model, ModelError, Samples};
use eblora_core::train::{TrainConfig, Trainer};
use serde::{Deserialize, Serialize};

use super::folder::RunFolder;
use super::load::{AnySubject, encoder_options, family, targets, vit_folder};
use super::prompts::{Prompts, user};
use super::subject::{BertSubject, LlamaSubject, Subject, VitSubject, llama};
use super::texts::Texts;
use super::{Answer, Job, Loaded, RunError, on_device, ranked};
use crate::Error;
use crate::config::RunConfig;
use crate::data::images::{ImageShape, read_image};
use crate::data::prompts::Turn;
use crate::device::Device;
use crate::formats::atomic;
use crate::hub;
use crate::model::Family;
use crate::model::bert_folder::BertFolder;
use crate::model::chat::Role;
use crate::peft::{AdapterSet, PeftAdapter};

/// What names the answers of a run's models, beside its config: `labels.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The label space that all tasks share; empty for language models.
    pub labels: Vec<String>,
    /// The answers that a task's model chooses among; a task without any is answered by decoding.
    pub choices: BTreeMap<String, Vec<String>>,
}

impl Labels {
    /// The file's name in a run's folder.
    pub const FILE: &str = "labels.json";

    /// Of a run that was loaded.
    pub fn of(loaded: &Loaded) -> Self {
        Self { labels: loaded.labels.clone(), choices: loaded.choices.clone() }
    }

    /// Writes them into a run's folder.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        // Lists of texts always have a JSON.
        let json = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        Ok(atomic::write(&folder.join(Self::FILE), json.as_bytes())?)
    }

    fn shown(&self) -> String {
        let choices = self.choices.iter().map(|(task, choices)| format!("{task}: {}", choices.join(", ")));
        self.labels.iter().cloned().chain(choices).collect::<Vec<_>>().join(", ")
    }

    fn read(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(Self::FILE);
        let bytes = fs::read(&file).map_err(|source| RunError::Read { file: file.clone(), source })?;
        let parsed = serde_json::from_slice(&bytes);
        Ok(parsed.map_err(|e| RunError::Labels { file, reason: e.to_string() })?)
    }
}

/// The model of a run after a task.
#[derive(Clone, Debug)]
pub struct Learnt {
    folder: PathBuf,
    /// The run's config.
    pub config: RunConfig,
    labels: Labels,
    /// The task; its choices and its prompt are used.
    pub task: String,
    /// What was learnt up to it; `None`: the base alone.
    adapter: Option<PeftAdapter>,
}

impl Learnt {
    /// The model in a run's folder after `task`, by default the last one; of a run of several methods, that of `method`.
    /// With `base`, the base model alone.
    ///
    /// # Errors
    /// When something is not there, or it is not said which.
    pub fn open(folder: &Path, method: Option<&str>, task: Option<&str>, base: bool) -> Result<Self, Error> {
        let run = RunFolder::one_at(folder)?;
        let config = run.config()?;
        let known: Vec<_> = config.methods.iter().map(|method| method.label()).collect();
        let method = match (method, known.as_slice()) {
            (Some(wanted), known) if known.contains(&wanted) => wanted,
            (None, [only]) => only,
            (wanted, known) => {
                let (wanted, known) = (wanted.map(str::to_owned), known.join(", "));
                return Err(RunError::WhichMethod { folder: folder.to_owned(), wanted, known }.into());
            }
        };
        let set = AdapterSet::read(run.adapters(method))?;
        let index = set.position(task)?;
        let adapter = if base { None } else { Some(set.sum(index)?) };
        let task = set.tasks()[index].name.clone();
        Ok(Self { folder: folder.to_owned(), labels: Labels::read(folder)?, config, task, adapter })
    }

    /// Accuracies (%) on the tasks of the run, by name; of all, or of one.
    ///
    /// # Errors
    /// When the run's data or base can't be read, the adapter doesn't fit, or the device fails.
    pub fn measure(&self, only: Option<&str>) -> Result<Vec<(String, f64)>, Error> {
        let loaded = super::load(&self.config)?;
        let now = Labels::of(&loaded);
        if now != self.labels {
            let (folder, learnt, now) = (self.folder.clone(), self.labels.shown(), now.shown());
            return Err(RunError::OtherLabels { folder, learnt, now }.into());
        }
        match &loaded.subject {
            AnySubject::Vit(subject) => self.on_device(&Measure { learnt: self, subject: subject.as_ref(), only }),
            AnySubject::Bert(subject) => self.on_device(&Measure { learnt: self, subject: subject.as_ref(), only }),
            AnySubject::Llama(subject) => self.on_device(&Measure { learnt: self, subject: subject.as_ref(), only }),
        }
    }

    /// What the model says to each input, a text or the path of an image: its answers, the likeliest first.
    ///
    /// # Errors
    /// When an input can't be read or doesn't fit the model, or the device fails.
    pub fn ask(&self, inputs: &[String]) -> Result<Vec<Vec<Answer>>, Error> {
        self.on_device(&Ask { learnt: self, inputs })
    }

    fn on_device<J: Job + Sync>(&self, job: &J) -> Result<J::Output, Error> {
        let device: Device = self.config.device.parse().unwrap_or_default(); // checked when the config was read
        on_device(&device, self.config.threads(), job)
    }

    fn wrong(&self) -> impl Fn(ModelError) -> Error {
        let base = self.config.model.base.clone();
        move |source| RunError::Model { base: base.clone(), source }.into()
    }

    /// The base model with everything learnt merged into it.
    fn model<B: Backend<Scalar = f32>, S: Subject>(&self, backend: &B, subject: &S) -> Result<S::Model<B>, Error> {
        let wrong = self.wrong();
        let mut model = subject.model(backend).map_err(&wrong)?;
        if let Some(adapter) = &self.adapter {
            let adapters = adapter.to_host(model.sites())?;
            let sites = model.sites().len();
            let adapters = adapters.upload(backend, sites).map_err(|e| wrong(e.into()))?;
            model.merge(backend, &adapters).map_err(&wrong)?;
        }
        Ok(model)
    }
}

struct Measure<'a, S> {
    learnt: &'a Learnt,
    subject: &'a S,
    only: Option<&'a str>,
}

impl<S: Subject> Job for Measure<'_, S> {
    type Output = Vec<(String, f64)>;

    fn run<B: Backend<Scalar = f32> + 'static>(&self, backend: &B) -> Result<Self::Output, Error> {
        let Self { learnt, subject, only } = self;
        let tasks = subject.tasks();
        if let Some(only) = only.filter(|only| tasks.iter().all(|task| task.name != *only)) {
            let known: Vec<_> = tasks.iter().map(|task| task.name).collect();
            return Err(RunError::WhichTask { wanted: only.to_owned(), known: known.join(", ") }.into());
        }
        let model = learnt.model(backend, *subject)?;
        let config = TrainConfig { batch: learnt.config.train.batch, ..TrainConfig::default() };
        let mut trainer = Trainer::with_model(backend, config, model).map_err(learnt.wrong())?;
        let mut measured = Vec::new();
        for task in tasks.iter().filter(|task| only.is_none_or(|only| task.name == only)) {
            let accuracy = pollster::block_on(trainer.accuracy(task.test, None)).map_err(learnt.wrong())?;
            measured.push((task.name.to_owned(), accuracy));
        }
        Ok(measured)
    }
}

struct Ask<'a> {
    learnt: &'a Learnt,
    inputs: &'a [String],
}

impl Job for Ask<'_> {
    type Output = Vec<Vec<Answer>>;

    fn run<B: Backend<Scalar = f32> + 'static>(&self, backend: &B) -> Result<Self::Output, Error> {
        let config = &self.learnt.config;
        let base = &hub::locate(&config.model.base)?;
        match family(config, base)? {
            Family::Vit => {
                let folder = vit_folder(base)?;
                let due = ImageShape::of(&crate::model::vit::config(&folder));
                let mut set = ImageSet {
                    channels: folder.config.num_channels,
                    height: folder.config.image_size,
                    width: folder.config.image_size,
                    ..ImageSet::default()
                };
                for input in self.inputs {
                    set.pixels.extend(read_image(Path::new(input), due)?);
                    set.labels.push(0);
                }
                let subject = VitSubject::new(&folder, targets(config), Vec::new());
                let model: Vit<B> = self.learnt.model(backend, &subject)?;
                self.classes(backend, &model, &set)
            }
            Family::Bert => {
                let folder = BertFolder::read(base)?;
                let mut texts = Texts::open(base, &config.model, folder.config.vocabulary)?;
                let prefix = self.task().map_or("", |task| task.prefix.as_str());
                let mut set = TextSet::new();
                for (i, input) in self.inputs.iter().enumerate() {
                    let place = || format!("text {}", i + 1);
                    if input.trim().is_empty() {
                        return Err(RunError::NoText { place: place() }.into());
                    }
                    set.push(&texts.tokens(&format!("{prefix}{input}"), place)?, 0);
                }
                let head = texts.head(&config.model, folder.config.hidden, &self.learnt.labels.labels)?;
                let subject =
                    BertSubject::new(folder, encoder_options(config), head, config.model.temperature, Vec::new());
                let model: Bert<B> = self.learnt.model(backend, &subject)?;
                self.classes(backend, &model, &set)
            }
            Family::Llama => self.prompts(backend, base),
        }
    }
}

impl Ask<'_> {
    fn task(&self) -> Option<&crate::config::TaskConfig> {
        self.learnt.config.tasks.iter().find(|task| task.name == self.learnt.task)
    }

    fn classes<B, M>(&self, backend: &B, model: &M, samples: &M::Samples) -> Result<Vec<Vec<Answer>>, Error>
    where
        B: Backend<Scalar = f32>,
        M: Model<B>,
    {
        let wrong = self.learnt.wrong();
        let batch = self.learnt.config.train.batch.clamp(1, samples.len().max(1));
        let mut work = model.workspace(backend, batch).map_err(&wrong)?;
        let indices: Vec<usize> = (0..samples.len()).collect();
        let mut all = Vec::with_capacity(indices.len());
        for part in indices.chunks(batch) {
            model.load(backend, &mut work, samples, part).map_err(&wrong)?;
            model.forward(backend, &mut work, None);
            let logits = pollster::block_on(backend.read(model.logits(&work))).map_err(|e| wrong(e.into()))?;
            for row in logits.chunks(model.classes()).take(part.len()) {
                let scores: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                all.push(ranked(&scores, &self.learnt.labels.labels));
            }
        }
        Ok(all)
    }

    fn prompts<B: Backend<Scalar = f32> + 'static>(&self, backend: &B, base: &Path) -> Result<Vec<Vec<Answer>>, Error> {
        let (learnt, wrong) = (self.learnt, self.learnt.wrong());
        let config = &learnt.config;
        let folder = llama::read(base)?;
        let mut prompts = Prompts::open(base, &config.model, folder.config.vocabulary)?;
        let window = Window { tokens: config.model.max_tokens.min(folder.config.positions), answer: 1 };
        let subject = LlamaSubject::new(base, folder, window, targets(config), Vec::new());
        let model: Llama<B> = learnt.model(backend, &subject)?;
        let task = self.task();
        let choices = learnt.labels.choices.get(&learnt.task);
        let answers = match choices {
            Some(choices) => prompts.with_choices(choices)?.choices().map_or_else(Vec::new, |c| c.answers.clone()),
            None => Vec::new(),
        };
        let longest = answers.iter().map(Vec::len).max().unwrap_or(window.tokens / 4);
        let mut decoder = model.decoder(backend, window.tokens.min(32), window.tokens).map_err(&wrong)?;
        let mut all = Vec::with_capacity(self.inputs.len());
        for (i, input) in self.inputs.iter().enumerate() {
            let place = format!("prompt {}", i + 1);
            if input.trim().is_empty() {
                return Err(RunError::NoText { place }.into());
            }
            let turn = match task.and_then(|task| task.prompt.as_ref().zip(Some(&task.prefix))) {
                Some((prompt, prefix)) => user(prompt, prefix, input),
                None => Turn { role: Role::User, text: input.clone() },
            };
            let tokens = prompts.prompt(&[turn], longest, &place)?;
            all.push(match choices {
                Some(choices) => {
                    let found = model.likelihoods(backend, &mut decoder, None, &tokens, &answers);
                    let found = pollster::block_on(found).map_err(&wrong)?;
                    ranked(&found.iter().map(|likelihood| likelihood.sum).collect::<Vec<_>>(), choices)
                }
                None => {
                    let stop = prompts.stop();
                    let most = window.tokens - tokens.len();
                    let said = model.generate(backend, &mut decoder, None, &tokens, (most, &stop));
                    let said = pollster::block_on(said).map_err(&wrong)?;
                    vec![Answer { answer: prompts.text(&said)?, confidence: None }]
                }
            });
        }
        Ok(all)
    }
}
