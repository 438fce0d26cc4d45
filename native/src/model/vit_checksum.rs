//! A checksum of a model: what tells one base from another of the same size.

use super::vit_folder::{LinearWeights, NormWeights, VitFolder};

/// CRC-32 of extents, preprocessing and all weights in f32; where the model lies does not count, nor in how many bits it is
/// stored.
pub fn checksum(folder: &VitFolder) -> u32 {
    let VitFolder { source: _, config, preprocess, weights } = folder;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(format!("{config:?} {preprocess:?}").as_bytes());
    let mut add = |values: &[f32]| values.iter().for_each(|x| hasher.update(&x.to_le_bytes()));
    let mut part = [0.0; 1024];
    let mut linear = |add: &mut dyn FnMut(&[f32]), l: &LinearWeights| {
        let (stored, total) = (l.weight.stored(), l.weight.stored().len());
        for first in (0..total).step_by(part.len()) {
            let part = &mut part[..(total - first).min(1024)];
            stored.unpack(first, part);
            add(part);
        }
        add(l.bias.as_deref().unwrap_or_default());
    };
    let norm = |add: &mut dyn FnMut(&[f32]), n: &NormWeights| {
        add(&n.weight);
        add(&n.bias);
    };
    linear(&mut add, &weights.patch_projection);
    add(&weights.position);
    add(weights.class_token.as_deref().unwrap_or_default());
    for layer in &weights.layers {
        for n in [&layer.ln1, &layer.ln2] {
            norm(&mut add, n);
        }
        for l in [&layer.q, &layer.k, &layer.v, &layer.o, &layer.fc1, &layer.fc2] {
            linear(&mut add, l);
        }
    }
    norm(&mut add, &weights.final_norm);
    linear(&mut add, &weights.classifier);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bundled;
    use eblora_core::model::HostValues;

    fn add_one(linear: &mut LinearWeights, place: usize) {
        let mut values = linear.weight.to_f32();
        values[place] += 1.0;
        linear.weight = HostValues::F32(values);
    }

    #[test]
    fn every_weight_counts_and_the_place_does_not() {
        let base = bundled::base().unwrap();
        let sum = checksum(&base);
        let changed = |change: fn(&mut VitFolder)| {
            let mut other = base.clone();
            change(&mut other);
            checksum(&other) != sum
        };
        assert!(!changed(|b| b.source = "elsewhere".to_owned()));
        assert!(changed(|b| b.config.layer_norm_eps *= 2.0));
        assert!(changed(|b| b.preprocess.rescale_factor *= 2.0));
        assert!(changed(|b| add_one(&mut b.weights.classifier, 0)));
        assert!(changed(|b| add_one(&mut b.weights.layers[3].fc2, 1500)));
        assert!(changed(|b| b.weights.layers[0].ln1.bias[0] += 1.0));
        assert!(changed(|b| b.weights.position[0] += 1.0));
        assert!(changed(|b| add_one(&mut b.weights.patch_projection, 0)));
    }
}
