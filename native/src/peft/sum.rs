//! Several adapters as one: their plain sum, or a weighted one of smoothed updates. Ranks add up.

use std::collections::{BTreeMap, BTreeSet};

use eblora_core::adapter::{AdapterError, LoraAdapter, Smoothing, smoothing};

use super::{PeftAdapter, PeftError, PeftLayer};

/// One adapter for the sum of all: for each layer that any of them has, their factors side by side, with the scales in `B`.
///
/// # Errors
/// When there is none, or they don't fit together.
pub fn stack(adapters: &[PeftAdapter]) -> Result<PeftAdapter, PeftError> {
    if adapters.is_empty() {
        return Err(PeftError::Count { adapters: 0, weights: 0 });
    }
    combine(adapters, |parts| {
        let parts: Vec<_> = parts.iter().map(|(_, lora)| (*lora).clone()).collect();
        LoraAdapter::stack(&parts)
    })
}

/// One adapter for the weighted sum, each layer's updates first smoothed where that is asked for
/// ([`smoothing::merge`]). A layer that only some have is the sum of theirs.
///
/// # Errors
/// When there is not one weight for each adapter, or they don't fit together.
pub fn merge(adapters: &[PeftAdapter], weights: &[f32], smooth: Option<Smoothing>) -> Result<PeftAdapter, PeftError> {
    if adapters.is_empty() || adapters.len() != weights.len() {
        return Err(PeftError::Count { adapters: adapters.len(), weights: weights.len() });
    }
    combine(adapters, |parts| {
        let updates: Vec<_> = parts.iter().map(|(_, lora)| (*lora).clone()).collect();
        let weights: Vec<_> = parts.iter().map(|(adapter, _)| weights[*adapter]).collect();
        smoothing::merge(&updates, &weights, smooth)
    })
}

type Parts<'a> = Vec<(usize, &'a LoraAdapter<f32>)>;

