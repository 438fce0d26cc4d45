//! Texts and labels of an encoder's tasks, as tokens.

use std::path::Path;

use eblora_core::model::bert::{Head, TextSet};

use super::RunError;
use super::subject::TextHead;
use crate::Error;
use crate::config::{HeadKind, ModelConfig, TaskConfig, TooLong};
use crate::data::labels::LabelSpace;
use crate::data::texts::{TextExample, TextFields, read_texts};
use crate::model::tokenizer::{Encoded, Tokenizer, TokenizerError};

/// Seed of a linear head: every run of the same labels has the same one.
const HEAD_SEED: u64 = 0;
/// What can be done about a text that is too long.
pub(super) const RAISE_OR_CUT: &str = "set `model.too_long = \"truncate\"`";
/// The same about a label's text, which is never cut: two of them might become one.
const RAISE_OR_SHORTEN: &str = "write a shorter text for the label in `label_texts`, as such a text is never cut";

/// A tokenizer with the limits of a run.
pub(super) struct Texts {
    tokenizer: Tokenizer,
    vocabulary: usize,
    max_tokens: usize,
    too_long: TooLong,
    cut: usize,
    all: usize,
}

impl Texts {
    /// That of the model in `base`, which knows `vocabulary` tokens.
    pub fn open(base: &Path, model: &ModelConfig, vocabulary: usize) -> Result<Self, Error> {
        let tokenizer = Tokenizer::read(base)?;
        let ModelConfig { max_tokens, too_long, .. } = *model;
        Ok(Self { tokenizer, vocabulary, max_tokens, too_long, cut: 0, all: 0 })
    }

    /// The examples in a file, with the task's prefix, and labels by the texts that they stand for.
    pub fn read(task: &TaskConfig, path: &Path) -> Result<Vec<TextExample>, Error> {
        check_label_texts(task)?;
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
        let whole = self.whole(text, &place)?;
        self.all += 1;
        if whole.len() <= self.max_tokens {
            return Ok(whole);
        }
        match self.too_long {
            TooLong::Refuse => Err(self.too_long(&whole, place(), RAISE_OR_CUT)),
            TooLong::Truncate => {
                self.cut += 1;
                Ok(self.tokenizer.encode(&[text], self.max_tokens)?.ids.swap_remove(0))
            }
        }
    }

    /// All tokens of a text, of which the model knows each; special ones alone are not enough.
    fn whole(&self, text: &str, place: impl Fn() -> String) -> Result<Vec<u32>, Error> {
        let encoded = self.tokenizer.encode(&[text], usize::MAX);
        let Encoded { mut ids, .. } = encoded.map_err(|error| match error {
            TokenizerError::Encode { file, reason, .. } => RunError::Tokenize { place: place(), file, reason }.into(),
            other => Error::from(other),
        })?;
        let whole = ids.swap_remove(0);
        if whole.len() <= self.tokenizer.special() {
            return Err(RunError::NoTokens { place: place() }.into());
        }
        check_vocabulary(&whole, self.vocabulary, self.tokenizer.file(), place)?;
        Ok(whole)
    }

    fn too_long(&self, tokens: &[u32], place: String, remedy: &'static str) -> Error {
        RunError::TooLong { place, tokens: tokens.len(), most: self.max_tokens, remedy }.into()
    }

    /// The head for these labels, on states of width `hidden`.
    pub fn head(&self, model: &ModelConfig, hidden: usize, names: &[String]) -> Result<TextHead, Error> {
        Ok(match model.head {
            HeadKind::Labels => TextHead::Labels(self.labels(names)?),
            HeadKind::Linear => {
                let head = Head::orthogonal(names.len(), hidden, model.temperature, HEAD_SEED);
                let wrong = |source| RunError::Model { base: model.base.clone(), source };
                TextHead::Linear { labels: names.len(), head: head.map_err(wrong)? }
            }
        })
    }

