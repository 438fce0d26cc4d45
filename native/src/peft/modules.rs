//! Which linear layer a module's path means: the names that PEFT, transformers, weight files and we have for one.

use eblora_core::model::Site;

use super::{PeftError, PeftLayer};
use crate::model::vit_names::Site as VitSite;

/// What one model may have around another: names may differ by these, as `bert.encoder…` and `encoder…` do.
const WRAPPERS: [&str; 5] = ["base_model", "model", "bert", "vit", "auto_model"];

/// The module's path in transformers 5 of a site of ours: `layers.0.q` of a ViT is `vit.layers.0.attention.q_proj`. The
/// sites of the other models are called like their modules.
///
/// ```
/// use eblora::peft::module_of;
/// assert_eq!(module_of("layers.3.fc1"), "vit.layers.3.mlp.fc1");
/// assert_eq!(module_of("encoder.layer.3.output.dense"), "encoder.layer.3.output.dense");
/// ```
pub fn module_of(site: &str) -> String {
    let vit = block_number(site).and_then(|layer| {
        let ours = VitSite::ALL.into_iter().find(|s| s.name(layer) == site)?;
        Some(ours.transformers5(layer))
    });
    vit.unwrap_or_else(|| site.to_owned())
}

/// The first number in a path.
fn block_number(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}

/// A linear layer that an adapter's module may mean.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its module's path.
    pub module: String,
    /// All paths that it is known by.
    spellings: Vec<String>,
    /// Outputs and inputs.
    shape: (usize, usize),
}

impl Target {
    /// The layer at a site of a model of ours.
    pub fn site(site: &Site) -> Self {
        let module = module_of(&site.name);
        let spellings = if module == site.name { vec![module.clone()] } else { vit_spellings(&module) };
        Self { module, spellings, shape: (site.out, site.inp) }
    }

    #[cfg(feature = "cli")]
    /// The layer of a weight in a file, `name` without `.weight`.
    pub fn weight(name: &str, shape: (usize, usize), vit: bool) -> Self {
        let spellings = if vit { vit_spellings(name) } else { vec![name.to_owned()] };
        Self { module: spellings[0].clone(), spellings, shape }
    }
}

/// The names of a ViT's layer: that of transformers 5 first, then that of transformers 4, with `vit.` where `name` has it.
fn vit_spellings(name: &str) -> Vec<String> {
    let bare = |full: String| full.strip_prefix("vit.").unwrap_or(&full).to_owned();
    let known = block_number(name).and_then(|layer| {
        let all = VitSite::ALL.map(|site| [site.transformers5(layer), site.transformers4(layer)]);
        all.into_iter().find_map(|both| {
            let stripped = both.clone().map(bare);
            [both, stripped].into_iter().find(|spellings| spellings.iter().any(|s| s == name))
        })
    });
    known.map_or_else(|| vec![name.to_owned()], Vec::from)
}

/// Whether two paths differ by nothing but what stands around a model.
fn same_but_for_wrappers(x: &str, y: &str) -> bool {
    let (long, short) = if x.len() > y.len() { (x, y) } else { (y, x) };
    let around = long.strip_suffix(short).and_then(|around| around.strip_suffix('.'));
    around.is_some_and(|around| around.split('.').all(|part| WRAPPERS.contains(&part)))
}

/// Which of `targets` a module's path means; `place` names the model in errors.
pub(super) fn find(module: &str, targets: &[Target], place: &str) -> Result<usize, PeftError> {
    type Rule = fn(&str, &str) -> bool;
    let rules: [Rule; 2] = [|x, y| x == y, same_but_for_wrappers];
    for rule in rules {
        let mut fitting = (0..targets.len()).filter(|&i| targets[i].spellings.iter().any(|name| rule(module, name)));
        if let Some(found) = fitting.next() {
            return match fitting.next() {
                None => Ok(found),
                Some(other) => Err(PeftError::Ambiguous {
                    place: place.to_owned(),
                    module: module.to_owned(),
                    first: targets[found].module.clone(),
                    second: targets[other].module.clone(),
                }),
            };
        }
    }
    // The layer that resembles it most shows what is different.
    let alike = |target: &&Target| {
        let ends = target.module.bytes().rev().zip(module.bytes().rev());
        ends.take_while(|(x, y)| x == y).count()
    };
    let example = targets.iter().rev().max_by_key(alike).map_or("none", |target| &target.module).to_owned();
    Err(PeftError::NoModule { place: place.to_owned(), module: module.to_owned(), example })
}

