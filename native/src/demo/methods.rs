//! The registry: from a method's name and the demo's settings to the method.

use eblora_core::backend::Backend;
use eblora_core::method::{Eblora, EbloraConfig, LoraConfig, LoraFt, Method};

use super::{DemoConfig, MethodName};

/// The method called `name`, with the settings of `config`.
pub fn method<B>(name: MethodName, config: &DemoConfig) -> Box<dyn Method<B>>
where
    B: Backend + 'static,
{
    match name {
        MethodName::LoraFt => Box::new(LoraFt::new(lora(config))),
        MethodName::Ebo => Box::new(Eblora::new(ebo(config))),
        MethodName::Eblora => Box::new(Eblora::new(eblora(config))),
    }
}

fn lora(config: &DemoConfig) -> LoraConfig {
    let default = LoraConfig::default();
    LoraConfig {
        rank: config.rank,
        alpha: 2.0 * config.rank as f64,
        rate: config.rates.lora.unwrap_or(default.rate),
        ..default
    }
}

fn ebo(config: &DemoConfig) -> EbloraConfig {
    balanced(EbloraConfig::ebo(), config)
}

fn eblora(config: &DemoConfig) -> EbloraConfig {
    balanced(EbloraConfig { epsilon: Some(config.epsilon), ..EbloraConfig::default() }, config)
}

/// A method's own defaults under the settings that EBO and EBLoRA share.
fn balanced(default: EbloraConfig, config: &DemoConfig) -> EbloraConfig {
    EbloraConfig {
        rank: config.rank,
        step: config.rates.relative_step.unwrap_or(default.step),
        magnitude_rate: config.rates.s.unwrap_or(default.magnitude_rate),
        ..default
    }
}

/// The learning rates that a method runs with, by name.
pub(super) fn learning_rates(name: MethodName, config: &DemoConfig) -> Vec<(&'static str, f64)> {
    let balanced = |config: EbloraConfig| vec![("relative step", config.step), ("s", config.magnitude_rate)];
    match name {
        MethodName::LoraFt => vec![("lora", lora(config).rate)],
        MethodName::Ebo => balanced(ebo(config)),
        MethodName::Eblora => balanced(eblora(config)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rates;
    use super::*;

    #[test]
    fn each_method_has_rates_of_its_own_and_flags_replace_them() {
        let default = DemoConfig::default();
        assert_eq!(learning_rates(MethodName::LoraFt, &default), [("lora", 1.22e-3)]);
        assert_eq!(learning_rates(MethodName::Ebo, &default), [("relative step", 0.4), ("s", 4e-3)]);
        assert_eq!(learning_rates(MethodName::Eblora, &default), [("relative step", 0.4), ("s", 9e-3)]);
        let rates = Rates { lora: Some(1e-4), s: Some(2e-3), relative_step: Some(0.1) };
        let given = DemoConfig { rates, ..default };
        assert_eq!(learning_rates(MethodName::LoraFt, &given), [("lora", 1e-4)]);
        for name in [MethodName::Ebo, MethodName::Eblora] {
            assert_eq!(learning_rates(name, &given), [("relative step", 0.1), ("s", 2e-3)]);
        }
    }
}
