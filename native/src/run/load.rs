//! From a config to what the run is about: every file is read and checked here, before anything is trained.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use eblora_core::model::bert::{EncoderOptions, Padding};
use eblora_core::model::llama::Window;
use eblora_core::model::vit::ImageSet;
use eblora_core::model::{ModelError, Targets};
use eblora_core::train::Fact;

use super::RunError;
use super::prompts::Prompts;
use super::subject::{BertSubject, LlamaSubject, Named, Subject as _, VitSubject, llama};
use super::texts::{Texts, check_label_texts, label_names};
use crate::Error;
use crate::config::{RunConfig, TaskConfig};
use crate::data::DataError;
use crate::data::images::folder::read_image_folder;
use crate::data::images::listed::{ImageFields, label_place, read_listed_images};
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

impl AnySubject {
    /// What a run's states and results remember of model and data: the checksums of everything, so that it takes a while.
    pub(super) fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Vit(subject) => subject.facts(),
            Self::Bert(subject) => subject.facts(),
            Self::Llama(subject) => subject.facts(),
        }
    }
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
    if let Some((key, why)) = config.idle(family) {
        let samples = family.samples();
        let what = format!("`{key}` does nothing with a model of {samples}: {why}; leave it out");
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

fn first_images(set: ImageSet, most: Option<usize>) -> ImageSet {
    match most {
        Some(most) if most < set.len() => set.slice(0..most),
        _ => set,
    }
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
        check_label_texts(task)?;
        let read = |(path, labels): (&str, Option<&str>)| -> Result<Images, Error> {
            let at = || (Path::new(path).to_owned(), labels.map(PathBuf::from));
            Ok(match mix::named(&bundle, path)? {
                Some(set) => Images::Known(set.clone()),
                None => Images::Named(images(Path::new(path), labels.map(Path::new), &task.label, due)?, at()),
            })
        };
        let both = [read((&task.train, task.train_labels.as_deref()))?, read(split(config, task)?)?];
        let [all, test] = relabelled(both, task, &space)?;
        let name = |label: &u32| space.names().get(*label as usize).map_or("", String::as_str);
        let most = config.train.train_samples;
        check_shortened(task, most, all.labels.iter().map(name), test.labels.iter().map(name))?;
        let (train, test) = (first_images(all, most), first_images(test, config.train.test_samples));
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
    if is_listed(path) {
        let fields = ImageFields { image: "image".to_owned(), label: label.to_owned() };
        return Ok(read_listed_images(path, &fields, due)?);
    }
    // A path that is mistyped is not told off for its labels.
    fs::metadata(path).map_err(|source| DataError::Read { file: path.to_owned(), source })?;
    let labels = labels.ok_or_else(|| RunError::NoLabels { file: path.to_owned() })?;
    Ok(match ends(path, &[".npy"]) {
        true => read_image_npy(path, labels, due)?,
        false => read_image_idx(path, labels, due)?,
    })
}

/// Whether a file holds records that name images.
fn is_listed(path: &Path) -> bool {
    ends(path, &[".jsonl", ".ndjson", ".json", ".csv", ".tsv"])
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// Images as they were read.
enum Images {
    /// Bundled ones: their labels are the model's.
    Known(ImageSet),
    /// A user's, with the paths of images and labels.
    Named(ImageExamples, (PathBuf, Option<PathBuf>)),
}

impl Images {
    fn classes(&self) -> &[String] {
        match self {
            Self::Known(_) => &[],
            Self::Named(examples, _) => &examples.classes,
        }
    }

    /// Where a class stands first.
    fn place(&self, class: &str, label: &str) -> Place {
        let Self::Named(_, (images, labels)) = self else { return Place::file(Path::new(bundled::BASE)) };
        match labels {
            _ if images.is_dir() => Place::file(&images.join(class)),
            _ if is_listed(images) => label_place(images, label, class).unwrap_or_else(|| Place::file(images)),
            labels => Place::file(labels.as_ref().unwrap_or(images)),
        }
    }
}

/// The images with labels of the model instead of their own, which are all names of the model's labels, or else all
/// count them from 0. That is decided once for all files of a task: no number may be a name here and an index there.
/// What `label_texts` give a name of the model has that one anyway.
fn relabelled(both: [Images; 2], task: &TaskConfig, space: &LabelSpace) -> Result<[ImageSet; 2], Error> {
    let text = |class: &String| task.label_texts.get(class).unwrap_or(class).clone();
    let is_name = |class: &String| space.names().contains(&text(class));
    let counted = |class: &String| space.names().get(text(class).parse::<usize>().ok()?).cloned();
    let said = |class: &String| task.label_texts.contains_key(class) && is_name(class);
    let classes = || both.iter().flat_map(|images| images.classes().iter().map(move |class| (images, class)));
    let open: Vec<&String> = classes().map(|(_, class)| class).filter(|class| !said(class)).collect();
    let names = open.iter().filter(|class| is_name(class)).count();
    let by_index = names < open.len() && (names == 0 || open.iter().all(|class| counted(class).is_some()));

    let mut meanings = BTreeMap::<String, String>::new();
    for (images, class) in classes() {
        let meant = if by_index && !said(class) { counted(class) } else { None }.unwrap_or_else(|| text(class));
        if !space.names().contains(&meant) {
            space.index(&meant, &images.place(class, &task.label))?;
        }
        // Labels that the user gives one name are meant to be one.
        let same =
            meanings.iter().find(|(other, name)| **name == meant && *other != class && !(said(other) && said(class)));
        if let Some((first, _)) = same {
            let (task, first, second) = (task.name.clone(), first.clone(), class.clone());
            return Err(RunError::OneClass { task, first, second, class: meant }.into());
        }
        meanings.insert(class.clone(), meant);
    }
    let [train, test] = both.map(|images| match images {
        Images::Known(set) => Ok(set),
        Images::Named(mut examples, (path, _)) => {
            examples.classes.iter_mut().for_each(|class| *class = meanings[class].clone());
            examples.into_space(space, &Place::file(&path))
        }
    });
    Ok([train?, test?])
}

/// A class that is measured must not have its training samples only beyond those that are trained on.
fn check_shortened<'a>(
    task: &TaskConfig,
    most: Option<usize>,
    all: impl Iterator<Item = &'a str>,
    measured: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let Some(most) = most else { return Ok(()) };
    let all: Vec<&str> = all.collect();
    let (kept, left) = all.split_at(most.min(all.len()));
    let [kept, left] = [kept, left].map(|part| part.iter().copied().collect::<BTreeSet<_>>());
    match measured.into_iter().find(|label| !kept.contains(label) && left.contains(label)) {
        None => Ok(()),
        Some(label) => {
            let (task, label) = (task.name.clone(), format!("{label:?}"));
            Err(RunError::NotAmongFirst { task, most, label }.into())
        }
    }
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
        let what = format!(
            "`model.max_tokens` is {}, but the model has {positions} positions: set it to at most {positions}",
            config.model.max_tokens
        );
        return Err(RunError::Model { base: config.model.base.clone(), source: ModelError::Config { what } }.into());
    }
    let mut texts = Texts::open(base, &config.model, folder.config.vocabulary)?;
    let mut read = Vec::with_capacity(config.tasks.len());
    for task in &config.tasks {
        let (all, most) = (Texts::read(task, Path::new(&task.train))?, config.train.train_samples);
        let test = first(Texts::read(task, Path::new(split(config, task)?.0))?, config.train.test_samples);
        let [whole, measured] = [&all, &test].map(|part| part.iter().map(|example| example.label.as_str()));
        check_shortened(task, most, whole, measured)?;
        read.push((first(all, most), test));
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
    let mut prompts = Prompts::open(base, &config.model, extents.vocabulary)?;
    let mut all_choices = BTreeMap::new();
    let mut window = Window { tokens: 2, answer: 1 };
    let mut tasks = Vec::with_capacity(config.tasks.len());
    for task in &config.tasks {
        let all = Prompts::read(task, Path::new(&task.train))?;
        let test = first(Prompts::read(task, Path::new(split(config, task)?.0))?, config.train.test_samples);
        let answers: Vec<String> = all.iter().map(|example| example.answer.clone()).collect();
        let train = first(all, config.train.train_samples);
        let choices = Prompts::choices(task, &train)?;
        if let Some(choices) = &choices {
            let unknown = test.iter().map(|example| &example.answer).filter(|answer| !choices.contains(answer));
            let whole = answers.iter().map(String::as_str);
            check_shortened(task, config.train.train_samples, whole, unknown.map(String::as_str))?;
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
        let (longest, positions) = (window.tokens, extents.positions);
        let what = format!(
            "prompts of up to {longest} tokens with their answers, but the model has {positions} positions: set \
             `model.max_tokens` to at most {positions}"
        );
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The labels of two parts of a task with these classes, by a model with these labels.
    fn labels(space: &[&str], [train, test]: [&[&str]; 2], texts: Value) -> Result<[Vec<u32>; 2], String> {
        let task = json!({ "name": "t", "train": "a", "test": "b", "label_texts": texts });
        let part = |classes: &[&str], path: &str| {
            let labels = (0..).take(classes.len()).collect();
            let set = ImageSet { channels: 1, height: 1, width: 1, pixels: vec![0; classes.len()], labels };
            let classes = classes.iter().map(|&class| class.to_owned()).collect();
            Images::Named(ImageExamples { set, classes }, (PathBuf::from(path), Some(PathBuf::from("labels.npy"))))
        };
        let both = [part(train, "a.npy"), part(test, "b.npy")];
        let task = serde_json::from_value(task).unwrap();
        let space = LabelSpace::new(space.iter().copied()).unwrap();
        relabelled(both, &task, &space).map(|sets| sets.map(|set| set.labels)).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_all_names_or_all_indices() {
        let space = &["1", "2", "3"];
        assert_eq!(labels(space, [&["1", "2", "3"], &["3"]], json!({})).unwrap(), [vec![0, 1, 2], vec![2]]);
        assert_eq!(labels(space, [&["0", "1", "2"], &["1"]], json!({})).unwrap(), [vec![0, 1, 2], vec![1]]);
        // A part that would do as names alone is read as the other one must be.
        assert_eq!(labels(space, [&["1", "2"], &["0", "1"]], json!({})).unwrap(), [vec![1, 2], vec![0, 1]]);
        let animals = &["cat", "dog"];
        assert_eq!(labels(animals, [&["dog", "cat"], &["cat"]], json!({})).unwrap(), [vec![1, 0], vec![0]]);
        assert_eq!(labels(animals, [&["0", "1"], &["1"]], json!({ "0": "dog", "1": "cat" })).unwrap()[0], [1, 0]);
        assert_eq!(labels(animals, [&["a", "b"], &["a"]], json!({ "a": "dog", "b": "dog" })).unwrap()[0], [1, 1]);
    }

    #[test]
    fn labels_that_mean_nothing_or_the_same_are_told() {
        let told = |space: &[&str], train: &[&str], texts| labels(space, [train, train], texts).unwrap_err();
        let animals = &["cat", "dog"];
        assert_eq!(told(animals, &["cat", "0"], json!({})), "labels.npy: unknown label `0`; known are `cat`, `dog`");
        assert_eq!(told(animals, &["0", "7"], json!({})), "labels.npy: unknown label `7`; known are `cat`, `dog`");
        for (train, texts) in [(&["1", "01"], json!({})), (&["1", "x"], json!({ "x": "dog" }))] {
            let message = told(animals, train, texts);
            let due = format!("task t: the labels {:?} and {:?} both mean the class \"dog\"", train[0], train[1]);
            assert!(message.starts_with(&due), "{message}");
        }
    }

    #[test]
    fn a_class_that_is_cut_off_is_told() {
        let task = serde_json::from_value(json!({ "name": "t", "train": "a", "test": "b" })).unwrap();
        let check = |most, test: &[&'static str]| {
            check_shortened(&task, most, ["a", "b", "c"].into_iter(), test.iter().copied()).map_err(|e| e.to_string())
        };
        check(None, &["c"]).unwrap();
        check(Some(2), &["a", "b", "unheard"]).unwrap();
        let message = check(Some(2), &["a", "c"]).unwrap_err();
        assert!(message.starts_with("task t: the first 2 training samples (`train.train_samples`)"), "{message}");
        assert!(message.contains("none of the label \"c\""), "{message}");
    }
}
