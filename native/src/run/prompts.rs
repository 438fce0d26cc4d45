//! Prompts and answers of a language model's tasks, as tokens.

use std::path::Path;

use eblora_core::model::llama::{Choices, Ranking, TokenSet};

use super::RunError;
use super::texts::{
    RAISE_OR_CUT, check_label_texts, check_vocabulary, cut_note, fields, label_text, quoted, task_labels,
};
use crate::Error;
use crate::config::{Chat, ModelConfig, TaskConfig, TooLong};
use crate::data::prompts::{PromptExample, PromptFields, Turn, read_prompts};
use crate::data::texts::read_texts;
use crate::formats::gguf::Gguf;
use crate::model::chat::{ChatTemplate, Role};
use crate::model::llama_tokenizer::{LlamaTokenizer, TokenizerError};

/// What can be done about an answer that is too long: it is never cut.
const RAISE_OR_SHORTEN: &str = "shorten the answer, which is never cut and leaves no room for the prompt";

/// A tokenizer with the limits and the chat template of a run.
pub(super) struct Prompts {
    tokenizer: LlamaTokenizer,
    template: Option<ChatTemplate>,
    /// What the tokenizer puts before every text.
    begins: Vec<u32>,
    /// What ends an answer.
    ends: Vec<u32>,
    vocabulary: usize,
    max_tokens: usize,
    too_long: TooLong,
    cut: usize,
    all: usize,
}

impl Prompts {
    /// That of the model at `base`, a folder or a GGUF file, which knows `vocabulary` tokens.
    pub fn open(base: &Path, model: &ModelConfig, vocabulary: usize) -> Result<Self, Error> {
        let tokenizer = match base.is_dir() {
            true => LlamaTokenizer::read_folder(base)?,
            false => LlamaTokenizer::from_gguf(&Gguf::read_file(base)?)?,
        };
        let template = match model.chat {
            Chat::None => None,
            Chat::Smollm2 => Some(ChatTemplate::SmolLm2),
            Chat::VicunaV1 => Some(ChatTemplate::VicunaV1),
        };
        let begins = tokenizer.encode("", true)?;
        let ends = match template {
            Some(template) => tokenizer.encode(template.end(), false)?,
            // Without an end, a model that has learnt its answers would not stop after them.
            None => tokenizer.end().filter(|&id| (id as usize) < vocabulary).into_iter().collect(),
        };
        let ModelConfig { max_tokens, too_long, .. } = *model;
        Ok(Self { tokenizer, template, begins, ends, vocabulary, max_tokens, too_long, cut: 0, all: 0 })
    }

    /// The prompts in a file; of a task with a `prompt`, made of texts and labels.
    pub fn read(task: &TaskConfig, path: &Path) -> Result<Vec<PromptExample>, Error> {
        check_label_texts(task)?;
        let Some(prompt) = &task.prompt else {
            return Ok(read_prompts(path, &PromptFields::default())?);
        };
        let texts = read_texts(path, &fields(task))?;
        let mut all = Vec::with_capacity(texts.len());
        for text in texts {
            let answer = label_text(task, &text.label, &text.place.to_string())?.to_owned();
            all.push(PromptExample { prompt: vec![user(prompt, &task.prefix, &text.text)], answer, place: text.place });
        }
        Ok(all)
    }

    /// The answers that a task's model chooses among.
    ///
    /// # Errors
    /// When one of them is empty.
    pub fn choices(task: &TaskConfig, train: &[PromptExample]) -> Result<Option<Vec<String>>, Error> {
        let blank = |choices: &Vec<String>| choices.iter().position(|choice| choice.trim().is_empty());
        if let Some(number) = task.choices.as_ref().and_then(blank) {
            return Err(RunError::EmptyText { task: task.name.clone(), key: format!("choices.{number}") }.into());
        }
        Ok(match (&task.choices, &task.prompt) {
            (Some(choices), _) => Some(choices.clone()),
            (None, Some(_)) => Some(task_labels(task, train.iter().map(|example| example.answer.as_str()))),
            (None, None) => None,
        })
    }

    /// Examples as tokens.
    pub fn encode(&mut self, examples: &[PromptExample], choices: Option<&[String]>) -> Result<TokenSet, Error> {
        let mut set = match choices {
            Some(choices) => self.with_choices(choices)?,
            None => TokenSet::new(),
        };
        for example in examples {
            let place = example.place.to_string();
            if let Some(choices) = choices.filter(|choices| !choices.contains(&example.answer)) {
                let answer = example.answer.clone();
                return Err(RunError::Choice { place, answer, known: quoted(choices.iter()) }.into());
            }
            let answer = self.answer(&example.answer, || place.clone())?;
            let longest = set.choices().and_then(|c| c.answers.iter().map(Vec::len).max()).unwrap_or(answer.len());
            let prompt = self.prompt(&example.prompt, longest, &place)?;
            set.push_pair(&prompt, &answer).map_err(|source| RunError::Sample { place, source })?;
        }
        Ok(set)
    }

