//! Names, defaults, and the way of every setting to its method.

use super::*;
use clap::ValueEnum;
use eblora_core::backend::Cpu;
use eblora_core::manifold::{Retraction, TangentMap};
use eblora_core::method::{
    Continuation, EbloraConfig, InfLoraConfig, Init, KeepLoraConfig, LoraConfig, LoraGpmConfig, OLoraConfig, OsfConfig,
    SefeConfig, StellaConfig,
};
use eblora_core::optim::StepConvention;
use eblora_core::train::Regime;

#[test]
fn names_on_the_command_line_are_those_in_configs_and_results() {
    assert_eq!(MethodName::value_variants(), MethodName::ALL);
    for method in MethodName::ALL {
        assert_eq!(method.to_possible_value().unwrap().get_name(), method.as_str());
        assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
        // Some are LoRA on other data, or from another start.
        let lora = matches!(method, MethodName::Individual | MethodName::MultiTask | MethodName::Replay);
        let made = if lora { MethodName::LoraFt } else { method };
        assert_eq!(MethodConfig::new(method).make::<Cpu<f32>>().name(), made.as_str());
    }
}

#[test]
fn defaults_are_those_of_the_core() {
    assert_eq!(MethodConfig::new(MethodName::LoraFt).lora(), LoraConfig::default());
    assert_eq!(MethodConfig::new(MethodName::LoraGpm).lora_gpm(), LoraGpmConfig::default());
    assert_eq!(MethodConfig::new(MethodName::OLora).o_lora(), OLoraConfig::default());
    assert_eq!(MethodConfig::new(MethodName::Sefe).sefe(), SefeConfig::default());
    assert_eq!(MethodConfig::new(MethodName::Keeplora).keeplora(), KeepLoraConfig::default());
    assert_eq!(MethodConfig::new(MethodName::Inflora).inflora(), InfLoraConfig::default());
    assert_eq!(MethodConfig::new(MethodName::Stella).stella(), StellaConfig::default());
    assert_eq!(MethodConfig::new(MethodName::Osf).osf(), OsfConfig::default());
    assert_eq!(MethodConfig::new(MethodName::Ebo).balanced(), EbloraConfig::ebo());
    assert_eq!(MethodConfig::new(MethodName::Eblora).balanced(), EbloraConfig::default());
    assert_eq!(MethodConfig::new(MethodName::EbloraPlus).balanced(), EbloraConfig::plus());
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
    let plus = MethodConfig { name: MethodName::EbloraPlus, trained_epsilon: Some(0.7), ..eblora.clone() };
    assert_eq!(plus.check(), Ok(()));
    assert_eq!(plus.balanced(), EbloraConfig { trained_epsilon: Some(0.7), ..want });
    // The lists of keys name every field.
    let fields = serde_json::to_value(&eblora).unwrap();
    let known = |key: &String| key == "name" || MethodName::Eblora.keys().contains(&key.as_str());
    assert!(fields.as_object().unwrap().keys().all(known));
}

