//! The registry: from a method's name and settings to the method. A front that offers a new method adds it here.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use eblora_core::adapter::DepthSchedule;
use eblora_core::backend::Backend;
use eblora_core::method::{Eblora, EbloraConfig, LoraConfig, LoraFt, Method};
use serde::{Deserialize, Serialize};

use super::setting::{BetweenTasks, Convention, Initial, Tangent, WayBack};

/// A method that can be run by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// LoRA, one fresh adapter a task, merged after it.
    LoraFt,
    /// Energy-balanced: s·U·Vᵀ with orthonormal factors, no protection of earlier tasks.
    Ebo,
    /// EBO with V orthogonal to the gradient subspace of earlier tasks.
    Eblora,
}

impl MethodName {
    /// Every method.
    pub const ALL: [Self; 3] = [Self::LoraFt, Self::Ebo, Self::Eblora];

    /// The name on the command line, in configs and in `result.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoraFt => "lora-ft",
            Self::Ebo => "ebo",
            Self::Eblora => "eblora",
        }
    }

    /// Whether its factors stay orthonormal.
    pub fn is_balanced(self) -> bool {
        self != Self::LoraFt
    }

    /// Whether it protects a subspace M.
    pub fn has_memory(self) -> bool {
        self == Self::Eblora
    }

    /// The settings of [`MethodConfig`] that it has beside `name` and `label`.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::LoraFt => &["rank", "alpha", "rate", "weight_decay", "between_tasks"],
            Self::Ebo => &BALANCED[..11],
            Self::Eblora => &BALANCED,
        }
    }
}

/// The settings of balanced methods; the last two are of those with a memory.
const BALANCED: [&str; 13] = [
    "rank",
    "step",
    "convention",
    "s_rate",
    "s_first",
    "s_last",
    "weight_decay",
    "init",
    "tangent",
    "retraction",
    "drift_period",
    "epsilon",
    "budget",
];

