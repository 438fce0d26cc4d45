//! The names of an adapter's tensors.

/// What PEFT puts before a module's path.
const PREFIX: &str = "base_model.model.";

/// One of the two factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factor {
    /// `lora_A`, r×in.
    A,
    /// `lora_B`, out×r.
    B,
}

impl Factor {
    /// Its name in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
        }
    }

    /// The key of a module's factor: `base_model.model.<module>.lora_A.weight`.
    pub fn key(self, module: &str) -> String {
        format!("{PREFIX}{module}.{}.weight", self.name())
    }
}

/// The module and factor of a key, or what the key is instead. The adapter's name may stand in it
/// (`lora_A.default.weight`), and the prefix may be missing.
pub(super) fn parse(key: &str) -> Result<(&str, Factor), String> {
    let path = key.strip_prefix(PREFIX).unwrap_or(key);
    let instead = || Err(what_is(path).to_owned());
    let Some(path) = path.strip_suffix(".weight") else { return instead() };
    for factor in [Factor::A, Factor::B] {
        if let Some(module) = path.strip_suffix(factor.name()).and_then(|rest| rest.strip_suffix('.')) {
            return if module.is_empty() { instead() } else { Ok((module, factor)) };
        }
        if let Some((module, name)) = path.rsplit_once(&format!(".{}.", factor.name()))
            && !module.is_empty()
            && !name.is_empty()
            && !name.contains('.')
        {
            return Ok((module, factor));
        }
    }
    instead()
}

/// What people have in adapters that are no plain LoRA.
fn what_is(path: &str) -> &'static str {
    let known = [
        ("lora_magnitude_vector", "the magnitudes of a DoRA, which can't be used; merge it into the weights with PEFT"),
        ("lora_embedding_", "the LoRA of an embedding; only those of linear layers can be used"),
        ("modules_to_save", "a whole layer saved beside the LoRA, which can't be used"),
        ("lora_", "not a factor of a linear layer's LoRA, which is called lora_A.weight or lora_B.weight"),
        (".bias", "a trained bias, which can't be used"),
    ];
    let what = known.iter().find(|(part, _)| path.contains(part));
    what.map_or("not a part of a LoRA; only lora_A.weight and lora_B.weight of linear layers can be used", |(_, w)| w)
}

/// Orders names as people count: `layers.2` before `layers.10`.
pub(super) fn natural(name: &str) -> Vec<(u64, &str)> {
    name.split('.').map(|part| part.parse().map_or((u64::MAX, part), |number| (number, ""))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_and_go() {
        for factor in [Factor::A, Factor::B] {
            assert_eq!(parse(&factor.key("encoder.layer.0.q")), Ok(("encoder.layer.0.q", factor)));
        }
        assert_eq!(Factor::A.key("q"), "base_model.model.q.lora_A.weight");
        assert_eq!(parse("base_model.model.a.q.lora_B.default.weight"), Ok(("a.q", Factor::B)));
        assert_eq!(parse("a.q.lora_A.weight"), Ok(("a.q", Factor::A)));
    }

    #[test]
    fn other_keys_are_told_from_each_other() {
        for (key, part) in [
            ("base_model.model.q.lora_magnitude_vector", "DoRA"),
            ("base_model.model.q.lora_magnitude_vector.default.weight", "DoRA"),
            ("base_model.model.embed.lora_embedding_A", "embedding"),
            ("base_model.model.classifier.modules_to_save.weight", "whole layer"),
            ("base_model.model.q.lora_B.bias", "not a factor"),
            ("base_model.model.q.bias", "bias"),
            ("base_model.model.q.base_layer.weight", "not a part"),
            ("base_model.model.lora_A.weight", "not a factor"),
            ("base_model.model.q.lora_A.a.b.weight", "not a factor"),
            ("base_model.model.q.lora_C.weight", "not a factor"),
            ("", "not a part"),
        ] {
            let what = parse(key).unwrap_err();
            assert!(what.contains(part), "{key}: {what}");
        }
    }

    #[test]
    fn layers_are_counted() {
        let mut names = ["a.10.q", "a.2.q", "a.2.k", "b"];
        names.sort_by(|x, y| natural(x).cmp(&natural(y)));
        assert_eq!(names, ["a.2.k", "a.2.q", "a.10.q", "b"]);
    }
}
