//! `adapter_config.json`: which rank and scale each layer has, and which settings would change what a LoRA computes.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use regex::Regex;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PeftAdapter, PeftError};
use crate::formats::json;

/// Settings that make something else of a LoRA than `W x + scale·B·A x`, where they are set; and what they are.
const REFUSED: [(&str, &str); 13] = [
    ("fan_in_fan_out", "updates of weights that are stored in×out (GPT-2's Conv1D) can't be used"),
    ("modules_to_save", "whole layers were trained and saved beside the LoRA; only the LoRA itself can be used"),
    ("use_dora", "a DoRA also scales whole columns of the weights; merge it into the weights with PEFT"),
    ("lora_bias", "biases of lora_B can't be used"),
    ("use_qalora", "a QA-LoRA pools its inputs and can't be used"),
    ("use_bdlora", "a block-diagonal LoRA can't be used"),
    ("layer_replication", "a model with replicated layers can't be used"),
    ("target_parameters", "updates of parameters that are no linear layer can't be used"),
    ("trainable_token_indices", "trained tokens can't be used"),
    ("alora_invocation_tokens", "an aLoRA is active from a token on and can't be used"),
    ("arrow_config", "routed adapters can't be used"),
    ("kasa_config", "a KaSA changes the weights and can't be used"),
    ("monteclora_config", "a MonteCLoRA samples its update and can't be used"),
];

/// Initialisations after which the base is no longer the base: PEFT repeats them when it loads the adapter.
const CHANGING_BASE: [&str; 5] = ["pissa", "corda", "olora", "loftq", "mica"];

/// What is used of the file.
#[derive(Debug)]
pub(super) struct Config {
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// `task_type`.
    pub task_type: Option<String>,
    /// Whether `target_modules` is there and empty: an adapter without layers.
    pub targets_nothing: bool,
}

#[derive(Deserialize)]
struct Raw {
    r: Option<usize>,
    lora_alpha: Option<f64>,
    use_rslora: Option<bool>,
    rank_pattern: Option<Ordered<usize>>,
    alpha_pattern: Option<Ordered<f64>>,
    bias: Option<String>,
    init_lora_weights: Option<Value>,
    target_modules: Option<Value>,
    base_model_name_or_path: Option<String>,
    task_type: Option<String>,
}

impl Config {
    /// Parses and checks the file's content; `file` names it in errors.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self, PeftError> {
        let fault =
            |key: &str, reason: String| PeftError::Config { file: file.to_owned(), key: key.to_owned(), reason };
        let all: serde_json::Map<String, Value> = parse(bytes, file)?;
        // The type first: a config of another kind should not be told off for a key that a LoRA needs.
        match all.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => return Err(fault("peft_type", format!("is {other:?}; only \"LORA\" can be read"))),
            None => return Err(fault("peft_type", "is missing; a PEFT config has it, and \"LORA\" is due".to_owned())),
        }
        let raw: Raw = parse(bytes, file)?;
        let missing = |key: &str| fault(key, "is missing: the scale lora_alpha / r can't be told; add it".to_owned());
        let rank = raw.r.ok_or_else(|| missing("r"))?;
        let alpha = raw.lora_alpha.ok_or_else(|| missing("lora_alpha"))?;
        if let Some(bias) = raw.bias.filter(|bias| bias != "none") {
            return Err(fault(
                "bias",
                format!("is {bias:?}; adapters with trained biases can't be used, only \"none\""),
            ));
        }
        let set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
            _ => true,
        };
        if let Some((key, what)) = REFUSED.iter().find(|(key, _)| all.get(*key).is_some_and(set)) {
            return Err(fault(key, (*what).to_owned()));
        }
        let init = raw.init_lora_weights.as_ref().and_then(Value::as_str).unwrap_or_default();
        if CHANGING_BASE.iter().any(|name| init.to_lowercase().starts_with(name)) {
            let reason = "has changed the base's weights as well; save the adapter with PEFT's \
                          path_initial_model_for_weight_conversion";
            return Err(fault("init_lora_weights", format!("{init:?} {reason}")));
        }
        let targets_nothing = matches!(&raw.target_modules, Some(Value::Array(list)) if list.is_empty());
        Ok(Self {
            rank,
            alpha,
            rank_stabilised: raw.use_rslora.unwrap_or(false),
            ranks: patterns(raw.rank_pattern).map_err(|reason| fault("rank_pattern", reason))?,
            alphas: patterns(raw.alpha_pattern).map_err(|reason| fault("alpha_pattern", reason))?,
            base_model: raw.base_model_name_or_path.filter(|name| !name.is_empty()),
            task_type: raw.task_type,
            targets_nothing,
        })
    }

    /// The rank that a module's factors must have.
    pub fn rank(&self, module: &str) -> usize {
        first(&self.ranks, module).unwrap_or(self.rank)
    }

    /// The factor of a module's `B·A`: α/r, or α/√r for a rank-stabilised LoRA.
    pub fn scale(&self, module: &str) -> f32 {
        let (alpha, rank) = (first(&self.alphas, module).unwrap_or(self.alpha), self.rank(module) as f64);
        (alpha / if self.rank_stabilised { rank.sqrt() } else { rank }) as f32
    }
}

