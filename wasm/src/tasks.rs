//! The tasks of a session: out of bundled images, a reader's files, and drawings.

use std::borrow::Cow;

use eblora::data::bundled::Images;
use eblora::data::images::ImageExamples;
use eblora::data::mix::{self, Task};
use eblora::formats::files::Files;
use eblora_core::model::vit::ImageSet;
use eblora_core::train;
use serde::Serialize;

use crate::base::Base;
use crate::error::{Result, WebError};
use crate::split::{self, Read};

/// A task of a session.
#[derive(Clone, Debug)]
pub struct SessionTask {
    /// Its number.
    pub id: u32,
    /// Its images.
    pub task: Task,
    /// What a reader should know of it.
    warnings: Vec<String>,
}

/// What a reader should know of a task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskInfo {
    id: u32,
    name: String,
    train: usize,
    test: usize,
    labels: Vec<String>,
    warnings: Vec<String>,
}

/// A drawing with the name of its class.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Its class.
    pub label: String,
    /// As the base takes them.
    pub pixels: Vec<u8>,
}

impl SessionTask {
    /// A task under its number.
    pub fn new(id: u32, task: Task, warnings: Vec<String>) -> Self {
        Self { id, task, warnings }
    }

    /// What a reader should know of it.
    pub fn info(&self, base: &Base) -> TaskInfo {
        let mut used: Vec<u32> = self.task.train.labels.iter().chain(&self.task.test.labels).copied().collect();
        used.sort_unstable();
        used.dedup();
        let labels = &base.folder.config.labels;
        TaskInfo {
            id: self.id,
            name: self.task.name.clone(),
            train: self.task.train.len(),
            test: self.task.test.len(),
            labels: used.iter().filter_map(|&label| labels.get(label as usize).cloned()).collect(),
            warnings: self.warnings.clone(),
        }
    }

    /// For the trainer, measured on no more than so many images.
    pub fn measured(&self, most: Option<usize>) -> Cow<'_, ImageSet> {
        let all = &self.task.test;
        match most {
            Some(images) if images < all.len() => Cow::Owned(all.slice(0..images)),
            _ => Cow::Borrowed(all),
        }
    }

    /// For the trainer.
    pub fn of<'a>(&'a self, measured: &'a ImageSet) -> train::Task<'a, ImageSet> {
        train::Task { name: &self.task.name, train: &self.task.train, test: measured }
    }
}

/// The files, in the folder `mix` of the assets, that the first `count` bundled tasks need, beside those of which `known`
/// says that they are there.
pub fn bundled_files(count: usize, known: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut files: Vec<&str> = Vec::new();
    for (number, name) in mix::NAMES.iter().enumerate().take(count) {
        let images = mix::images_of(number).filter(|_| !known(name));
        for file in images.into_iter().flat_map(Images::files) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    files
}

/// The bundled task of this number out of the assets.
///
/// # Errors
/// When a file is not there, or damaged.
pub fn bundled(number: usize, files: &Files) -> Result<Task> {
    let images = mix::images_of(number).ok_or_else(|| WebError::input(format!("there is no bundled task {number}")))?;
    Ok(mix::make(number, &images.read(&files.at("mix"))?))
}

/// A task out of a reader's files. Classes that the base doesn't know are new ones; a number that is no name counts labels
/// from 0, as natively.
///
/// # Errors
/// When a file can't be read or used; nothing is changed then.
pub fn from_files(name: &str, files: &Files, base: &mut Base) -> Result<(Task, Vec<String>)> {
    let Read { train, test } = split::read(name, files, base.shape())?;
    let mut warnings = Vec::new();
    let (train, test) = match test {
        Some(test) => {
            let strange: Vec<_> = test.classes.iter().filter(|class| !train.classes.contains(class)).cloned().collect();
            if !strange.is_empty() {
                let expected = strange.iter().map(String::as_str);
                eblora::data::labels::check_training_classes(name, expected, train.classes.iter().map(String::as_str))?;
            }
            (train, test)
        }
        None => {
            let ImageExamples { set, classes } = train;
            let (train, test, few) = split::hold_out(&set, &classes);
            if !few.is_empty() {
                warnings.push(format!(
                    "fewer than five images of {}: they are measured on what they are trained on",
                    few.join(", ")
                ));
            }
            (ImageExamples { set: train, classes: classes.clone() }, ImageExamples { set: test, classes })
        }
    };
    let train = labelled(train, base, &mut warnings);
    let test = labelled(test, base, &mut Vec::new());
    Ok((Task { name: name.to_owned(), validation: test.clone(), train, test }, warnings))
}

/// The images with labels of the base instead of class numbers.
fn labelled(examples: ImageExamples, base: &mut Base, warnings: &mut Vec<String>) -> ImageSet {
    let ImageExamples { mut set, classes } = examples;
    let known = base.folder.config.labels.len();
    let mut new = Vec::new();
    let numbers: Vec<u32> = classes
        .iter()
        .map(|class| {
            let is_name = base.folder.config.labels.contains(class);
            match class.parse::<usize>() {
                Ok(number) if !is_name && number < known => number as u32,
                _ => {
                    if !is_name {
                        new.push(class.as_str());
                    }
                    base.class(class)
                }
            }
        })
        .collect();
    if !new.is_empty() {
        warnings.push(format!("new classes: {}", new.join(", ")));
    }
    set.labels.iter_mut().for_each(|label| *label = numbers[*label as usize]);
    set
}

/// A task out of drawings.
///
/// # Errors
/// When there are none, or one has another size than the base takes; nothing is changed then.
pub fn from_drawings(name: &str, drawings: Vec<Drawing>, base: &mut Base) -> Result<(Task, Vec<String>)> {
    let mut set = base.no_images();
    if drawings.is_empty() {
        return Err(WebError::input("there are no drawings"));
    }
    for (i, drawing) in drawings.iter().enumerate() {
        if drawing.label.trim().is_empty() {
            return Err(WebError::input(format!("drawing {} has no name", i + 1)));
        }
        if drawing.pixels.len() != set.image_len() {
            let (found, due) = (drawing.pixels.len(), set.image_len());
            return Err(WebError::input(format!("drawing {} has {found} bytes, where {due} are due", i + 1)));
        }
    }
    for Drawing { label, pixels } in drawings {
        set.labels.push(base.class(&label));
        set.pixels.extend(pixels);
    }
    let warning = "measured on the drawings that it is trained on".to_owned();
    Ok((Task { name: name.to_owned(), validation: set.clone(), test: set.clone(), train: set }, vec![warning]))
}
