//! From a config to what the run is about: every file is read and checked here, before anything is trained.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use eblora_core::model::bert::{EncoderOptions, Padding};
use eblora_core::model::llama::Window;
use eblora_core::model::vit::ImageSet;
use eblora_core::model::{ModelError, Targets};

use super::RunError;
use super::prompts::Prompts;
use super::subject::{BertSubject, LlamaSubject, Named, VitSubject, llama};
use super::texts::{Texts, label_names};
use crate::Error;
use crate::config::{RunConfig, TaskConfig};
use crate::data::images::folder::read_image_folder;
use crate::data::images::listed::{ImageFields, read_listed_images};
use crate::data::images::pair::{read_image_idx, read_image_npy};
use crate::data::images::{ImageExamples, ImageShape};
use crate::data::labels::{LabelSpace, check_training_classes};
use crate::data::place::Place;
use crate::data::{bundled, mix};
use crate::demo::Split;
use crate::device::Device;
use crate::hub;
use crate::model::Family;
use crate::model::bert_folder::BertFolder;
use crate::model::vit_folder::VitFolder;

/// What a config's run is about, whatever the model is.
#[derive(Clone, Debug)]
pub enum AnySubject {
    /// Images.
    Vit(Box<VitSubject<'static>>),
    /// Texts.
    Bert(Box<BertSubject>),
    /// Prompts.
    Llama(Box<LlamaSubject>),
}

/// A config's run, ready to train.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Model and tasks.
    pub subject: AnySubject,
    /// The label space that all tasks share; empty for language models.
    pub labels: Vec<String>,
    /// The answers that each task's model chooses among; a task without any is answered by decoding.
    pub choices: BTreeMap<String, Vec<String>>,
    /// What the user should know: texts that were cut.
    pub notes: Vec<String>,
}

/// Reads model and data of a config.
///
/// # Errors
/// The first thing that is wrong in any file, with file, line and column where it has some.
pub fn load(config: &RunConfig) -> Result<Loaded, Error> {
    let base = &hub::locate(&config.model.base)?;
    let family = family(config, base)?;
    if config.model.gradient_checkpointing && family != Family::Llama {
        let what = "`model.gradient_checkpointing` is for a Llama alone; leave it out".to_owned();
        return Err(RunError::Model { base: config.model.base.clone(), source: ModelError::Config { what } }.into());
    }
    match family {
        Family::Vit => vit(config, base),
        Family::Bert => bert(config, base),
        Family::Llama => decoder(config, base),
    }
}

/// What the base, which lies there, is: by the config, or by itself.
///
/// # Errors
/// When nobody says it.
pub fn family(config: &RunConfig, base: &Path) -> Result<Family, Error> {
    if let Some(family) = config.model.family {
        return Ok(family);
    }
    if base == Path::new(bundled::BASE) {
        return Ok(Family::Vit);
    }
    if base.is_file() {
        return Ok(Family::Llama); // GGUF
    }
    let file = base.join("config.json");
    let bytes = fs::read(&file).map_err(|source| RunError::Base { file: file.clone(), source })?;
    let json: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| RunError::Kind { file: file.clone(), reason: format!("not JSON: {e}") })?;
    match json.get("model_type").and_then(serde_json::Value::as_str) {
        Some("vit") => Ok(Family::Vit),
        Some("bert") => Ok(Family::Bert),
        Some("llama") => Ok(Family::Llama),
        Some(other) => Err(RunError::Kind { file, reason: format!("a model of type {other:?}") }.into()),
        None => Err(RunError::Kind { file, reason: "no `model_type`".to_owned() }.into()),
    }
}

/// The layers with adapters.
pub(super) fn targets(config: &RunConfig) -> Targets {
    Targets { names: config.model.targets.clone(), blocks: config.model.blocks.clone() }
}

/// A split of a task: its path, and that of its labels.
fn split<'a>(config: &RunConfig, task: &'a TaskConfig) -> Result<(&'a str, Option<&'a str>), Error> {
    match (config.train.split, &task.validation) {
        (Split::Test, _) => Ok((&task.test, task.test_labels.as_deref())),
        (Split::Validation, Some(path)) => Ok((path, task.validation_labels.as_deref())),
        (Split::Validation, None) => Err(RunError::NoValidation { task: task.name.clone() }.into()),
    }
}

