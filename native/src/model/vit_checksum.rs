//! A checksum of a model: what tells one base from another of the same size.

use eblora_core::backend::Stored;

use super::vit_folder::{LinearWeights, NormWeights, VitFolder};
use super::weights_checksum::WeightsChecksum;

/// CRC-32 of extents, preprocessing and all weights in f32; where the model lies does not count, nor in how many bits it is
/// stored.
pub fn checksum(folder: &VitFolder) -> u32 {
    let VitFolder { source: _, config, preprocess, weights } = folder;
    let mut sum = WeightsChecksum::new(&format!("{config:?} {preprocess:?}"));
    let linear = |sum: &mut WeightsChecksum, l: &LinearWeights| {
        sum.add(l.weight.stored());
        sum.add(Stored::F32(l.bias.as_deref().unwrap_or_default()));
    };
    let norm = |sum: &mut WeightsChecksum, n: &NormWeights| {
        sum.add(Stored::F32(&n.weight));
        sum.add(Stored::F32(&n.bias));
    };
    linear(&mut sum, &weights.patch_projection);
    sum.add(Stored::F32(&weights.position));
    sum.add(Stored::F32(weights.class_token.as_deref().unwrap_or_default()));
    for layer in &weights.layers {
        for n in [&layer.ln1, &layer.ln2] {
            norm(&mut sum, n);
        }
        for l in [&layer.q, &layer.k, &layer.v, &layer.o, &layer.fc1, &layer.fc2] {
            linear(&mut sum, l);
        }
    }
    norm(&mut sum, &weights.final_norm);
    linear(&mut sum, &weights.classifier);
    sum.finish()
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