    /// An empty set whose prompts are answered by choosing among these.
    pub fn with_choices(&self, choices: &[String]) -> Result<TokenSet, Error> {
        let answer = |choice: &String| self.answer(choice, || format!("the choice {choice:?}"));
        let answers: Vec<_> = choices.iter().map(answer).collect::<Result<_, _>>()?;
        if let Some(i) = (1..answers.len()).find(|&i| answers[..i].contains(&answers[i])) {
            return Err(RunError::SameTokens { choice: choices[i].clone() }.into());
        }
        let set = TokenSet::with_choices(Choices { answers, ranking: Ranking::Sum });
        Ok(set.map_err(|source| RunError::Sample { place: "the choices".to_owned(), source })?)
    }

    /// A conversation as tokens, up to where the answer begins; room is left for an answer of so many tokens.
    pub fn prompt(&mut self, turns: &[Turn], answer: usize, place: &str) -> Result<Vec<u32>, Error> {
        let text = match self.template {
            Some(template) => template.prompt(&turns.iter().map(Turn::message).collect::<Vec<_>>()),
            None => turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join("\n"),
        };
        let mut tokens = self.tokens(&text, true, || place.to_owned())?;
        if tokens.is_empty() || tokens == self.begins {
            return Err(RunError::NoTokens { place: place.to_owned() }.into());
        }
        self.all += 1;
        let room = self.max_tokens.saturating_sub(answer);
        if room == 0 || (tokens.len() > room && self.too_long == TooLong::Refuse) {
            let remedy = if room == 0 { RAISE_OR_SHORTEN } else { RAISE_OR_CUT };
            let (place, tokens) = (place.to_owned(), tokens.len() + answer);
            return Err(RunError::TooLong { place, tokens, most: self.max_tokens, remedy }.into());
        }
        if tokens.len() > room {
            // What comes last says most of what is asked; a token of the beginning stays in its place.
            let kept = self.begins.len().min(room.saturating_sub(1));
            tokens.drain(kept..tokens.len() - (room - kept));
            self.cut += 1;
        }
        Ok(tokens)
    }

    /// An answer as tokens, with what ends it, if the model has such a token; `place` names it in errors.
    pub fn answer(&self, text: &str, place: impl Fn() -> String) -> Result<Vec<u32>, Error> {
        let answer = match self.template {
            Some(template) => self.tokens(&format!("{text}{}", template.end()), false, &place)?,
            None => {
                // Words begin with their space in a vocabulary of pieces.
                let mut tokens = self.tokens(&format!(" {}", text.trim_start()), false, &place)?;
                tokens.extend(&self.ends);
                tokens
            }
        };
        match answer == self.ends {
            true => Err(RunError::NoTokens { place: place() }.into()),
            false => Ok(answer),
        }
    }

    /// A text as tokens that the model knows; `special`: with those that the tokenizer puts around every text.
    fn tokens(&self, text: &str, special: bool, place: impl Fn() -> String) -> Result<Vec<u32>, Error> {
        let tokens = self.tokenizer.encode(text, special).map_err(|error| match error {
            TokenizerError::Convert { file, reason } => RunError::Tokenize { place: place(), file, reason }.into(),
            other => Error::from(other),
        })?;
        check_vocabulary(&tokens, self.vocabulary, self.tokenizer.file(), place)?;
        Ok(tokens)
    }

    /// The tokens that end what is said.
    pub fn stop(&self) -> Vec<u32> {
        let template = self.template.and_then(|template| self.tokenizer.id(template.end()));
        let mut stop: Vec<u32> =
            template.into_iter().chain(self.tokenizer.end()).chain(self.tokenizer.ends()).collect();
        let mut seen = std::collections::BTreeSet::new();
        stop.retain(|id| seen.insert(*id));
        stop
    }

    /// The text of tokens.
    pub fn text(&self, tokens: &[u32]) -> Result<String, Error> {
        Ok(self.tokenizer.decode(tokens, false)?)
    }

    /// How many prompts were cut.
    pub fn notes(&self) -> Vec<String> {
        cut_note(self.cut, self.all, self.max_tokens, "beginning")
    }
}