/// The value of the first pattern that matches, as PEFT takes it.
fn first<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, value)| *value)
}

/// PEFT's rule: a regular expression for a module's whole path, or its last part after a dot.
fn patterns<T>(entries: Option<Ordered<T>>) -> Result<Vec<(Regex, T)>, String> {
    let compile = |(pattern, value): (String, T)| match Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")) {
        Ok(regex) => Ok((regex, value)),
        Err(_) => Err(format!("{pattern:?} is no regular expression that can be used")),
    };
    entries.map_or(Ok(Vec::new()), |entries| entries.0.into_iter().map(compile).collect())
}

/// Parses JSON, or tells at which key it is not what is expected.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], file: &Path) -> Result<T, PeftError> {
    json::parse(bytes).map_err(|(path, reason)| PeftError::Json { file: file.to_owned(), path, reason })
}

/// The entries of an object in the order of the file, which decides between patterns.
#[derive(Debug)]
struct Ordered<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
        map.end()
    }
}

/// The file that makes stock PEFT scale every layer by exactly 1.
pub(super) fn to_json(adapter: &PeftAdapter) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct File<'a> {
        peft_type: &'static str,
        task_type: Option<&'a str>,
        base_model_name_or_path: Option<&'a str>,
        inference_mode: bool,
        r: usize,
        lora_alpha: usize,
        lora_dropout: f64,
        rank_pattern: &'a Ordered<usize>,
        alpha_pattern: &'a Ordered<usize>,
        target_modules: Vec<&'a str>,
        bias: &'static str,
        fan_in_fan_out: bool,
    }
    let r = commonest_rank(adapter);
    let others = exceptions(adapter, r);
    let file = File {
        peft_type: "LORA",
        task_type: adapter.task_type.as_deref(),
        base_model_name_or_path: adapter.base_model.as_deref(),
        inference_mode: true,
        r,
        lora_alpha: r,
        lora_dropout: 0.0,
        rank_pattern: &others,
        alpha_pattern: &others,
        target_modules: adapter.layers.iter().map(|layer| layer.module.as_str()).collect(),
        bias: "none",
        fan_in_fan_out: false,
    };
    Ok(serde_json::to_string_pretty(&file)? + "\n")
}

/// The rank of most layers, the larger of two as frequent ones.
fn commonest_rank(adapter: &PeftAdapter) -> usize {
    let ranks = || adapter.layers.iter().map(|layer| layer.lora.rank());
    let count = |rank: usize| ranks().filter(|r| *r == rank).count();
    ranks().max_by_key(|&rank| (count(rank), rank)).unwrap_or(1)
}