impl AsRef<str> for MethodName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
    /// Most protected directions a layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
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
            budget: None,
        }
    }

    /// What it is called in tables and folders.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(self.name.as_str())
    }

    /// Its rank, set or not.
    pub fn rank(&self) -> usize {
        self.rank.unwrap_or(match self.name {
            MethodName::LoraFt => LoraConfig::default().rank,
            MethodName::Ebo | MethodName::Eblora => EbloraConfig::default().rank,
        })
    }

    /// The method itself.
    ///
    /// ```
    /// use eblora::core::{backend::Cpu, method::Method};
    /// use eblora::run::{MethodConfig, MethodName};
    /// let method = MethodConfig::new(MethodName::Ebo).make::<Cpu<f32>>();
    /// assert!(method.needs_gradients());
    /// ```
    pub fn make<B: Backend + 'static>(&self) -> Box<dyn Method<B>> {
        match self.name {
            MethodName::LoraFt => Box::new(LoraFt::new(self.lora())),
            MethodName::Ebo | MethodName::Eblora => Box::new(Eblora::new(self.balanced())),
        }
    }

    fn lora(&self) -> LoraConfig {
        let default = LoraConfig::default();
        LoraConfig {
            rank: self.rank(),
            alpha: self.alpha.unwrap_or(2.0 * self.rank() as f64),
            rate: self.rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            continuation: self.between_tasks.map_or(default.continuation, Into::into),
            ..default
        }
    }

    fn balanced(&self) -> EbloraConfig {
        let default = match self.name {
            MethodName::Ebo => EbloraConfig::ebo(),
            _ => EbloraConfig::default(),
        };
        let [first, last] = self.magnitudes();
        let geometry = default.geometry;
        EbloraConfig {
            rank: self.rank(),
            epsilon: default.epsilon.map(|epsilon| self.epsilon.unwrap_or(epsilon)),
            budget: self.budget.or(default.budget),
            step: self.step.unwrap_or(default.step),
            convention: self.convention.map_or(default.convention, Into::into),
            magnitude_rate: self.s_rate.unwrap_or(default.magnitude_rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            depth: DepthSchedule::new(first, last).unwrap_or(default.depth), // checked before
            init: self.init.map_or(default.init, Into::into),
            geometry: eblora_core::optim::RiemannianConfig {
                tangent: self.tangent.map_or(geometry.tangent, Into::into),
                retraction: self.retraction.map_or(geometry.retraction, Into::into),
                drift_period: self.drift_period.unwrap_or(geometry.drift_period),
            },
            ..default
        }
    }

    /// s₀ in the first and the last block.
    fn magnitudes(&self) -> [f64; 2] {
        let default = DepthSchedule::default();
        [self.s_first.unwrap_or(default.min()), self.s_last.unwrap_or(default.max())]
    }

    /// The learning rates that it runs with, by name.
    pub fn learning_rates(&self) -> BTreeMap<String, f64> {
        let rates = match self.name {
            MethodName::LoraFt => vec![("lora", self.lora().rate)],
            MethodName::Ebo | MethodName::Eblora => {
                let config = self.balanced();
                vec![("relative step", config.step), ("s", config.magnitude_rate)]
            }
        };
        rates.into_iter().map(|(name, rate)| (name.to_owned(), rate)).collect()
    }

    /// Whether every setting is one of the method's, and in its range.
    ///
    /// # Errors
    /// The setting's key and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, reason: String| Err((key.to_owned(), reason));
        let keys = self.name.keys();
        // What is not set is not written.
        let given = toml::Table::try_from(self).map_err(|error| ("name".to_owned(), error.to_string()))?;
        let foreign = |key: &&String| !["name", "label"].contains(&key.as_str()) && !keys.contains(&key.as_str());
        if let Some(key) = given.keys().find(foreign) {
            return Err((key.clone(), format!("is no setting of {}, which has {}", self.name, keys.join(", "))));
        }
        if self.label.as_ref().is_some_and(|label| !is_file_name(label)) {
            return wrong("label", FILE_NAME_RULE.to_owned());
        }
        for (key, count) in [("rank", self.rank), ("budget", self.budget)] {
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
        if let Some(decay) = self.weight_decay.filter(|d| !(0.0..1.0).contains(d)) {
            return wrong("weight_decay", format!("{decay} is not in the range 0 ≤ weight_decay < 1"));
        }
        if let Some(epsilon) = self.epsilon.filter(|e| !(*e > 0.0 && *e <= 1.0)) {
            return wrong("epsilon", format!("{epsilon} is not in the range 0 < epsilon ≤ 1"));
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
    first two: folders are named after it";

/// Whether a name can be a folder's on any system.
pub(crate) fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_+.".contains(c);
    name.len() <= 100 && name.starts_with(char::is_alphanumeric) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::backend::Cpu;
    use eblora_core::manifold::{Retraction, TangentMap};
    use eblora_core::method::{Continuation, Init};
    use eblora_core::optim::StepConvention;

    #[test]
    fn names_on_the_command_line_are_those_in_configs_and_results() {
        assert_eq!(MethodName::value_variants(), MethodName::ALL);
        for method in MethodName::ALL {
            assert_eq!(method.to_possible_value().unwrap().get_name(), method.as_str());
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
            assert_eq!(MethodConfig::new(method).make::<Cpu<f32>>().name(), method.as_str());
        }
    }

    #[test]
    fn defaults_are_those_of_the_core() {
        assert_eq!(MethodConfig::new(MethodName::LoraFt).lora(), LoraConfig::default());
        assert_eq!(MethodConfig::new(MethodName::Ebo).balanced(), EbloraConfig::ebo());
        assert_eq!(MethodConfig::new(MethodName::Eblora).balanced(), EbloraConfig::default());
    }

    #[test]
    fn every_setting_reaches_the_method_that_has_it() {
        let base = |name| MethodConfig { rank: Some(3), weight_decay: Some(0.5), ..MethodConfig::new(name) };
        let lora = MethodConfig {
            alpha: Some(5.0),
            rate: Some(0.1),
            between_tasks: Some(BetweenTasks::Continue),
            ..base(MethodName::LoraFt)
        };
        assert_eq!(lora.check(), Ok(()));
        let want = LoraConfig {
            rank: 3,
            alpha: 5.0,
            rate: 0.1,
            weight_decay: 0.5,
            continuation: Continuation::Continue,
            ..LoraConfig::default()
        };
        assert_eq!(lora.lora(), want);
        let eblora = MethodConfig {
            step: Some(0.1),
            convention: Some(Convention::Raw),
            s_rate: Some(0.2),
            s_first: Some(0.0),
            s_last: Some(0.5),
            init: Some(Initial::Random),
            tangent: Some(Tangent::Canonical),
            retraction: Some(WayBack::Qr),
            drift_period: Some(7),
            epsilon: Some(0.9),
            budget: Some(5),
            ..base(MethodName::Eblora)
        };
        assert_eq!(eblora.check(), Ok(()));
        let want = EbloraConfig {
            rank: 3,
            epsilon: Some(0.9),
            budget: Some(5),
            step: 0.1,
            convention: StepConvention::Raw,
            magnitude_rate: 0.2,
            weight_decay: 0.5,
            depth: DepthSchedule::new(0.0, 0.5).unwrap(),
            init: Init::Random,
            geometry: eblora_core::optim::RiemannianConfig {
                tangent: TangentMap::Canonical,
                retraction: Retraction::Qr,
                drift_period: 7,
            },
            ..EbloraConfig::default()
        };
        assert_eq!(eblora.balanced(), want);
        // The lists of keys name every field.
        let fields = serde_json::to_value(&eblora).unwrap();
        let known = |key: &String| key == "name" || MethodName::Eblora.keys().contains(&key.as_str());
        assert!(fields.as_object().unwrap().keys().all(known));
    }

    #[test]
    fn wrong_settings_are_named() {
        let wrong = |change: fn(&mut MethodConfig), name| {
            let mut config = MethodConfig::new(name);
            change(&mut config);
            let (key, what) = config.check().unwrap_err();
            format!("{key} {what}")
        };
        let lora = MethodName::LoraFt;
        assert_eq!(
            wrong(|c| c.epsilon = Some(0.9), lora),
            "epsilon is no setting of lora-ft, which has rank, alpha, rate, weight_decay, between_tasks"
        );
        assert!(wrong(|c| c.epsilon = Some(0.9), MethodName::Ebo).starts_with("epsilon is no setting of ebo"));
        assert_eq!(wrong(|c| c.rank = Some(0), lora), "rank 0 is not in the range 1..");
        assert_eq!(wrong(|c| c.rate = Some(f64::NAN), lora), "rate NaN is not above 0");
        assert_eq!(wrong(|c| c.s_rate = Some(-1.0), MethodName::Ebo), "s_rate -1 is not above 0");
        assert!(
            wrong(|c| c.epsilon = Some(1.5), MethodName::Eblora).contains("1.5 is not in the range 0 < epsilon ≤ 1")
        );
        assert!(wrong(|c| c.s_first = Some(1.0), MethodName::Ebo).starts_with("s_first "));
        assert!(wrong(|c| c.s_last = Some(-1.0), MethodName::Ebo).starts_with("s_last "));
        assert!(wrong(|c| c.weight_decay = Some(1.0), lora).starts_with("weight_decay 1 "));
        for label in ["", "../x", ".hidden", "a b", "a/b"] {
            let config = MethodConfig { label: Some(label.to_owned()), ..MethodConfig::new(lora) };
            assert_eq!(config.check().unwrap_err().0, "label", "{label:?}");
        }
    }
}