/// Layer by layer, in the order of their first occurrence.
fn combine(
    adapters: &[PeftAdapter],
    one: impl Fn(&Parts<'_>) -> Result<LoraAdapter<f32>, AdapterError>,
) -> Result<PeftAdapter, PeftError> {
    check_bases(adapters)?;
    let (mut order, mut parts) = (Vec::new(), BTreeMap::<&str, Parts<'_>>::new());
    for (index, adapter) in adapters.iter().enumerate() {
        for PeftLayer { module, lora } in &adapter.layers {
            let of_module = parts.entry(module).or_insert_with(|| {
                order.push(module);
                Vec::new()
            });
            of_module.push((index, lora));
        }
    }
    let layer = |module: &String| match one(&parts[module.as_str()]) {
        Ok(lora) => Ok(PeftLayer { module: module.clone(), lora }),
        Err(source) => Err(PeftError::Layer { module: module.clone(), source }),
    };
    let layers = order.into_iter().map(layer).collect::<Result<_, PeftError>>()?;
    // What all say of themselves holds for the sum as well.
    let shared = |of: fn(&PeftAdapter) -> &Option<String>| {
        let first = adapters.first().and_then(|adapter| of(adapter).clone());
        first.filter(|name| adapters.iter().all(|adapter| of(adapter).as_ref() == Some(name)))
    };
    Ok(PeftAdapter { layers, base_model: shared(|a| &a.base_model), task_type: shared(|a| &a.task_type) })
}

fn modules(adapter: &PeftAdapter) -> BTreeSet<&str> {
    adapter.layers.iter().map(|layer| layer.module.as_str()).collect()
}

/// One model may be named by several paths, so that names alone tell nothing; but adapters whose bases have other names
/// and which share no layer are hardly of one model.
fn check_bases(adapters: &[PeftAdapter]) -> Result<(), PeftError> {
    let named = adapters.iter().filter(|adapter| !adapter.layers.is_empty());
    let named: Vec<_> = named.filter_map(|adapter| Some((adapter.base_model.as_ref()?, modules(adapter)))).collect();
    let mut strangers = None;
    for (i, (second, theirs)) in named.iter().enumerate() {
        for (first, ours) in named[..i].iter().filter(|(first, _)| first != second) {
            if !ours.is_disjoint(theirs) {
                return Ok(());
            }
            strangers.get_or_insert((*first, *second));
        }
    }
    match strangers {
        None => Ok(()),
        Some((first, second)) => Err(PeftError::OtherBase { first: first.clone(), second: second.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::faer::{Mat, Scale};
    use eblora_core::random::Random;

    fn adapter(seed: u64, layers: &[(&str, usize)]) -> PeftAdapter {
        let rng = &mut Random::new(seed, "sum");
        let layer = |(module, rank): &(&str, usize)| PeftLayer {
            module: (*module).to_owned(),
            lora: LoraAdapter::new(rng.normal_matrix(*rank, 5), rng.normal_matrix(4, *rank), 0.5).unwrap(),
        };
        PeftAdapter {
            layers: layers.iter().map(layer).collect(),
            base_model: Some("base".to_owned()),
            task_type: Some(format!("T{seed}")),
        }
    }

    fn delta(adapter: &PeftAdapter, module: &str) -> Mat<f32> {
        let layer = adapter.layers.iter().find(|layer| layer.module == module);
        layer.map_or_else(|| Mat::zeros(4, 5), |layer| layer.lora.delta())
    }

    #[test]
    fn sums_are_those_of_each_layer() {
        let all = [adapter(1, &[("q", 2), ("k", 1)]), adapter(2, &[("v", 3), ("q", 1)])];
        let weights = [2.0, -0.5];
        let (stacked, merged) = (stack(&all).unwrap(), merge(&all, &weights, None).unwrap());
        for module in ["q", "k", "v"] {
            let [one, two] = [0, 1].map(|i| delta(&all[i], module));
            assert!((delta(&stacked, module) - (&one + &two)).norm_max() < 1e-5);
            let weighted = one * Scale(weights[0]) + two * Scale(weights[1]);
            assert!((delta(&merged, module) - weighted).norm_max() < 1e-5);
        }
        assert_eq!(
            stacked.layers.iter().map(|l| (l.module.as_str(), l.lora.rank())).collect::<Vec<_>>(),
            [("q", 3), ("k", 1), ("v", 3)]
        );
        assert_eq!((stacked.base_model.as_deref(), stacked.task_type), (Some("base"), None));
        let smooth = merge(&all[..1], &[1.0], Some(Smoothing::Mean)).unwrap();
        let sigma = smooth.layers[0].lora.singular_values().unwrap();
        assert!((sigma[0] - sigma[1]).abs() < 1e-5 * sigma[0], "{sigma:?}");
    }

    #[test]
    fn adapters_of_other_bases_need_a_layer_in_common() {
        let of = |base: Option<&str>, layers| PeftAdapter { base_model: base.map(String::from), ..adapter(1, layers) };
        let (one, other) = (of(Some("bert"), &[("q", 2)]), of(Some("vit"), &[("k", 1)]));
        let message = merge(&[one.clone(), other.clone()], &[1.0, 1.0], None).unwrap_err().to_string();
        assert!(message.contains("for the base `bert`, another one for `vit`"), "{message}");
        assert!(matches!(stack(&[other, one.clone()]), Err(PeftError::OtherBase { .. })));
        // The same model at another path, one of unknown base, one that has shrunk to nothing.
        for fine in [of(Some("models/bert"), &[("k", 1), ("q", 1)]), of(None, &[("k", 1)]), of(Some("vit"), &[])] {
            stack(&[one.clone(), fine]).unwrap();
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut all = [adapter(1, &[("q", 2)]), adapter(2, &[("q", 1)])];
        assert!(matches!(stack(&[]), Err(PeftError::Count { .. })));
        assert!(matches!(merge(&[], &[], None), Err(PeftError::Count { .. })));
        let message = merge(&all, &[1.0], None).unwrap_err().to_string();
        assert!(message.starts_with("2 adapters and 1 weights"), "{message}");
        assert!(merge(&all, &[1.0, f32::NAN], None).unwrap_err().to_string().contains("`q`: weight holds NaN"));
        all[1].layers[0].lora.a = Mat::zeros(1, 6);
        assert!(stack(&all).unwrap_err().to_string().contains("`q`: A: expected a 1x5 matrix, got 1x6"));
    }
}
