//! The settings of a demo run, and what makes them possible.

use eblora_core::train::{Fact, GradientOrigin, TrainConfig};
use serde::{Deserialize, Serialize};

use super::DemoError;
use crate::data::mix::Task;
use crate::device::Device;
use crate::model::vit_folder::VitFolder;
use crate::run::{MOST_SAMPLES, MOST_STEPS, MOST_THREADS, MethodConfig, MethodName};

/// Where the gradient for initialisation and subspace is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum GradientAt {
    /// At the base model, as the paper's authors do.
    Base,
    /// At the model with all earlier tasks merged in.
    #[default]
    Merged,
}

impl From<GradientAt> for GradientOrigin {
    fn from(at: GradientAt) -> Self {
        match at {
            GradientAt::Base => Self::Base,
            GradientAt::Merged => Self::Merged,
        }
    }
}

impl GradientAt {
    /// The name on the command line and in `result.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Merged => "merged",
        }
    }
}

/// The images that accuracies are measured on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The test images: for reports.
    #[default]
    Test,
    /// The validation images: for choosing settings.
    Validation,
}

impl Split {
    /// The name on the command line and in `result.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Validation => "validation",
        }
    }
}

/// Learning rates that replace the methods' defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// AdamW's rate of the factors of LoRA and its relatives, and of OSF.
    pub lora: Option<f64>,
    /// AdamW's rate of the magnitude s, or of the matrix S.
    pub s: Option<f64>,
    /// Relative step ‖Δ‖/‖X‖ of U and V at the peak of the schedule.
    pub relative_step: Option<f64>,
}

/// The settings of a demo run.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoConfig {
    /// Seed of data order, sketches and initialisation.
    pub seed: u64,
    /// The methods, in the order of the report.
    pub methods: Vec<MethodName>,
    /// Rank r of each adapter; `None`: each method's own default.
    pub rank: Option<usize>,
    /// Share ε of the gradient's energy that the subspace keeps, 0 < ε ≤ 1.
    pub epsilon: f64,
    /// Most directions that the subspace keeps a layer.
    pub budget: Option<usize>,
    /// Steps per task.
    pub steps: usize,
    /// Images per step.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Where the gradient is taken.
    pub gradient_at: GradientAt,
    /// What accuracies are measured on.
    pub split: Split,
    /// Measure on so many images of each task at most.
    pub test_images: Option<usize>,
    /// Learning rates other than the defaults.
    pub rates: Rates,
    /// Where to compute.
    pub device: Device,
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            methods: vec![MethodName::LoraFt, MethodName::Ebo, MethodName::Eblora],
            rank: None,
            epsilon: 0.99,
            budget: None,
            steps: 150,
            batch: 32,
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS),
            gradient_at: GradientAt::default(),
            split: Split::default(),
            test_images: None,
            rates: Rates::default(),
            device: Device::default(),
        }
    }
}

impl DemoConfig {
    /// A method with these settings.
    pub fn method(&self, name: MethodName) -> MethodConfig {
        let Rates { lora, s, relative_step } = self.rates;
        // Each setting to the methods that have it.
        let own = |key, value: Option<f64>| value.filter(|_| name.has(key));
        MethodConfig {
            rank: self.rank.filter(|_| name.has("rank")),
            rate: own("rate", lora),
            s_rate: own("s_rate", s),
            step: own("step", relative_step),
            epsilon: own("epsilon", Some(self.epsilon)),
            budget: self.budget.filter(|_| name.has("budget")),
            ..MethodConfig::new(name)
        }
    }

    /// What is the same for every method.
    pub fn train(&self) -> TrainConfig {
        TrainConfig {
            steps: self.steps,
            batch: self.batch,
            seed: self.seed,
            gradient_origin: self.gradient_at.into(),
            // Looking at the factors costs nothing on the CPU; a GPU would have to wait for it.
            audit_every: usize::from(self.device == Device::Cpu),
            facts: vec![Fact::new("split", self.split.as_str())],
            ..TrainConfig::default()
        }
    }

    /// Checks each setting, and that the base in `folder` suits the tasks.
    pub fn check<'a>(&self, tasks: impl IntoIterator<Item = &'a Task>, folder: &VitFolder) -> Result<(), DemoError> {
        self.check_ranges()?;
        self.check_rank(folder)?;
        tasks.into_iter().try_for_each(|task| check_fit(task, folder))
    }

    fn check_ranges(&self) -> Result<(), DemoError> {
        if self.methods.is_empty() {
            return Err(DemoError::NoMethod);
        }
        if let Some((i, method)) = self.methods.iter().enumerate().find(|(i, m)| self.methods[..*i].contains(m)) {
            debug_assert!(i > 0);
            return Err(DemoError::MethodTwice(*method));
        }
        let range = |setting, value: String, range: String| Err(DemoError::Range { setting, value, range });
        for (setting, value, most) in [
            ("rank", self.rank.unwrap_or(1), usize::MAX),
            ("steps", self.steps, MOST_STEPS),
            ("batch", self.batch, MOST_SAMPLES),
            ("budget", self.budget.unwrap_or(1), usize::MAX),
            ("test images", self.test_images.unwrap_or(1), usize::MAX),
            ("threads", self.threads, MOST_THREADS),
        ] {
            if !(1..=most).contains(&value) {
                let end = if most == usize::MAX { String::new() } else { format!("={most}") };
                return range(setting, value.to_string(), format!("1..{end}"));
            }
        }
        if !(self.epsilon > 0.0 && self.epsilon <= 1.0) {
            return range("epsilon", self.epsilon.to_string(), "0 < epsilon ≤ 1".to_owned());
        }
        for (setting, rate) in
            [("lora rate", self.rates.lora), ("s rate", self.rates.s), ("relative step", self.rates.relative_step)]
        {
            if let Some(rate) = rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
                return range(setting, rate.to_string(), "above 0".to_owned());
            }
        }
        Ok(())
    }

    fn check_rank(&self, folder: &VitFolder) -> Result<(), DemoError> {
        let largest = self.methods.iter().map(|&name| self.method(name).rank()).max();
        let rank = self.rank.or(largest).unwrap_or(0);
        match folder.adapted().find(|(_, _, linear)| rank > linear.rows.min(linear.cols)) {
            None => Ok(()),
            Some((layer, site, linear)) => {
                Err(DemoError::Rank { rank, site: site.name(layer), rows: linear.rows, cols: linear.cols })
            }
        }
    }
}

