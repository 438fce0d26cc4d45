//! The registry: from a method's name and the demo's settings to the method.

use eblora_core::backend::Backend;
use eblora_core::method::{Eblora, EbloraConfig, LoraConfig, LoraFt, Method};

use super::{DemoConfig, MethodName};

/// The method called `name`, with the settings of `config`.
pub fn method<B>(name: MethodName, config: &DemoConfig) -> Box<dyn Method<B> + Send>
where
    B: Backend<Tensor: Send, Subspaces: Send, Scratch: Send> + 'static,
{
    match name {
        MethodName::LoraFt => Box::new(LoraFt::new(lora(config))),
        MethodName::Ebo => Box::new(Eblora::new(eblora(config).ebo())),
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

fn eblora(config: &DemoConfig) -> EbloraConfig {
    let default = EbloraConfig::default();
    EbloraConfig {
        rank: config.rank,
        epsilon: Some(config.epsilon),
        step: config.rates.relative_step.unwrap_or(default.step),
        magnitude_rate: config.rates.s.unwrap_or(default.magnitude_rate),
        ..default
    }
}

/// The learning rates that a method runs with, by name.
pub(super) fn learning_rates(name: MethodName, config: &DemoConfig) -> Vec<(&'static str, f64)> {
    match name {
        MethodName::LoraFt => vec![("lora", lora(config).rate)],
        MethodName::Ebo | MethodName::Eblora => {
            let config = eblora(config);
            vec![("relative step", config.step), ("s", config.magnitude_rate)]
        }
    }
}