/// Every method's rank must fit every layer.
fn check_ranks<'a>(
    config: &RunConfig,
    layers: impl Iterator<Item = (&'a str, usize, usize, usize)>,
) -> Result<(), Error> {
    let targets = targets(config);
    let layers: Vec<_> = layers.collect();
    let wrong = |source| RunError::Model { base: config.model.base.clone(), source };
    targets.check(layers.iter().map(|(name, block, ..)| (*name, *block))).map_err(wrong)?;
    for method in &config.methods {
        let tight =
            layers.iter().find(|(name, block, out, inp)| targets.has(name, *block) && method.rank() > *out.min(inp));
        if let Some((name, _, out, inp)) = tight {
            let (rank, most) = (method.rank(), out.min(inp));
            let what = format!(
                "rank {rank} of {} is more than `{name}` ({out}×{inp}) has; choose at most {most}",
                method.label()
            );
            return Err(wrong(ModelError::Config { what }).into());
        }
    }
    Ok(())
}

fn first<T>(mut examples: Vec<T>, most: Option<usize>) -> Vec<T> {
    examples.truncate(most.unwrap_or(usize::MAX));
    examples
}

/// The vision transformer in a folder, or the bundled one.
pub(super) fn vit_folder(base: &Path) -> Result<VitFolder, Error> {
    if base == Path::new(bundled::BASE) { bundled::base() } else { Ok(VitFolder::read(base)?) }
}

fn vit(config: &RunConfig, base: &Path) -> Result<Loaded, Error> {
    let folder = vit_folder(base)?;
    let named: Vec<_> = folder.adapted().map(|(layer, site, w)| (site.name(layer), layer, w.rows, w.cols)).collect();
    check_ranks(config, named.iter().map(|(name, block, out, inp)| (name.as_str(), *block, *out, *inp)))?;
    let space = LabelSpace::new(folder.config.labels.clone())?;
    let due = ImageShape::of(&crate::model::vit::config(&folder));
    let paths = config.tasks.iter().flat_map(|task| [Some(&task.train), Some(&task.test), task.validation.as_ref()]);
    // Unpacked once, if at all.
    let bundle = if paths.flatten().any(|path| mix::is_bundled(path)) { mix::tasks()? } else { Vec::new() };
    let mut tasks = Vec::with_capacity(config.tasks.len());
    for task in &config.tasks {
        let read = |(path, labels): (&str, Option<&str>), most: Option<usize>| -> Result<ImageSet, Error> {
            let set = match mix::named(&bundle, path)? {
                Some(set) => set.clone(),
                None => {
                    let examples = images(Path::new(path), labels.map(Path::new), &task.label, due)?;
                    relabelled(examples, task, &space, Path::new(path))?
                }
            };
            Ok(match most {
                Some(most) if most < set.len() => set.slice(0..most),
                _ => set,
            })
        };
        let train = read((&task.train, task.train_labels.as_deref()), config.train.train_samples)?;
        let test = read(split(config, task)?, config.train.test_samples)?;
        check_classes(&task.name, &train.labels, &test.labels, &space)?;
        tasks.push(Named { name: task.name.clone(), train: Cow::Owned(train), test: Cow::Owned(test) });
    }
    let labels = space.names().to_vec();
    Ok(Loaded {
        subject: AnySubject::Vit(Box::new(VitSubject::new(&folder, targets(config), tasks))),
        labels,
        choices: BTreeMap::new(),
        notes: Vec::new(),
    })
}

/// Images with labels, in whichever of the known ways they are kept.
fn images(path: &Path, labels: Option<&Path>, label: &str, due: ImageShape) -> Result<ImageExamples, Error> {
    if path.is_dir() {
        return Ok(read_image_folder(path, due)?);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".jsonl", ".ndjson", ".json", ".csv", ".tsv"]) {
        let fields = ImageFields { image: "image".to_owned(), label: label.to_owned() };
        return Ok(read_listed_images(path, &fields, due)?);
    }
    let labels = labels.ok_or_else(|| RunError::NoLabels { file: path.to_owned() })?;
    Ok(if ends(&[".npy"]) { read_image_npy(path, labels, due)? } else { read_image_idx(path, labels, due)? })
}

/// The images with labels of the model instead of class numbers. A number that is no name counts labels from 0.
fn relabelled(
    mut examples: ImageExamples,
    task: &TaskConfig,
    space: &LabelSpace,
    path: &Path,
) -> Result<ImageSet, Error> {
    for class in &mut examples.classes {
        let name = task.label_texts.get(class).unwrap_or(class);
        let counted = || space.names().get(name.parse::<usize>().ok()?);
        let known = space.names().contains(name);
        *class = if known { name } else { counted().unwrap_or(name) }.clone();
    }
    Ok(examples.into_space(space, &Place::file(path))?)
}

/// Every class that is measured must be trained.
fn check_classes(task: &str, train: &[u32], test: &[u32], space: &LabelSpace) -> Result<(), Error> {
    let names = |labels: &'_ [u32]| -> BTreeSet<&str> {
        labels.iter().filter_map(|&label| space.names().get(label as usize)).map(String::as_str).collect()
    };
    Ok(check_training_classes(task, names(test), names(train))?)
}