    /// The labels' texts as tokens, whole and each different from all others.
    fn labels(&self, names: &[String]) -> Result<TextSet, Error> {
        let mut set = TextSet::new();
        for (number, name) in names.iter().enumerate() {
            let place = || format!("the label {name:?}");
            let tokens = self.whole(name, place)?;
            if tokens.len() > self.max_tokens {
                return Err(self.too_long(&tokens, place(), RAISE_OR_SHORTEN));
            }
            if let Some(same) = (0..number).find(|&other| set.tokens(other) == tokens) {
                return Err(RunError::SameLabels { first: names[same].clone(), second: name.clone() }.into());
            }
            set.push(&tokens, number as u32);
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

/// Every label that is given a text must get one.
pub(super) fn check_label_texts(task: &TaskConfig) -> Result<(), Error> {
    match task.label_texts.iter().find(|(_, text)| text.trim().is_empty()) {
        Some((label, _)) => {
            Err(RunError::EmptyText { task: task.name.clone(), key: format!("label_texts.{label}") }.into())
        }
        None => Ok(()),
    }
}

/// Every token of a text must be one that the model knows.
pub(super) fn check_vocabulary(
    tokens: &[u32],
    vocabulary: usize,
    file: &str,
    place: impl Fn() -> String,
) -> Result<(), Error> {
    match tokens.iter().find(|&&id| id as usize >= vocabulary) {
        Some(&id) => {
            let (place, file, last) = (place(), file.to_owned(), vocabulary.saturating_sub(1));
            Err(RunError::Vocabulary { place, file, id, last }.into())
        }
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"WhitespaceSplit"},"decoder":null,
        "post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},
        "model":{"type":"WordLevel","unk_token":"[UNK]",
            "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,"b":5}}}"#;

    fn model() -> ModelConfig {
        serde_json::from_value(json!({ "base": "m", "max_tokens": 4, "too_long": "truncate" })).unwrap()
    }

    fn open(tokenizer: &str, vocabulary: usize) -> Texts {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        Texts::open(folder.path(), &model(), vocabulary).unwrap()
    }

    #[test]
    fn labels_are_whole_and_told_apart() {
        let texts = open(TOKENIZER, 6);
        let labels = |names: &[&str]| texts.labels(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let told = |names: &[&str]| labels(names).unwrap_err().to_string();
        assert_eq!(labels(&["a", "a b", "b"]).unwrap().tokens(1), [2, 4, 5, 3]);
        let same = told(&["a", "x", "y"]);
        assert!(same.starts_with("the labels \"x\" and \"y\" have the same tokens"), "{same}");
        let long = told(&["a", "a b a"]);
        assert!(long.starts_with("the label \"a b a\": 5 tokens, more than the 4"), "{long}");
        assert!(!long.contains("truncate"), "{long}");
    }

    #[test]
    fn texts_are_of_tokens_that_the_model_knows() {
        let told = |tokenizer: &str, text: &str| {
            open(tokenizer, 5).tokens(text, || "x.csv:2".to_owned()).unwrap_err().to_string()
        };
        let unknown = told(TOKENIZER, "a b");
        assert!(unknown.starts_with("x.csv:2: token 5 of ") && unknown.contains("ends with 4: is it"), "{unknown}");
        assert!(told(TOKENIZER, " ").starts_with("x.csv:2: the tokenizer makes no token of the text"));
        let odd = told(&TOKENIZER.replacen("\"[UNK]\":1,", "", 1), "a x");
        assert!(odd.starts_with("x.csv:2: ") && odd.contains("tokenizer.json can't make tokens of the text"), "{odd}");
    }

    #[test]
    fn a_label_needs_a_text() {
        let task = json!({ "name": "t", "train": "a", "test": "b", "label_texts": { "0": "no", "1": "" } });
        let message = check_label_texts(&serde_json::from_value(task).unwrap()).unwrap_err().to_string();
        assert_eq!(message, "task t: `label_texts.1` is empty; write a text there, or remove it");
    }
}
