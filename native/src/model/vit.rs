//! From a Hugging Face folder to the core's model.

use eblora_core::backend::Activation;
use eblora_core::model::vit;

use super::vit_config::{Head, HiddenAct, Pooling};
use super::vit_folder::{LayerWeights, LinearWeights, NormWeights, VitFolder};
use super::vit_names::Site;

/// The extents of the model in a folder.
pub fn config(folder: &VitFolder) -> vit::VitConfig {
    let (file, pixels) = (&folder.config, &folder.preprocess);
    vit::VitConfig {
        hidden: file.hidden_size,
        layers: file.num_hidden_layers,
        heads: file.num_attention_heads,
        mlp: file.intermediate_size,
        channels: file.num_channels,
        image: file.image_size,
        patch: file.patch_size,
        classes: file.labels.len(),
        layer_norm_epsilon: file.layer_norm_eps,
        gelu: match file.hidden_act {
            HiddenAct::Gelu => Activation::Gelu,
            HiddenAct::GeluTanh => Activation::GeluTanh,
        },
        class_token: file.use_class_token,
        pooling: match file.pooling {
            Pooling::Cls => vit::Pooling::Class,
            Pooling::Mean => vit::Pooling::Mean,
        },
        head: match file.head {
            Head::Linear => vit::Head::Linear,
            Head::Prototype => vit::Head::Prototype { scale: file.logit_scale },
        },
        preprocess: vit::Preprocess {
            rescale: pixels.rescale_factor,
            mean: pixels.image_mean.clone(),
            std: pixels.image_std.clone(),
        },
    }
}

/// The weights of the model in a folder; its sites are named by layer and linear, such as `layers.0.q`.
pub fn weights(folder: &VitFolder) -> vit::VitWeights {
    let weights = &folder.weights;
    vit::VitWeights {
        patch: linear(&weights.patch_projection, &weights.patch_projection.file_name),
        position: weights.position.clone(),
        class_token: weights.class_token.clone(),
        blocks: weights.layers.iter().enumerate().map(|(i, layer)| block(i, layer)).collect(),
        norm: norm(&weights.final_norm),
        classifier: linear(&weights.classifier, &weights.classifier.file_name),
    }
}

fn block(index: usize, layer: &LayerWeights) -> vit::BlockWeights {
    let named = |site: Site| linear(layer.linear(site), &site.name(index));
    vit::BlockWeights {
        norm1: norm(&layer.ln1),
        query: named(Site::Q),
        key: named(Site::K),
        value: named(Site::V),
        output: named(Site::O),
        norm2: norm(&layer.ln2),
        fc1: named(Site::Fc1),
        fc2: named(Site::Fc2),
    }
}

fn linear(weights: &LinearWeights, name: &str) -> vit::LinearWeights {
    vit::LinearWeights { name: name.to_owned(), weight: weights.weight.clone(), bias: weights.bias.clone() }
}

fn norm(weights: &NormWeights) -> vit::NormWeights {
    vit::NormWeights { weight: weights.weight.clone(), bias: weights.bias.clone() }
}