fn check_fit(task: &Task, folder: &VitFolder) -> Result<(), DemoError> {
    let (config, base, name) = (&folder.config, || folder.source.clone(), || task.name.clone());
    for set in [&task.train, &task.validation, &task.test] {
        let size = |c: usize, h: usize, w: usize| format!("{c}×{h}×{w}");
        let takes = size(config.num_channels, config.image_size, config.image_size);
        let has = size(set.channels, set.height, set.width);
        if takes != has {
            return Err(DemoError::Images { base: base(), takes, task: name(), has });
        }
        let needs = set.labels.iter().max().map_or(0, |&label| label as usize + 1);
        if needs > config.labels.len() {
            return Err(DemoError::Labels { base: base(), has: config.labels.len(), task: name(), needs });
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use crate::data::{bundled, mix};
    use clap::ValueEnum;

    #[test]
    fn the_defaults_suit_the_bundle_and_other_settings_are_named() {
        let (tasks, mut base) = (mix::tasks().unwrap(), bundled::base().unwrap());
        let default = DemoConfig::default();
        default.check(&tasks, &base).unwrap();
        let message = |config: DemoConfig| config.check(&tasks, &base).unwrap_err().to_string();
        let with = |change: fn(&mut DemoConfig)| {
            let mut config = default.clone();
            change(&mut config);
            message(config)
        };
        assert_eq!(with(|c| c.rank = Some(0)), "rank 0 is not in the range 1..");
        assert_eq!(
            with(|c| c.rank = Some(97)),
            "rank 97 is more than `layers.0.q` (96×96) of the base has; choose at most 96"
        );
        assert_eq!(with(|c| c.threads = 1000), "threads 1000 is not in the range 1..=256");
        assert_eq!(with(|c| c.steps = 1 << 40), "steps 1099511627776 is not in the range 1..=10000000");
        assert_eq!(with(|c| c.budget = Some(0)), "budget 0 is not in the range 1..");
        assert!(with(|c| c.epsilon = f64::NAN).contains("0 < epsilon ≤ 1"));
        assert!(with(|c| c.rates.s = Some(-1.0)).contains("s rate -1"));
        assert_eq!(with(|c| c.methods.push(MethodName::Ebo)), "the method ebo is named twice");
        assert_eq!(with(|c| c.methods.clear()), "no method is named");
        base.config.labels.truncate(10);
        assert!(
            default.check(&tasks, &base).unwrap_err().to_string().contains("has 10 labels, but task fashion needs 20")
        );
        base.config.image_size = 32;
        assert!(default.check(&tasks, &base).unwrap_err().to_string().contains("takes images of 1×32×32"));
    }

    #[test]
    fn each_method_has_rates_of_its_own_and_flags_replace_them() {
        let rates = |config: &DemoConfig, name| config.method(name).learning_rates().into_iter().collect::<Vec<_>>();
        let pairs = |pairs: &[(&str, f64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect::<Vec<_>>();
        let default = DemoConfig::default();
        assert_eq!(rates(&default, MethodName::LoraFt), pairs(&[("lora", 1.22e-3)]));
        assert_eq!(rates(&default, MethodName::Ebo), pairs(&[("relative step", 0.4), ("s", 4e-3)]));
        assert_eq!(rates(&default, MethodName::Eblora), pairs(&[("relative step", 0.4), ("s", 9e-3)]));
        let own = Rates { lora: Some(1e-4), s: Some(2e-3), relative_step: Some(0.1) };
        let given = DemoConfig { rates: own, ..default };
        assert_eq!(rates(&given, MethodName::LoraFt), pairs(&[("lora", 1e-4)]));
        for name in [MethodName::Ebo, MethodName::Eblora] {
            assert_eq!(rates(&given, name), pairs(&[("relative step", 0.1), ("s", 2e-3)]));
        }
        assert!(MethodName::ALL.iter().all(|name| given.method(*name).check().is_ok()));
    }

    #[test]
    fn each_method_has_its_own_rank_unless_one_is_given() {
        let default = DemoConfig::default();
        for name in MethodName::ALL {
            assert_eq!(default.method(name).rank(), MethodConfig::new(name).rank(), "{name}");
            let given = DemoConfig { rank: Some(5), ..default.clone() }.method(name);
            assert_eq!(given.rank, name.has("rank").then_some(5), "{name}");
        }
        let ranks = default.methods.iter().map(|&name| default.method(name).rank());
        assert!(ranks.eq([8, 8, 8]), "the three of the first table");
        assert_eq!(default.method(MethodName::EbloraPlus).rank(), 32);
    }

    #[test]
    fn names_on_the_command_line_are_those_in_results() {
        for at in GradientAt::value_variants() {
            assert_eq!(at.to_possible_value().unwrap().get_name(), at.as_str());
        }
        for split in Split::value_variants() {
            assert_eq!(split.to_possible_value().unwrap().get_name(), split.as_str());
        }
    }
}
