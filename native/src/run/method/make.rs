//! From settings to the method that has them.

use std::collections::BTreeMap;

use eblora_core::adapter::DepthSchedule;
use eblora_core::backend::Backend;
use eblora_core::method::{
    Continuation, Eblora, EbloraConfig, InfLora, InfLoraConfig, KeepLora, KeepLoraConfig, LoraConfig, LoraFt, LoraGpm,
    LoraGpmConfig, Method, OLora, OLoraConfig, Osf, OsfConfig, Sefe, SefeConfig, Stella, StellaConfig,
};
use eblora_core::optim::RiemannianConfig;
use eblora_core::train::Regime;

use super::{MethodConfig, MethodName};

/// Samples of each earlier task that replay trains on, by default.
const REPLAYED: usize = 100;

impl MethodConfig {
    /// Its rank, set or not; 0 for a method whose adapters' rank is no setting.
    pub fn rank(&self) -> usize {
        self.rank.unwrap_or(match self.name {
            MethodName::LoraFt | MethodName::Individual | MethodName::MultiTask | MethodName::Replay => {
                LoraConfig::default().rank
            }
            MethodName::LoraGpm => LoraGpmConfig::default().rank,
            MethodName::OLora => OLoraConfig::default().rank,
            MethodName::Sefe => SefeConfig::default().rank,
            MethodName::Keeplora => KeepLoraConfig::default().rank,
            MethodName::Inflora => InfLoraConfig::default().rank,
            MethodName::Stella => StellaConfig::default().rank,
            MethodName::Osf => 0,
            MethodName::Ebo | MethodName::Eblora => EbloraConfig::default().rank,
            MethodName::EbloraPlus => EbloraConfig::plus().rank,
        })
    }