/// The target of each layer: every one has its own, of its own shape.
pub(super) fn assign(layers: &[PeftLayer], targets: &[Target], place: &str) -> Result<Vec<usize>, PeftError> {
    let mut taken: Vec<Option<&str>> = vec![None; targets.len()];
    let mut found = Vec::with_capacity(layers.len());
    for PeftLayer { module, lora } in layers {
        let index = find(module, targets, place)?;
        let target = &targets[index];
        if let Some(first) = taken[index].replace(module) {
            return Err(PeftError::Twice {
                place: place.to_owned(),
                first: first.to_owned(),
                second: module.clone(),
                target: target.module.clone(),
            });
        }
        let shape = (lora.outputs(), lora.inputs());
        if shape != target.shape {
            let (place, module) = (place.to_owned(), module.clone());
            return Err(PeftError::Misfit { place, module, found: shape, due: target.shape });
        }
        found.push(index);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::adapter::LoraAdapter;
    use eblora_core::faer::Mat;

    fn targets(names: &[&str]) -> Vec<Target> {
        let site = |name: &&str| Site { name: (*name).to_owned(), out: 2, inp: 3, depth: 0 };
        names.iter().map(|name| Target::site(&site(name))).collect()
    }

    const BERT: [&str; 3] =
        ["encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense", "encoder.layer.10.output.dense"];

    #[test]
    fn names_of_any_origin_are_found() {
        let vit = targets(&["layers.0.q", "layers.0.fc2", "layers.10.fc2"]);
        for (name, index) in [
            ("vit.layers.0.attention.q_proj", 0),
            ("vit.encoder.layer.0.attention.attention.query", 0),
            ("layers.0.attention.q_proj", 0),
            ("encoder.layer.10.output.dense", 2),
            ("model.vit.layers.0.mlp.fc2", 1),
        ] {
            assert_eq!(find(name, &vit, "m").unwrap(), index, "{name}");
        }
        let bert = targets(&BERT);
        assert_eq!(find("bert.encoder.layer.0.output.dense", &bert, "m").unwrap(), 1);
        let under: Vec<_> = BERT.iter().map(|name| format!("bert.{name}")).collect();
        let under: Vec<_> = under.iter().map(String::as_str).collect();
        assert_eq!(find(BERT[2], &targets(&under), "m").unwrap(), 2);
        let weight = Target::weight("vit.encoder.layer.1.attention.attention.key", (2, 3), true);
        assert_eq!(weight.module, "vit.layers.1.attention.k_proj");
        let weight = Target::weight("encoder.layer.1.intermediate.dense", (2, 3), true);
        assert_eq!(weight.module, "layers.1.mlp.fc1");
        assert_eq!(Target::weight("classifier", (2, 3), true).module, "classifier");
    }

    #[test]
    fn what_could_be_several_or_none_is_an_error() {
        let bert = targets(&BERT);
        let message = |name: &str, targets: &[Target]| find(name, targets, "model m").unwrap_err().to_string();
        for name in ["output.dense", "ncoder.layer.0.output.dense", "decoder.encoder.layer.0.output.dense", "query"] {
            let message = message(name, &bert);
            assert!(message.starts_with(&format!("model m: nothing is called `{name}`")), "{message}");
            assert!(message.contains("; an example of what is: `encoder.layer."), "{message}");
        }
        assert!(message("layers.0.mlp.fc2", &bert).contains("nothing is called"), "a BERT is no ViT");
        let both = targets(&["bert.encoder.q", "model.encoder.q"]);
        assert!(message("encoder.q", &both).contains("could be `bert.encoder.q` or `model.encoder.q`"));
        assert!(message("x", &[]).contains("`none`"));
    }

    #[test]
    fn each_layer_has_its_own_target_of_its_shape() {
        let layer = |module: &str, out| PeftLayer {
            module: module.to_owned(),
            lora: LoraAdapter::new(Mat::zeros(1, 3), Mat::zeros(out, 1), 1.0).unwrap(),
        };
        let bert = targets(&BERT);
        assert_eq!(assign(&[layer(BERT[2], 2), layer(BERT[0], 2)], &bert, "m").unwrap(), [2, 0]);
        let twice = assign(&[layer(BERT[2], 2), layer(&format!("bert.{}", BERT[2]), 2)], &bert, "m");
        assert!(twice.unwrap_err().to_string().contains("both mean `encoder.layer.10.output.dense`"));
        let misfit = assign(&[layer(BERT[2], 4)], &bert, "m").unwrap_err().to_string();
        assert!(misfit.contains("is 4x3, but the layer is 2x3: the adapter of another model"), "{misfit}");
    }
}
