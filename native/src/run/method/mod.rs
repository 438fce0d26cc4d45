//! The registry: from a method's name and settings to the method. A front that offers a new method adds it here.

mod make;
mod name;
#[cfg(all(test, feature = "cli"))]
mod tests;

pub use name::MethodName;

use eblora_core::adapter::DepthSchedule;
use serde::{Deserialize, Serialize};

use super::setting::{BetweenTasks, Convention, Initial, Tangent, WayBack};

/// A method with its settings; what is not set is the method's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodConfig {
    /// Which method.
    pub name: MethodName,
    /// What it is called in tables and folders; default: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Rank r.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// LoRA's α; default 2r.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// AdamW's rate of LoRA's A and B.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Samples of each earlier task that replay trains on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// What becomes of LoRA's adapter between tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between_tasks: Option<BetweenTasks>,
    /// Step of U and V at the peak of the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// What `step` means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convention: Option<Convention>,
    /// AdamW's rate of the magnitude s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s_rate: Option<f64>,
    /// s₀ in the first block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s_first: Option<f64>,
    /// s₀ in the last block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s_last: Option<f64>,
    /// Decoupled weight decay: of A and B, or of s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Where U₀ and V₀ come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Initial>,
    /// Tangent map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tangent: Option<Tangent>,
    /// Retraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retraction: Option<WayBack>,
    /// Every how many steps V is projected off M once more; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_period: Option<u32>,
    /// Share ε of the gradient's energy that the protected subspace keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Share of its energy that the subspace keeps of the gradient at the trained weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_epsilon: Option<f64>,
    /// Most protected directions a layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
    /// Share ε_w of the pretrained weight's energy that KeepLoRA keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_epsilon: Option<f64>,
    /// Share of the inputs' energy that InfLoRA keeps of the first task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lamb: Option<f64>,
    /// What that share grows towards over the tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lame: Option<f64>,
    /// O-LoRA's λ₁, of the overlap with earlier tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_penalty: Option<f64>,
    /// O-LoRA's λ₂, of the factors' norms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_penalty: Option<f64>,
    /// SEFE's λ, of the masked entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Share of a layer's entries that SEFE masks after each task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_share: Option<f64>,
    /// Share of the singular triplets that OSF freezes in the first task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_share: Option<f64>,
}

impl MethodConfig {
    /// A method with its default settings.
    ///
    /// ```
    /// use eblora::run::{MethodConfig, MethodName};
    /// let method = MethodConfig::new(MethodName::Eblora);
    /// assert_eq!(method.label(), "eblora");
    /// assert!(method.check().is_ok());
    /// ```
    pub fn new(name: MethodName) -> Self {
        Self {
            name,
            label: None,
            rank: None,
            alpha: None,
            rate: None,
            samples: None,
            between_tasks: None,
            step: None,
            convention: None,
            s_rate: None,
            s_first: None,
            s_last: None,
            weight_decay: None,
            init: None,
            tangent: None,
            retraction: None,
            drift_period: None,
            epsilon: None,
            trained_epsilon: None,
            budget: None,
            weight_epsilon: None,
            lamb: None,
            lame: None,
            overlap_penalty: None,
            norm_penalty: None,
            penalty: None,
            masked_share: None,
            frozen_share: None,
        }
    }

    /// What it is called in tables and folders.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(self.name.as_str())
    }

    /// Whether every setting is one of the method's, and in its range.
    ///
    /// # Errors
    /// The setting's key and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, reason: String| Err((key.to_owned(), reason));
        let keys = self.name.keys();
        // What is not set is not written.
        let given = serde_json::to_value(self).map_err(|error| ("name".to_owned(), error.to_string()))?;
        let foreign = |key: &&String| !["name", "label"].contains(&key.as_str()) && !keys.contains(&key.as_str());
        if let Some(key) = given.as_object().and_then(|given| given.keys().find(foreign)) {
            return Err((key.clone(), format!("is no setting of {}, which has {}", self.name, keys.join(", "))));
        }
        if self.label.as_ref().is_some_and(|label| !is_file_name(label)) {
            return wrong("label", FILE_NAME_RULE.to_owned());
        }
        for (key, count) in [("rank", self.rank), ("budget", self.budget), ("samples", self.samples)] {
            if count == Some(0) {
                return wrong(key, "0 is not in the range 1..".to_owned());
            }
        }
        let positive = [("alpha", self.alpha), ("rate", self.rate), ("step", self.step), ("s_rate", self.s_rate)];
        for (key, value) in positive {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return wrong(key, format!("{value} is not above 0"));
            }
        }
        let penalties =
            [("overlap_penalty", self.overlap_penalty), ("norm_penalty", self.norm_penalty), ("penalty", self.penalty)];
        for (key, value) in penalties {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v >= 0.0)) {
                return wrong(key, format!("{value} is not 0 or above"));
            }
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("frozen_share", self.frozen_share)] {
            if let Some(value) = value.filter(|v| !(0.0..1.0).contains(v)) {
                return wrong(key, format!("{value} is not in the range 0 ≤ {key} < 1"));
            }
        }
        for (key, value) in [
            ("epsilon", self.epsilon),
            ("trained_epsilon", self.trained_epsilon),
            ("weight_epsilon", self.weight_epsilon),
            ("lamb", self.lamb),
            ("lame", self.lame),
            ("masked_share", self.masked_share),
        ] {
            if let Some(value) = value.filter(|v| !(*v > 0.0 && *v <= 1.0)) {
                return wrong(key, format!("{value} is not in the range 0 < {key} ≤ 1"));
            }
        }
        let [first, last] = self.magnitudes();
        match DepthSchedule::new(first, last) {
            Ok(_) => Ok(()),
            Err(error) => wrong(if self.s_first.is_some() { "s_first" } else { "s_last" }, error.to_string()),
        }
    }
}

/// What [`is_file_name`] asks for.
pub(crate) const FILE_NAME_RULE: &str = "must be made of letters, digits, `-`, `_`, `+` and `.`, and begin with one of the \
    first two, and have at most 100 bytes: folders are named after it";

/// Whether a name can be a folder's on any system.
pub(crate) fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_+.".contains(c);
    name.len() <= 100 && name.starts_with(char::is_alphanumeric) && name.chars().all(plain)
}
