//! Texts and labels of an encoder's tasks, as tokens.

use std::path::Path;

use eblora_core::model::bert::{Head, TextSet};

use super::RunError;
use super::subject::TextHead;
use crate::Error;
use crate::config::{HeadKind, ModelConfig, TaskConfig, TooLong};
use crate::data::labels::LabelSpace;
use crate::data::texts::{TextExample, TextFields, read_texts};
use crate::model::tokenizer::Tokenizer;

/// Seed of a linear head: every run of the same labels has the same one.
const HEAD_SEED: u64 = 0;

/// A tokenizer with the limits of a run.
pub(super) struct Texts {
    tokenizer: Tokenizer,
    max_tokens: usize,
    too_long: TooLong,
    cut: usize,
    all: usize,
}

impl Texts {
    /// That of the model in `base`.
    pub fn open(base: &Path, model: &ModelConfig) -> Result<Self, Error> {
        let tokenizer = Tokenizer::read(base)?;
        Ok(Self { tokenizer, max_tokens: model.max_tokens, too_long: model.too_long, cut: 0, all: 0 })
    }

    /// The examples in a file, with the task's prefix, and labels by the texts that they stand for.
    pub fn read(task: &TaskConfig, path: &Path) -> Result<Vec<TextExample>, Error> {
        let mut examples = read_texts(path, &fields(task))?;
        for example in &mut examples {
            example.text.insert_str(0, &task.prefix);
            example.label = label_text(task, &example.label, &example.place.to_string())?.to_owned();
        }
        Ok(examples)
    }

    /// The examples as tokens, with the numbers of their labels.
    pub fn encode(&mut self, examples: &[TextExample], space: &LabelSpace) -> Result<TextSet, Error> {
        let mut set = TextSet::new();
        for example in examples {
            let label = space.index(&example.label, &example.place)?;
            let place = || example.place.to_string();
            set.push(&self.tokens(&example.text, place)?, label);
        }
        Ok(set)
    }

    /// One text as tokens; `place` names it in errors.
    pub fn tokens(&mut self, text: &str, place: impl Fn() -> String) -> Result<Vec<u32>, Error> {
        let mut whole = self.tokenizer.encode(&[text], usize::MAX)?.ids.swap_remove(0);
        self.all += 1;
        if whole.len() > self.max_tokens {
            match self.too_long {
                TooLong::Refuse => {
                    let (tokens, most) = (whole.len(), self.max_tokens);
                    return Err(RunError::TooLong { place: place(), tokens, most }.into());
                }
                TooLong::Truncate => {
                    whole = self.tokenizer.encode(&[text], self.max_tokens)?.ids.swap_remove(0);
                    self.cut += 1;
                }
            }
        }
        Ok(whole)
    }

    /// The head for these labels, on states of width `hidden`.
    pub fn head(&mut self, model: &ModelConfig, hidden: usize, names: &[String]) -> Result<TextHead, Error> {
        Ok(match model.head {
            HeadKind::Labels => TextHead::Labels(self.labels(names)?),
            HeadKind::Linear => {
                let head = Head::orthogonal(names.len(), hidden, model.temperature, HEAD_SEED);
                let wrong = |source| RunError::Model { base: model.base.clone(), source };
                TextHead::Linear { labels: names.len(), head: head.map_err(wrong)? }
            }
        })
    }

    /// The labels' texts as tokens.
    fn labels(&mut self, names: &[String]) -> Result<TextSet, Error> {
        let mut set = TextSet::new();
        for (number, name) in names.iter().enumerate() {
            set.push(&self.tokens(name, || format!("the label {name:?}"))?, number as u32);
        }
        Ok(set)
    }

    /// How many texts were cut.
    pub fn notes(&self) -> Vec<String> {
        cut_note(self.cut, self.all, self.max_tokens, "end")
    }
}

/// The fields of a task's records.
pub(super) fn fields(task: &TaskConfig) -> TextFields {
    TextFields { text: task.text.clone(), label: task.label.clone() }
}

/// Tells that texts were cut, if any were.
pub(super) fn cut_note(cut: usize, all: usize, most: usize, what: &str) -> Vec<String> {
    match cut {
        0 => Vec::new(),
        cut => vec![format!("{cut} of {all} texts have more than {most} tokens and lost their {what}")],
    }
}

/// Names in quotes, separated by commas.
pub(super) fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// What a label in a file stands for.
pub(super) fn label_text<'a>(task: &'a TaskConfig, label: &'a str, place: &str) -> Result<&'a str, Error> {
    match task.label_texts.get(label) {
        Some(text) => Ok(text),
        None if task.label_texts.is_empty() => Ok(label),
        None => Err(RunError::LabelText {
            place: place.to_owned(),
            label: label.to_owned(),
            known: quoted(task.label_texts.keys()),
        }
        .into()),
    }
}

/// The labels of one task in an order of their own: as the config has them, or sorted.
pub(super) fn task_labels<'a>(task: &'a TaskConfig, found: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut labels: Vec<String> = match task.label_texts.is_empty() {
        false => task.label_texts.values().cloned().collect(),
        true => {
            let mut found: Vec<String> = found.map(str::to_owned).collect();
            found.sort();
            found
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    labels.retain(|label| seen.insert(label.clone()));
    labels
}

/// The labels of all tasks, each once, in the order of the tasks.
pub(super) fn label_names<'a>(tasks: &'a [TaskConfig], trains: impl Iterator<Item = &'a [TextExample]>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (task, train) in tasks.iter().zip(trains) {
        for label in task_labels(task, train.iter().map(|example| example.label.as_str())) {
            if !names.contains(&label) {
                names.push(label);
            }
        }
    }
    names
}
