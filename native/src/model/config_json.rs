//! What the readers of all `config.json` share: which model a config is of.

use serde::Deserialize;

/// What a config is of instead, where it is not of the model type that is due.
pub(super) fn other_type(found: Option<&str>, due: &str) -> Option<String> {
    match found {
        Some(found) if found == due => None,
        Some(found) => Some(format!("the config of another model (`\"model_type\": \"{found}\"`)")),
        None => Some("no `model_type`".to_owned()),
    }
}

/// The model that a config is of.
#[derive(Deserialize)]
pub(super) struct Kind {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
}

impl Kind {
    /// What the config is of instead, where it is not of the model type that is due or of one architecture that does not
    /// fit.
    pub(super) fn other_than(&self, due: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
        other_type(self.model_type.as_deref(), due).or_else(|| match self.architectures.as_deref() {
            Some([only]) if !fits(only) => Some(format!("the config of a {only}")),
            _ => None,
        })
    }
}