/// A text in its place in a prompt.
pub(super) fn user(prompt: &str, prefix: &str, text: &str) -> Turn {
    Turn { role: Role::User, text: prompt.replace("{text}", &format!("{prefix}{text}")) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Map, Value, json};

    use super::*;

    const WORDS: [&str; 5] = ["[UNK]", "a", "b", "</s>", "<end>"];

    /// A tokenizer of these words, in a folder with other files, for a model that knows so many tokens.
    fn open(words: &[&str], files: &[(&str, &str)], vocabulary: usize) -> Result<Prompts, Error> {
        let folder = tempfile::tempdir().unwrap();
        let words: Map<String, Value> = words.iter().enumerate().map(|(i, word)| ((*word).into(), i.into())).collect();
        let tokenizer = json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": words, "unk_token": "[UNK]" } });
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let model = serde_json::from_value(json!({ "base": "m", "max_tokens": 6, "too_long": "truncate" })).unwrap();
        Prompts::open(folder.path(), &model, vocabulary)
    }

    fn place() -> String {
        "x.jsonl:1".to_owned()
    }

    #[test]
    fn an_answer_ends_with_the_end_of_a_text() {
        let ends = |words: &[&str], files: &[(&str, &str)]| {
            let prompts = open(words, files, words.len()).unwrap();
            (prompts.answer("a", place).unwrap(), prompts.stop())
        };
        assert_eq!(ends(&WORDS, &[]), (vec![1, 3], vec![3]), "known by its name");
        assert_eq!(ends(&WORDS[..3], &[]), (vec![1], vec![]), "none");
        for (file, content) in [
            ("tokenizer_config.json", r#"{"eos_token": "<end>"}"#),
            ("tokenizer_config.json", r#"{"eos_token": {"content": "<end>", "special": true}}"#),
            ("generation_config.json", r#"{"eos_token_id": [4, 3]}"#),
            ("config.json", r#"{"eos_token_id": 4}"#),
        ] {
            assert_eq!(ends(&WORDS, &[(file, content)]), (vec![1, 4], vec![4, 3]), "{content}");
        }
        // What can't be a token is passed over.
        let odd = [("tokenizer_config.json", r#"{"eos_token": null}"#), ("config.json", r#"{"eos_token_id": 99}"#)];
        assert_eq!(ends(&WORDS, &odd), (vec![1, 3], vec![3]));
        let damaged = open(&WORDS, &[("tokenizer_config.json", "{")], 5).err().unwrap().to_string();
        assert!(damaged.contains("tokenizer_config.json: not JSON: "), "{damaged}");
    }

    #[test]
    fn choices_end_as_answers_do_and_have_a_text_each() {
        let choices = |task: Value| Prompts::choices(&serde_json::from_value(task).unwrap(), &[]);
        let task = |choices: &[&str]| json!({ "name": "t", "train": "a", "test": "b", "choices": choices });
        let found = choices(task(&["a", "b"])).unwrap().unwrap();
        let set = open(&WORDS, &[], 5).unwrap().with_choices(&found).unwrap();
        assert_eq!(set.choices().unwrap().answers, [[1, 3], [2, 3]]);
        let message = choices(task(&["b", " "])).unwrap_err().to_string();
        assert_eq!(message, "task t: `choices.1` is empty; write a text there, or remove it");
    }

    #[test]
    fn what_is_no_use_is_told_with_its_place() {
        let mut prompts = open(&WORDS, &[], 2).unwrap();
        let mut told =
            |text: &str, answer| prompts.prompt(&[user("{text}", "", text)], answer, &place()).unwrap_err().to_string();
        let unknown = told("a b", 1);
        assert!(unknown.starts_with("x.jsonl:1: token 2 of ") && unknown.contains("ends with 1: "), "{unknown}");
        assert!(told(" ", 1).starts_with("x.jsonl:1: the tokenizer makes no token"));
        let long = told("a", 6);
        assert!(long.contains("7 tokens, more than the 6") && long.contains("shorten the answer"), "{long}");
        assert!(!long.contains("truncate"), "{long}");
        assert_eq!(prompts.answer("a", place).unwrap(), [1], "the end is none that the model knows");
        assert!(prompts.answer(" ", place).unwrap_err().to_string().contains("makes no token"));
        let message = open(&WORDS[1..], &[], 4).unwrap().answer("x", place).unwrap_err().to_string();
        assert!(
            message.starts_with("x.jsonl:1: ") && message.contains("tokenizer.json can't make tokens"),
            "{message}"
        );
    }
}
