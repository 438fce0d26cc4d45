//! Prompts and answers of a language model's tasks, as tokens.

use std::path::Path;

use eblora_core::model::llama::{Choices, Ranking, TokenSet};

use super::RunError;
use super::texts::{cut_note, fields, label_text, quoted, task_labels};
use crate::Error;
use crate::config::{Chat, ModelConfig, TaskConfig, TooLong};
use crate::data::prompts::{PromptExample, PromptFields, Turn, read_prompts};
use crate::data::texts::read_texts;
use crate::formats::gguf::Gguf;
use crate::model::chat::{ChatTemplate, Role};
use crate::model::llama_tokenizer::LlamaTokenizer;

/// A tokenizer with the limits and the chat template of a run.
pub(super) struct Prompts {
    tokenizer: LlamaTokenizer,
    template: Option<ChatTemplate>,
    max_tokens: usize,
    too_long: TooLong,
    cut: usize,
    all: usize,
}

impl Prompts {
    /// That of the model at `base`, a folder or a GGUF file.
    pub fn open(base: &Path, model: &ModelConfig) -> Result<Self, Error> {
        let tokenizer = match base.is_dir() {
            true => LlamaTokenizer::read(&base.join(crate::model::tokenizer::FILE))?,
            false => LlamaTokenizer::from_gguf(&Gguf::read_file(base)?)?,
        };
        let template = match model.chat {
            Chat::None => None,
            Chat::Smollm2 => Some(ChatTemplate::SmolLm2),
            Chat::VicunaV1 => Some(ChatTemplate::VicunaV1),
        };
        Ok(Self { tokenizer, template, max_tokens: model.max_tokens, too_long: model.too_long, cut: 0, all: 0 })
    }

    /// The prompts in a file; of a task with a `prompt`, made of texts and labels.
    pub fn read(task: &TaskConfig, path: &Path) -> Result<Vec<PromptExample>, Error> {
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
    pub fn choices(task: &TaskConfig, train: &[PromptExample]) -> Option<Vec<String>> {
        match (&task.choices, &task.prompt) {
            (Some(choices), _) => Some(choices.clone()),
            (None, Some(_)) => Some(task_labels(task, train.iter().map(|example| example.answer.as_str()))),
            (None, None) => None,
        }
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
            let answer = self.answer(&example.answer)?;
            let longest = set.choices().and_then(|c| c.answers.iter().map(Vec::len).max()).unwrap_or(answer.len());
            let prompt = self.prompt(&example.prompt, longest, &place)?;
            set.push_pair(&prompt, &answer).map_err(|source| RunError::Sample { place, source })?;
        }
        Ok(set)
    }

    /// An empty set whose prompts are answered by choosing among these.
    pub fn with_choices(&self, choices: &[String]) -> Result<TokenSet, Error> {
        let answers: Vec<_> = choices.iter().map(|choice| self.answer(choice)).collect::<Result<_, _>>()?;
        if let Some(i) = (1..answers.len()).find(|&i| answers[..i].contains(&answers[i])) {
            return Err(RunError::SameTokens { choice: choices[i].clone() }.into());
        }
        let set = TokenSet::with_choices(Choices { answers, ranking: Ranking::Sum });
        Ok(set.map_err(|source| RunError::Sample { place: "the choices".to_owned(), source })?)
    }

    /// A conversation as tokens, up to where the answer begins; room is left for an answer of so many tokens.
    pub fn prompt(&mut self, turns: &[Turn], answer: usize, place: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = match self.template {
            Some(template) => {
                let messages: Vec<_> = turns.iter().map(Turn::message).collect();
                self.tokenizer.encode(&template.prompt(&messages), true)?
            }
            None => {
                let texts: Vec<&str> = turns.iter().map(|turn| turn.text.as_str()).collect();
                self.tokenizer.encode(&texts.join("\n"), true)?
            }
        };
        self.all += 1;
        let room = self.max_tokens.saturating_sub(answer);
        if tokens.is_empty() || room == 0 || (tokens.len() > room && self.too_long == TooLong::Refuse) {
            let tokens = tokens.len() + answer;
            return Err(RunError::TooLong { place: place.to_owned(), tokens, most: self.max_tokens }.into());
        }
        if tokens.len() > room {
            // What comes last says most of what is asked; a token of the beginning stays in its place.
            let begins = self.tokenizer.encode("", true)?;
            let kept = begins.len().min(room.saturating_sub(1));
            tokens.drain(kept..tokens.len() - (room - kept));
            self.cut += 1;
        }
        Ok(tokens)
    }

    /// An answer as tokens, with what ends it.
    pub fn answer(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(match self.template {
            Some(template) => self.tokenizer.encode(&format!("{text}{}", template.end()), false)?,
            // Words begin with their space in a vocabulary of pieces.
            None => self.tokenizer.encode(&format!(" {}", text.trim_start()), false)?,
        })
    }

    /// The tokens that end what is said.
    pub fn stop(&self) -> Vec<u32> {
        let ends = self.template.map_or("<|endoftext|>", ChatTemplate::end);
        [ends, "</s>", "<|end_of_text|>", "<|eot_id|>"].iter().filter_map(|end| self.tokenizer.id(end)).collect()
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
