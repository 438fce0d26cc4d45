//! Which settings do anything with which family of models: one that does nothing is a mistake, and is told.

use super::{Chat, HeadKind, RunConfig, TooLong, default_label, default_max_tokens, default_temperature, default_text};
use crate::model::Family;

impl RunConfig {
    /// The key of the first setting that does nothing with a base of this family, and why.
    ///
    /// ```
    /// use eblora::config::{RunConfig, template};
    /// use eblora::model::Family;
    /// let text = template(Family::Bert);
    /// let config = RunConfig::parse(&text, "run.toml", "/data".as_ref(), &["model.chat=smollm2".parse()?])?;
    /// assert_eq!(config.idle(Family::Bert).unwrap().0, "model.chat");
    /// assert!(RunConfig::parse(&text, "run.toml", "/data".as_ref(), &[])?.idle(Family::Bert).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idle(&self, family: Family) -> Option<(String, &'static str)> {
        let (vit, llama) = (family == Family::Vit, family == Family::Llama);
        let model = &self.model;
        let of_model = [
            ("max_tokens", vit && model.max_tokens != default_max_tokens(), "images have no tokens to count"),
            ("too_long", vit && model.too_long != TooLong::default(), "images have no tokens to count"),
            ("head", family != Family::Bert && model.head != HeadKind::default(), "it is for a BERT"),
            ("temperature", family != Family::Bert && model.temperature != default_temperature(), "it is for a BERT"),
            ("chat", !llama && model.chat != Chat::default(), "it is for a Llama"),
            ("gradient_checkpointing", !llama && model.gradient_checkpointing, "it is for a Llama"),
        ];
        let of_tasks = self.tasks.iter().enumerate().flat_map(|(i, task)| {
            let pairs = llama && task.prompt.is_none();
            let reason = "records of prompts and answers are used as they are: give the task a `prompt`";
            let labels = [&task.train_labels, &task.test_labels, &task.validation_labels];
            [
                ("text", (vit || pairs) && task.text != default_text(), if vit { "images have none" } else { reason }),
                ("prefix", (vit || pairs) && !task.prefix.is_empty(), if vit { "images have none" } else { reason }),
                ("label", pairs && task.label != default_label(), reason),
                ("label_texts", pairs && !task.label_texts.is_empty(), reason),
                ("prompt", !llama && task.prompt.is_some(), "it is for a Llama"),
                ("choices", !llama && task.choices.is_some(), "it is for a Llama"),
                ("train_labels", !vit && labels[0].is_some(), "labels have files of their own for images alone"),
                ("test_labels", !vit && labels[1].is_some(), "labels have files of their own for images alone"),
                ("validation_labels", !vit && labels[2].is_some(), "labels have files of their own for images alone"),
            ]
            .map(|(key, idle, why)| (format!("task.{i}.{key}"), idle, why))
        });
        let of_model = of_model.map(|(key, idle, why)| (format!("model.{key}"), idle, why));
        of_model.into_iter().chain(of_tasks).find(|(_, idle, _)| *idle).map(|(key, _, why)| (key, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::template;

    #[test]
    fn what_does_nothing_is_named() {
        let read = |family, changes: &[&str]| {
            let changes: Vec<_> = changes.iter().map(|change| change.parse().unwrap()).collect();
            RunConfig::parse(&template(family), "run.toml", "/data".as_ref(), &changes).unwrap()
        };
        for family in [Family::Vit, Family::Bert, Family::Llama] {
            assert_eq!(read(family, &[]).idle(family), None, "{family:?}");
        }
        for (family, change, key) in [
            (Family::Vit, "model.max_tokens=5", "model.max_tokens"),
            (Family::Vit, "model.too_long=truncate", "model.too_long"),
            (Family::Vit, "task.0.prefix=a", "task.0.prefix"),
            (Family::Vit, "task.0.text=a", "task.0.text"),
            (Family::Vit, "model.temperature=1", "model.temperature"),
            (Family::Bert, "model.chat=smollm2", "model.chat"),
            (Family::Bert, "model.gradient_checkpointing=true", "model.gradient_checkpointing"),
            (Family::Bert, "task.0.test_labels=a", "task.0.test_labels"),
            (Family::Llama, "model.head=linear", "model.head"),
            (Family::Llama, "model.temperature=1", "model.temperature"),
        ] {
            // As a config has it that does not say what its base is.
            let mut config = read(family, &[change]);
            assert_eq!(config.idle(family).map(|(key, _)| key).as_deref(), Some(key), "{family:?}");
            config.tasks.truncate(1);
            config.tasks[0].prompt = None;
            config.tasks[0].choices = None;
            config.tasks[0].label_texts = [("a".to_owned(), "b".to_owned())].into();
            let pairs = (family == Family::Llama).then_some("task.0.label_texts");
            config.model = read(family, &[]).model;
            (config.tasks[0].prefix, config.tasks[0].test_labels) = Default::default();
            (config.tasks[0].text, config.tasks[0].label) = (default_text(), default_label());
            assert_eq!(config.idle(family).map(|(key, _)| key).as_deref(), pairs, "{family:?}");
        }
    }
}
