//! What a config says must make sense by itself, before any file is opened.

use super::RunConfig;
use crate::device::Device;
use crate::model::Family;
use crate::run::folder::is_reserved;
use crate::run::{FILE_NAME_RULE, MOST_SAMPLES, MOST_STEPS, MOST_THREADS, MOST_TOKENS, is_file_name};

/// A key and what is wrong with it.
type Wrong = (String, String);

impl RunConfig {
    /// The first thing that is wrong.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let wrong = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        if self.out.trim().is_empty() {
            return wrong("out", "a folder is needed");
        }
        if self.seeds.is_empty() {
            return wrong("seeds", "at least one seed is needed");
        }
        if let Some((i, seed)) = twice(&self.seeds) {
            return wrong(&format!("seeds.{i}"), &format!("{seed} is there twice"));
        }
        if let Err(reason) = self.device.parse::<Device>() {
            return wrong("device", &reason);
        }
        if self.threads.is_some_and(|threads| !(1..=MOST_THREADS).contains(&threads)) {
            return wrong("threads", &format!("not in the range 1..={MOST_THREADS}"));
        }
        self.check_model()?;
        self.check_train()?;
        self.check_methods()?;
        self.check_tasks()
    }

    fn check_model(&self) -> Result<(), Wrong> {
        let model = &self.model;
        let wrong = |key: &str, reason: &str| Err((format!("model.{key}"), reason.to_owned()));
        if model.base.trim().is_empty() {
            return wrong("base", "a folder is needed");
        }
        if !(1..=MOST_TOKENS).contains(&model.max_tokens) {
            return wrong("max_tokens", &format!("{} is not in the range 1..={MOST_TOKENS}", model.max_tokens));
        }
        if !(model.temperature.is_finite() && model.temperature > 0.0) {
            return wrong("temperature", "is not above 0");
        }
        for (key, empty) in [
            ("targets", model.targets.as_ref().is_some_and(Vec::is_empty)),
            ("blocks", model.blocks.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if empty {
                return wrong(key, "is empty: leave it out for all");
            }
        }
        Ok(())
    }

    fn check_train(&self) -> Result<(), Wrong> {
        let train = &self.train;
        let wrong = |key: &str, reason: String| Err((format!("train.{key}"), reason));
        for (key, count) in [
            ("steps", Some(train.steps)),
            ("batch", Some(train.batch)),
            ("train_samples", train.train_samples),
            ("test_samples", train.test_samples),
            ("gradient_sketch", train.gradient_sketch),
        ] {
            if count == Some(0) {
                return wrong(key, "0 is not in the range 1..".to_owned());
            }
        }
        // More than these are typing errors, and arithmetic and memory would not bear them.
        for (key, count, most) in [
            ("steps", train.steps, MOST_STEPS),
            ("batch", train.batch, MOST_SAMPLES),
            ("snapshots", train.snapshots, MOST_STEPS),
        ] {
            if count > most {
                return wrong(key, format!("{count} is more than {most}"));
            }
        }
        if !(0.0..=1.0).contains(&train.warmup) {
            return wrong("warmup", format!("{} is not in the range 0 ≤ warmup ≤ 1", train.warmup));
        }
        if !(train.gradient_share > 0.0 && train.gradient_share <= 1.0) {
            return wrong("gradient_share", format!("{} is not in the range 0 < share ≤ 1", train.gradient_share));
        }
        Ok(())
    }

    fn check_methods(&self) -> Result<(), Wrong> {
        if self.methods.is_empty() {
            return Err(("method".to_owned(), "at least one method is needed".to_owned()));
        }
        for (i, method) in self.methods.iter().enumerate() {
            method.check().map_err(|(key, reason)| (format!("method.{i}.{key}"), reason))?;
            if is_reserved(method.label()) {
                let reason = format!("`{}` is the name of something else in a run's folder", method.label());
                return Err((format!("method.{i}.label"), reason));
            }
        }
        let labels: Vec<_> = self.methods.iter().map(|method| method.label()).collect();
        match twice(&labels) {
            Some((i, label)) => {
                let key = if self.methods[i].label.is_some() { "label" } else { "name" };
                let reason = format!("`{label}` is there twice: give each a `label` of its own");
                Err((format!("method.{i}.{key}"), reason))
            }
            None => Ok(()),
        }
    }

    fn check_tasks(&self) -> Result<(), Wrong> {
        if self.tasks.is_empty() {
            return Err(("task".to_owned(), "at least one task is needed".to_owned()));
        }
        for (i, task) in self.tasks.iter().enumerate() {
            let wrong = |key: &str, reason: &str| Err((format!("task.{i}.{key}"), reason.to_owned()));
            if !is_file_name(&task.name) {
                return wrong("name", FILE_NAME_RULE);
            }
            for (key, path) in [("train", &task.train), ("test", &task.test)] {
                if path.trim().is_empty() {
                    return wrong(key, "a file or folder is needed");
                }
            }
            if task.prompt.as_ref().is_some_and(|prompt| !prompt.contains("{text}")) {
                return wrong("prompt", "does not contain `{text}`, the place of the text");
            }
            if task.choices.as_ref().is_some_and(|choices| choices.len() < 2) {
                return wrong("choices", "at least two answers to choose from are needed");
            }
            if let Some((_, choice)) = task.choices.as_ref().and_then(|choices| twice(choices)) {
                return wrong("choices", &format!("{choice:?} is there twice"));
            }
            let family = self.model.family;
            if family.is_some_and(|family| family != Family::Llama) {
                for (key, given) in [("prompt", task.prompt.is_some()), ("choices", task.choices.is_some())] {
                    if given {
                        return wrong(key, "is for language models only");
                    }
                }
            }
        }
        let names: Vec<_> = self.tasks.iter().map(|task| &task.name).collect();
        match twice(&names) {
            Some((i, name)) => Err((format!("task.{i}.name"), format!("`{name}` is there twice"))),
            None => Ok(()),
        }
    }
}

/// The first entry that an earlier one equals.
fn twice<T: PartialEq>(list: &[T]) -> Option<(usize, &T)> {
    list.iter().enumerate().find(|(i, entry)| list[..*i].contains(entry))
}