#[test]
fn the_settings_of_the_other_methods_reach_them() {
    let config = |name: &str, settings: &str| -> MethodConfig {
        let config: MethodConfig = toml::from_str(&format!("name = \"{name}\"\n{settings}")).unwrap();
        assert_eq!(config.check(), Ok(()), "{name}");
        // Every key of the method is set here, and none besides.
        let given = toml::Table::try_from(&config).unwrap();
        let mut keys: Vec<&str> = given.keys().map(String::as_str).filter(|key| *key != "name").collect();
        let mut known = config.name.keys().to_vec();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known, "{name}");
        config
    };
    const LORA: &str = "rank = 3\nalpha = 5.0\nrate = 0.1\nweight_decay = 0.5\n";
    let (rank, alpha, rate, weight_decay) = (3, 5.0, 0.1, 0.5);
    let adamw = eblora_core::optim::AdamWConfig::default();
    assert_eq!(
        config("lora-gpm", &format!("{LORA}epsilon = 0.9\nbudget = 7")).lora_gpm(),
        LoraGpmConfig { rank, alpha, rate, weight_decay, epsilon: 0.9, budget: Some(7), adamw }
    );
    assert_eq!(
        config("o-lora", &format!("{LORA}overlap_penalty = 0.2\nnorm_penalty = 0.3")).o_lora(),
        OLoraConfig { rank, alpha, rate, weight_decay, overlap_penalty: 0.2, norm_penalty: 0.3, adamw }
    );
    assert_eq!(
        config("sefe", &format!("{LORA}penalty = 9.0\nmasked_share = 0.3")).sefe(),
        SefeConfig { rank, alpha, rate, weight_decay, penalty: 9.0, share: 0.3, adamw }
    );
    assert_eq!(
        config("keeplora", &format!("{LORA}epsilon = 0.9\nweight_epsilon = 0.3")).keeplora(),
        KeepLoraConfig { rank, alpha, rate, weight_decay, epsilon: 0.9, weight_epsilon: 0.3, adamw }
    );
    assert_eq!(
        config("inflora", "rank = 3\nrate = 0.1\nweight_decay = 0.5\nlamb = 0.7\nlame = 0.8").inflora(),
        InfLoraConfig { rank, rate, weight_decay, lamb: 0.7, lame: 0.8, adamw }
    );
    let replay = config("replay", &format!("{LORA}samples = 7"));
    let want = LoraConfig { rank, alpha, rate, weight_decay, ..LoraConfig::default() };
    assert_eq!((replay.lora(), replay.regime()), (want, Regime::Replay { samples: 7 }));
    let joint = config("multi-task", LORA);
    let want = LoraConfig { continuation: Continuation::Continue, ..want };
    assert_eq!((joint.lora(), joint.regime()), (want, Regime::Joint));
    let alone = config("individual", LORA);
    let want = LoraConfig { continuation: Continuation::Individual, ..want };
    assert_eq!((alone.lora(), alone.regime()), (want, Regime::Own));
    let stella = "rank = 3\nalpha = 5.0\nstep = 0.2\nconvention = \"raw\"\ns_rate = 0.1\nweight_decay = 0.5\n\
                  tangent = \"canonical\"\nretraction = \"qr\"";
    let stella = config("stella", stella).stella();
    assert_eq!((stella.rank, stella.alpha, stella.rate, stella.weight_decay), (rank, alpha, rate, weight_decay));
    assert_eq!((stella.step, stella.convention), (0.2, StepConvention::Raw));
    assert_eq!((stella.geometry.tangent, stella.geometry.retraction), (TangentMap::Canonical, Retraction::Qr));
    assert_eq!(config("osf", "rate = 0.1\nfrozen_share = 0.3").osf(), OsfConfig { share: 0.3, rate, adamw });
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
    assert!(wrong(|c| c.epsilon = Some(1.5), MethodName::Eblora).contains("1.5 is not in the range 0 < epsilon ≤ 1"));
    assert_eq!(wrong(|c| c.penalty = Some(-1.0), MethodName::Sefe), "penalty -1 is not 0 or above");
    assert!(wrong(|c| c.lame = Some(0.0), MethodName::Inflora).contains("0 is not in the range 0 < lame ≤ 1"));
    assert!(wrong(|c| c.frozen_share = Some(1.0), MethodName::Osf).contains("0 ≤ frozen_share < 1"));
    assert!(wrong(|c| c.s_first = Some(1.0), MethodName::Ebo).starts_with("s_first "));
    assert!(wrong(|c| c.s_last = Some(-1.0), MethodName::Ebo).starts_with("s_last "));
    assert!(wrong(|c| c.weight_decay = Some(1.0), lora).starts_with("weight_decay 1 "));
    for label in ["", "../x", ".hidden", "a b", "a/b"] {
        let config = MethodConfig { label: Some(label.to_owned()), ..MethodConfig::new(lora) };
        assert_eq!(config.check().unwrap_err().0, "label", "{label:?}");
    }
}