    /// The method itself.
    ///
    /// ```
    /// use eblora::core::{backend::Cpu, method::Method};
    /// use eblora::run::{MethodConfig, MethodName};
    /// let method = MethodConfig::new(MethodName::Ebo).make::<Cpu<f32>>();
    /// assert!(method.needs().gradients);
    /// ```
    pub fn make<B: Backend + 'static>(&self) -> Box<dyn Method<B>> {
        match self.name {
            MethodName::LoraFt | MethodName::Individual | MethodName::MultiTask | MethodName::Replay => {
                Box::new(LoraFt::new(self.lora()))
            }
            MethodName::LoraGpm => Box::new(LoraGpm::new(self.lora_gpm())),
            MethodName::OLora => Box::new(OLora::new(self.o_lora())),
            MethodName::Sefe => Box::new(Sefe::new(self.sefe())),
            MethodName::Keeplora => Box::new(KeepLora::new(self.keeplora())),
            MethodName::Inflora => Box::new(InfLora::new(self.inflora())),
            MethodName::Stella => Box::new(Stella::new(self.stella())),
            MethodName::Osf => Box::new(Osf::new(self.osf())),
            MethodName::Ebo | MethodName::Eblora | MethodName::EbloraPlus => Box::new(Eblora::new(self.balanced())),
        }
    }

    /// What its tasks are trained on.
    pub fn regime(&self) -> Regime {
        match self.name {
            MethodName::MultiTask => Regime::Joint,
            MethodName::Replay => Regime::Replay { samples: self.samples.unwrap_or(REPLAYED) },
            _ => Regime::Own,
        }
    }

    /// α, by default 2r.
    fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(2.0 * self.rank() as f64)
    }

    pub(super) fn lora(&self) -> LoraConfig {
        let default = LoraConfig::default();
        LoraConfig {
            rank: self.rank(),
            alpha: self.alpha(),
            rate: self.rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            continuation: match self.name {
                MethodName::Individual => Continuation::Individual,
                MethodName::MultiTask => Continuation::Continue,
                _ => self.between_tasks.map_or(default.continuation, Into::into),
            },
            ..default
        }
    }

    pub(super) fn lora_gpm(&self) -> LoraGpmConfig {
        let default = LoraGpmConfig::default();
        LoraGpmConfig {
            rank: self.rank(),
            alpha: self.alpha(),
            epsilon: self.epsilon.unwrap_or(default.epsilon),
            budget: self.budget.or(default.budget),
            rate: self.rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            ..default
        }
    }

    pub(super) fn o_lora(&self) -> OLoraConfig {
        let default = OLoraConfig::default();
        OLoraConfig {
            rank: self.rank(),
            alpha: self.alpha(),
            overlap_penalty: self.overlap_penalty.unwrap_or(default.overlap_penalty),
            norm_penalty: self.norm_penalty.unwrap_or(default.norm_penalty),
            rate: self.rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            ..default
        }
    }

    pub(super) fn sefe(&self) -> SefeConfig {
        let default = SefeConfig::default();
        SefeConfig {
            rank: self.rank(),
            alpha: self.alpha(),
            penalty: self.penalty.unwrap_or(default.penalty),
            share: self.masked_share.unwrap_or(default.share),
            rate: self.rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            ..default
        }
    }

    pub(super) fn keeplora(&self) -> KeepLoraConfig {
        let default = KeepLoraConfig::default();
        KeepLoraConfig {
            rank: self.rank(),
            alpha: self.alpha(),
            weight_epsilon: self.weight_epsilon.unwrap_or(default.weight_epsilon),
            epsilon: self.epsilon.unwrap_or(default.epsilon),
            rate: self.rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            ..default
        }
    }

    pub(super) fn inflora(&self) -> InfLoraConfig {
        let default = InfLoraConfig::default();
        InfLoraConfig {
            rank: self.rank(),
            lamb: self.lamb.unwrap_or(default.lamb),
            lame: self.lame.unwrap_or(default.lame),
            rate: self.rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            ..default
        }
    }

    pub(super) fn stella(&self) -> StellaConfig {
        let default = StellaConfig::default();
        StellaConfig {
            rank: self.rank(),
            alpha: self.alpha(),
            step: self.step.unwrap_or(default.step),
            convention: self.convention.map_or(default.convention, Into::into),
            rate: self.s_rate.unwrap_or(default.rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            geometry: self.geometry(default.geometry),
            ..default
        }
    }

    pub(super) fn osf(&self) -> OsfConfig {
        let default = OsfConfig::default();
        OsfConfig {
            share: self.frozen_share.unwrap_or(default.share),
            rate: self.rate.unwrap_or(default.rate),
            ..default
        }
    }

    pub(super) fn balanced(&self) -> EbloraConfig {
        let default = match self.name {
            MethodName::Ebo => EbloraConfig::ebo(),
            MethodName::EbloraPlus => EbloraConfig::plus(),
            _ => EbloraConfig::default(),
        };
        let [first, last] = self.magnitudes();
        EbloraConfig {
            rank: self.rank(),
            epsilon: default.epsilon.map(|epsilon| self.epsilon.unwrap_or(epsilon)),
            trained_epsilon: default.trained_epsilon.map(|epsilon| self.trained_epsilon.unwrap_or(epsilon)),
            budget: self.budget.or(default.budget),
            step: self.step.unwrap_or(default.step),
            convention: self.convention.map_or(default.convention, Into::into),
            magnitude_rate: self.s_rate.unwrap_or(default.magnitude_rate),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            depth: DepthSchedule::new(first, last).unwrap_or(default.depth), // checked before
            init: self.init.map_or(default.init, Into::into),
            geometry: self.geometry(default.geometry),
            ..default
        }
    }

    fn geometry(&self, default: RiemannianConfig) -> RiemannianConfig {
        RiemannianConfig {
            tangent: self.tangent.map_or(default.tangent, Into::into),
            retraction: self.retraction.map_or(default.retraction, Into::into),
            drift_period: self.drift_period.unwrap_or(default.drift_period),
        }
    }

    /// s₀ in the first and the last block.
    pub(super) fn magnitudes(&self) -> [f64; 2] {
        let default = DepthSchedule::default();
        [self.s_first.unwrap_or(default.min()), self.s_last.unwrap_or(default.max())]
    }

    /// The learning rates that it runs with, by name.
    pub fn learning_rates(&self) -> BTreeMap<String, f64> {
        let rates = match self.name {
            MethodName::LoraFt | MethodName::Individual | MethodName::MultiTask | MethodName::Replay => {
                vec![("lora", self.lora().rate)]
            }
            MethodName::LoraGpm => vec![("lora", self.lora_gpm().rate)],
            MethodName::OLora => vec![("lora", self.o_lora().rate)],
            MethodName::Sefe => vec![("lora", self.sefe().rate)],
            MethodName::Keeplora => vec![("lora", self.keeplora().rate)],
            MethodName::Inflora => vec![("lora", self.inflora().rate)],
            MethodName::Osf => vec![("singular", self.osf().rate)],
            MethodName::Stella => {
                let config = self.stella();
                vec![("relative step", config.step), ("s", config.rate)]
            }
            MethodName::Ebo | MethodName::Eblora | MethodName::EbloraPlus => {
                let config = self.balanced();
                vec![("relative step", config.step), ("s", config.magnitude_rate)]
            }
        };
        rates.into_iter().map(|(name, rate)| (name.to_owned(), rate)).collect()
    }
}