/// The layers of other ranks. A full path is also a pattern for what ends with it; those that end with another's path come
/// first, with their own rank, as the first match decides.
fn exceptions(adapter: &PeftAdapter, r: usize) -> Ordered<usize> {
    let ends_with_another = |module: &str| {
        let tails = module.match_indices('.').map(|(dot, _)| &module[dot + 1..]);
        tails.into_iter().any(|tail| adapter.layers.iter().any(|layer| layer.module == tail))
    };
    let mut entries: Vec<_> = (adapter.layers.iter())
        .filter(|layer| layer.lora.rank() != r || ends_with_another(&layer.module))
        .map(|layer| (layer.module.clone(), layer.lora.rank()))
        .collect();
    if entries.iter().all(|(_, rank)| *rank == r) {
        entries.clear();
    }
    entries.sort_by_key(|(module, _)| std::cmp::Reverse(module.len()));
    Ordered(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peft::PeftLayer;
    use eblora_core::adapter::LoraAdapter;
    use eblora_core::faer::Mat;

    fn read(json: &str) -> Result<Config, PeftError> {
        Config::from_bytes(json.as_bytes(), Path::new("adapter_config.json"))
    }

    fn refused(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn scales_are_pefts() {
        let plain = read(r#"{"peft_type":"LORA","r":8,"lora_alpha":16,"unknown":{"a":1}}"#).unwrap();
        assert_eq!((plain.rank("x"), plain.scale("x")), (8, 2.0));
        let stable = read(r#"{"peft_type":"LORA","r":16,"lora_alpha":2.0,"use_rslora":true}"#).unwrap();
        assert_eq!(stable.scale("x"), 0.5);
    }

    #[test]
    fn patterns_match_as_in_peft_and_the_first_one_wins() {
        // Not in alphabetical order: the file's own decides.
        let config = read(
            r#"{"peft_type":"LORA","r":8,"lora_alpha":16,
                "rank_pattern":{"z.*\\.q":2,"^layers.0.q":3,"q":4,"[kv]":5},"alpha_pattern":{"v":10}}"#,
        )
        .unwrap();
        let rank = |module: &str| config.rank(module);
        assert_eq!((rank("zebra.q"), rank("a.z1.b.q"), rank("layers.0.q"), rank("m.layers.0.q")), (2, 2, 3, 4));
        assert_eq!((rank("q"), rank("a.q"), rank("a.qq"), rank("a.q.b")), (4, 4, 8, 8));
        assert_eq!((rank("a.k"), rank("a.v"), config.scale("a.v"), config.scale("a.k")), (5, 5, 2.0, 3.2));
    }

    #[test]
    fn what_would_be_computed_otherwise_is_refused() {
        let with = |extra: &str| refused(&format!(r#"{{"peft_type":"LORA","r":8,"lora_alpha":16,{extra}}}"#));
        for (key, _) in REFUSED {
            for value in ["true", "[1]", r#"{"a":1}"#, r#""x""#] {
                let message = with(&format!(r#""{key}":{value}"#));
                assert!(message.starts_with(&format!("adapter_config.json: `{key}`: ")), "{message}");
            }
            for value in ["null", "false", "[]", "{}"] {
                read(&format!(r#"{{"peft_type":"LORA","r":8,"lora_alpha":16,"{key}":{value}}}"#)).unwrap();
            }
        }
        assert!(with(r#""bias":"all""#).contains("`bias`: is \"all\""));
        assert!(with(r#""init_lora_weights":"pissa_niter_4""#).contains("`init_lora_weights`: \"pissa_niter_4\" has"));
        assert!(with(r#""rank_pattern":{"(":3}"#).contains("`rank_pattern`: \"(\" is no regular expression"));
        assert!(with(r#""rank_pattern":{"q":"x"}"#).contains("at `rank_pattern.q`"));
        assert!(with(r#""use_rslora":3"#).contains("at `use_rslora`"));
        assert!(refused("{").contains("adapter_config.json: at `"));
        assert!(refused(r#"{"r":1}"#).contains("`peft_type`: is missing"));
        assert!(refused(r#"{"peft_type":"IA3"}"#).contains("`peft_type`: is \"IA3\"; only \"LORA\""));
        assert!(refused(r#"{"peft_type":"LORA","r":8}"#).contains("`lora_alpha`: is missing"));
        assert!(refused(r#"{"peft_type":"LORA","lora_alpha":8}"#).contains("`r`: is missing"));
    }

    #[test]
    fn what_is_written_has_scale_1_everywhere() {
        let layer = |module: &str, rank| PeftLayer {
            module: module.into(),
            lora: LoraAdapter::new(Mat::zeros(rank, 4), Mat::zeros(4, rank), 1.0).unwrap(),
        };
        let layers = [("layers.0.q", 2), ("layers.0.k", 4), ("layers.1.k", 4), ("decoder.layers.0.q", 4), ("x", 3)];
        let adapter = PeftAdapter {
            layers: layers.map(|(module, rank)| layer(module, rank)).into(),
            base_model: Some("base".into()),
            task_type: Some("SEQ_CLS".into()),
        };
        let json = to_json(&adapter).unwrap();
        let config = read(&json).unwrap();
        for (module, rank) in layers {
            assert_eq!((config.rank(module), config.scale(module)), (rank, 1.0), "{module}");
        }
        assert_eq!((config.base_model.as_deref(), config.task_type.as_deref()), (Some("base"), Some("SEQ_CLS")));
        let values: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&values["r"], &values["lora_alpha"]), (&4.into(), &4.into()));
        assert_eq!((&values["bias"], &values["inference_mode"]), (&"none".into(), &true.into()));
        assert_eq!(values["target_modules"].as_array().unwrap().len(), 5);
        let even = PeftAdapter { layers: vec![layer("a.q", 4), layer("q", 4)], ..PeftAdapter::default() };
        let values: Value = serde_json::from_str(&to_json(&even).unwrap()).unwrap();
        assert_eq!((&values["rank_pattern"], &values["task_type"]), (&Value::Object(Default::default()), &Value::Null));
    }
}
