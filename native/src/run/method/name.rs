//! The methods by name, and which settings each has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A method that can be run by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// LoRA, one fresh adapter a task, merged after it.
    LoraFt,
    /// LoRA on each task alone, from the base anew: what each could be at best without the others.
    Individual,
    /// One LoRA on the samples of all tasks together.
    MultiTask,
    /// LoRA on each task's samples and some of every earlier task.
    Replay,
    /// LoRA with A off the gradient subspace of earlier tasks.
    LoraGpm,
    /// LoRA with A pushed to be orthogonal to those of earlier tasks.
    OLora,
    /// LoRA that is kept from the entries that earlier tasks changed most: SEFE's RegLoRA.
    Sefe,
    /// B of LoRA alone, with A from the gradient off what the weight and earlier tasks use.
    Keeplora,
    /// B of LoRA alone, with A from the inputs off those of earlier tasks.
    Inflora,
    /// U·S·Vᵀ with both subspaces on the Stiefel manifold.
    Stella,
    /// The part of each weight with the least singular values, trained off the other.
    Osf,
    /// Energy-balanced: s·U·Vᵀ with orthonormal factors, no protection of earlier tasks.
    Ebo,
    /// EBO with V orthogonal to the gradient subspace of earlier tasks.
    Eblora,
    /// EBLoRA that protects the gradient directions at the trained weights too.
    EbloraPlus,
}

/// The settings of LoRA and its relatives; what follows is each one's own.
macro_rules! lora {
    ($($own:literal),*) => { &["rank", "alpha", "rate", "weight_decay", $($own),*] };
}

impl MethodName {
    /// Every method.
    pub const ALL: [Self; 14] = [
        Self::LoraFt,
        Self::Individual,
        Self::MultiTask,
        Self::Replay,
        Self::LoraGpm,
        Self::OLora,
        Self::Sefe,
        Self::Keeplora,
        Self::Inflora,
        Self::Stella,
        Self::Osf,
        Self::Ebo,
        Self::Eblora,
        Self::EbloraPlus,
    ];

    /// The name on the command line, in configs and in `result.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoraFt => "lora-ft",
            Self::Individual => "individual",
            Self::MultiTask => "multi-task",
            Self::Replay => "replay",
            Self::LoraGpm => "lora-gpm",
            Self::OLora => "o-lora",
            Self::Sefe => "sefe",
            Self::Keeplora => "keeplora",
            Self::Inflora => "inflora",
            Self::Stella => "stella",
            Self::Osf => "osf",
            Self::Ebo => "ebo",
            Self::Eblora => "eblora",
            Self::EbloraPlus => "eblora-plus",
        }
    }

    /// Whether its factors stay orthonormal.
    pub fn is_balanced(self) -> bool {
        matches!(self, Self::Ebo | Self::Eblora | Self::EbloraPlus | Self::Stella)
    }

    /// Whether it protects a subspace M.
    pub fn has_memory(self) -> bool {
        matches!(self, Self::LoraGpm | Self::Keeplora | Self::Inflora | Self::Eblora | Self::EbloraPlus)
    }

    /// The settings of [`MethodConfig`](super::MethodConfig) that it has beside `name` and `label`.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::LoraFt => lora!["between_tasks"],
            Self::Individual | Self::MultiTask => lora![],
            Self::Replay => lora!["samples"],
            Self::LoraGpm => lora!["epsilon", "budget"],
            Self::OLora => lora!["overlap_penalty", "norm_penalty"],
            Self::Sefe => lora!["penalty", "masked_share"],
            Self::Keeplora => lora!["epsilon", "weight_epsilon"],
            Self::Inflora => &["rank", "rate", "weight_decay", "lamb", "lame"],
            Self::Stella => &["rank", "alpha", "step", "convention", "s_rate", "weight_decay", "tangent", "retraction"],
            Self::Osf => &["rate", "frozen_share"],
            Self::Ebo => &BALANCED[..11],
            Self::Eblora => &BALANCED[..13],
            Self::EbloraPlus => &BALANCED,
        }
    }

    /// Whether it has this setting.
    pub fn has(self, key: &str) -> bool {
        self.keys().contains(&key)
    }
}

/// The settings of balanced methods; the last three are of those with a memory, the very last of EBLoRA-plus.
const BALANCED: [&str; 14] = [
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
    "trained_epsilon",
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