fn bert(config: &RunConfig, base: &Path) -> Result<Loaded, Error> {
    let folder = BertFolder::read(base)?;
    let layers = folder.weights.layers.iter().enumerate().flat_map(|(block, layer)| {
        layer.linears().map(|w| (w.name.as_str(), block, w.bias.len(), w.weight.stored().len() / w.bias.len().max(1)))
    });
    check_ranks(config, layers)?;
    let positions = folder.config.positions;
    if config.model.max_tokens > positions {
        let what = format!("texts of up to {} tokens: the model has {positions} positions", config.model.max_tokens);
        return Err(RunError::Model { base: config.model.base.clone(), source: ModelError::Config { what } }.into());
    }
    let mut texts = Texts::open(base, &config.model)?;
    let mut read = Vec::with_capacity(config.tasks.len());
    for task in &config.tasks {
        let train = first(Texts::read(task, Path::new(&task.train))?, config.train.train_samples);
        let test = first(Texts::read(task, Path::new(split(config, task)?.0))?, config.train.test_samples);
        read.push((train, test));
    }
    let names = label_names(&config.tasks, read.iter().map(|(train, _)| train.as_slice()));
    let space = LabelSpace::new(names.clone())?;
    let mut tasks = Vec::with_capacity(config.tasks.len());
    for (task, (train, test)) in config.tasks.iter().zip(&read) {
        let (train, test) = (texts.encode(train, &space)?, texts.encode(test, &space)?);
        check_classes(&task.name, train.labels(), test.labels(), &space)?;
        tasks.push(Named { name: task.name.clone(), train: Cow::Owned(train), test: Cow::Owned(test) });
    }
    let head = texts.head(&config.model, folder.config.hidden, &names)?;
    let notes = texts.notes();
    let subject = BertSubject::new(folder, encoder_options(config), head, config.model.temperature, tasks);
    Ok(Loaded { subject: AnySubject::Bert(Box::new(subject)), labels: names, choices: BTreeMap::new(), notes })
}

/// How an encoder is used on the config's device.
pub(super) fn encoder_options(config: &RunConfig) -> EncoderOptions {
    let cpu = config.device.parse::<Device>().is_ok_and(|device| device == Device::Cpu);
    EncoderOptions {
        max_tokens: config.model.max_tokens,
        // A GPU must not make anything anew for every batch.
        padding: if cpu { Padding::Longest } else { Padding::Fixed },
        targets: targets(config),
    }
}

fn decoder(config: &RunConfig, base: &Path) -> Result<Loaded, Error> {
    let folder = llama::read(base)?;
    let extents = &folder.config;
    let layers = folder.weights.blocks.iter().enumerate().flat_map(|(block, weights)| {
        let shaped = weights.linears().into_iter().zip(extents.linear_shapes());
        shaped.map(move |(w, (out, inp))| (w.name.as_str(), block, out, inp))
    });
    check_ranks(config, layers)?;
    let mut prompts = Prompts::open(base, &config.model)?;
    let mut all_choices = BTreeMap::new();
    let mut window = Window { tokens: 2, answer: 1 };
    let mut tasks = Vec::with_capacity(config.tasks.len());
    for task in &config.tasks {
        let train = first(Prompts::read(task, Path::new(&task.train))?, config.train.train_samples);
        let test = first(Prompts::read(task, Path::new(split(config, task)?.0))?, config.train.test_samples);
        let choices = Prompts::choices(task, &train);
        if let Some(choices) = &choices {
            all_choices.insert(task.name.clone(), choices.clone());
        }
        let (train, test) = (prompts.encode(&train, choices.as_deref())?, prompts.encode(&test, choices.as_deref())?);
        for set in [&train, &test] {
            let own = set.window();
            window = Window { tokens: window.tokens.max(own.tokens), answer: window.answer.max(own.answer) };
        }
        tasks.push(Named { name: task.name.clone(), train: Cow::Owned(train), test: Cow::Owned(test) });
    }
    if window.tokens > extents.positions {
        let what = format!("prompts of up to {} tokens: the model has {} positions", window.tokens, extents.positions);
        return Err(RunError::Model { base: config.model.base.clone(), source: ModelError::Config { what } }.into());
    }
    let subject = LlamaSubject::new(base, folder, window, targets(config), tasks)
        .checkpointing(config.model.gradient_checkpointing);
    Ok(Loaded {
        subject: AnySubject::Llama(Box::new(subject)),
        labels: Vec::new(),
        choices: all_choices,
        notes: prompts.notes(),
    })
}
