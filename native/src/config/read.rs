//! From a file and overrides to a config, or to one message that names the place.

use std::fs;
use std::path::{Path as FilePath, PathBuf, absolute};

use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::place::{Path, Step, path, shown, span};
use super::{ConfigError, Override, RunConfig};
use crate::data::{line_and_column, mix};
use crate::hub;

/// A config's text, for the places of what is wrong in it.
struct Source<'a> {
    file: String,
    text: &'a str,
    overrides: &'a [Override],
}

impl Source<'_> {
    fn at(&self, byte: usize, reason: String) -> ConfigError {
        let (line, column) = line_and_column(self.text, byte);
        ConfigError::Wrong { place: format!("{}:{line}:{column}", self.file), reason }
    }

    /// Whether the file has something at `path`.
    fn has(&self, path: &[Step]) -> bool {
        let table = toml::from_str::<Table>(self.text).unwrap_or_default(); // it was parsed before
        let mut value = &Value::Table(table);
        for step in path {
            let inner = match step {
                Step::Key(key) => value.get(key.as_str()),
                Step::Index(index) => value.get(*index),
            };
            match inner {
                Some(inner) => value = inner,
                None => return false,
            }
        }
        true
    }

    /// An error of the key at `path`, which an override may have set.
    fn wrong(&self, path: &[Step], reason: &str) -> ConfigError {
        // A table that an override alone has made is its fault as well.
        let made = |o: &Override| !path.is_empty() && o.path.starts_with(path) && !self.has(path);
        let sets = |o: &&Override| path.starts_with(&o.path) || made(o);
        let reason = plain(reason);
        let reason = match path {
            [] => reason,
            path => format!("`{}`: {reason}", shown(path)),
        };
        match self.overrides.iter().rev().find(sets) {
            Some(set) => ConfigError::Wrong { place: format!("{:?} on the command line", set.text), reason },
            None => self.at(span(self.text, path).start, reason),
        }
    }
}

impl RunConfig {
    /// Reads a config and changes it by the overrides.
    ///
    /// # Errors
    /// When it can't be read, or the first thing that is wrong in it, with its place.
    pub fn read(file: &FilePath, overrides: &[Override]) -> Result<Self, ConfigError> {
        let name = file.display().to_string();
        let failed = |source| ConfigError::Read { file: name.clone(), source };
        let text = String::from_utf8(fs::read(file).map_err(failed)?).map_err(|error| {
            let (line, column) =
                line_and_column(&String::from_utf8_lossy(error.as_bytes()), error.utf8_error().valid_up_to());
            ConfigError::Wrong { place: format!("{name}:{line}:{column}"), reason: "not UTF-8".to_owned() }
        })?;
        let root = match absolute(file).ok().as_deref().and_then(FilePath::parent) {
            Some(parent) => parent.to_owned(),
            None => PathBuf::from("."),
        };
        Self::parse(&text, &name, &root, overrides)
    }

    /// Parses a config; `file` names it in errors, and paths in it are relative to `root`.
    ///
    /// # Errors
    /// The first thing that is wrong in it, with its place.
    ///
    /// ```
    /// use eblora::config::{RunConfig, template};
    /// use eblora::model::Family;
    /// let text = template(Family::Bert);
    /// let config = RunConfig::parse(&text, "run.toml", "/data".as_ref(), &["train.steps=5".parse()?])?;
    /// assert_eq!(config.train.steps, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(text: &str, file: &str, root: &FilePath, overrides: &[Override]) -> Result<Self, ConfigError> {
        let source = Source { file: file.to_owned(), text, overrides };
        let mut table: Table = toml::from_str(text)
            .map_err(|e| source.at(e.span().map_or(0, |span| span.start), e.message().to_owned()))?;
        for change in overrides {
            change.apply(&mut table).map_err(|reason| ConfigError::Wrong {
                place: format!("{:?} on the command line", change.text),
                reason,
            })?;
        }
        let parsed: Result<Self, _> = serde_path_to_error::deserialize(Value::Table(table));
        let mut config = parsed.map_err(|error| {
            let mut at: Path = error.path().iter().filter_map(step).collect();
            let message = error.inner().message();
            // The parser points at the table of an unknown key; the key itself says more.
            if let Some(key) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
                && at.last() != Some(&Step::Key(key.to_owned()))
            {
                at.push(Step::Key(key.to_owned()));
            }
            source.wrong(&at, message)
        })?;
        config.check().map_err(|(key, reason)| source.wrong(&path(&key), &reason))?;
        config.settle(root);
        Ok(config)
    }

    /// The config as it was resolved, in TOML.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] for a number that TOML can't hold.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self)
            .map_err(|e| ConfigError::Wrong { place: "the resolved config".to_owned(), reason: e.to_string() })
    }

    /// Makes every path absolute.
    fn settle(&mut self, root: &FilePath) {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"));
        let settle = |path: &mut String| {
            // What is named is no path.
            if path.starts_with(hub::PREFIX) || mix::is_bundled(path) {
                return;
            }
            let whole = match (path.strip_prefix("~/"), &home) {
                (Some(rest), Some(home)) => FilePath::new(home).join(rest),
                _ => root.join(&*path),
            };
            *path = whole.display().to_string();
        };
        settle(&mut self.out);
        settle(&mut self.model.base);
        for task in &mut self.tasks {
            settle(&mut task.train);
            settle(&mut task.test);
            [&mut task.train_labels, &mut task.test_labels, &mut task.validation, &mut task.validation_labels]
                .into_iter()
                .flatten()
                .for_each(settle);
        }
    }
}

/// What the parser says of types, in words of TOML.
fn plain(reason: &str) -> String {
    let mut reason = reason.to_owned();
    for (theirs, ours) in [
        ("expected usize", "expected a whole number, 0 or above"),
        ("expected u64", "expected a whole number, 0 or above"),
        ("expected f64", "expected a number"),
        ("invalid type: map, expected a sequence", "is one table and not a list of them: write [[…]] instead of […]"),
        ("invalid type: map", "is a table"),
        ("expected a sequence", "expected a list"),
    ] {
        reason = reason.replace(theirs, ours);
    }
    match reason.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table"),
        None => reason,
    }
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        _ => None,
    }
}
