//! What travels inside the library: the images of the "mix" sequence and the base model.

use crate::Error;
use crate::formats::idx;
use crate::formats::safetensors::Tensors;
use crate::model::vit_config::{Preprocess, VitConfigFile};
use crate::model::vit_folder::VitFolder;

use eblora_core::model::vit::ImageSet;

macro_rules! asset {
    ($path:literal) => {
        (include_bytes!(concat!("../../assets/", $path)).as_slice(), $path)
    };
}

type Asset = (&'static [u8], &'static str);

/// Training and test images of one source, labels 0–9.
pub struct Source {
    /// 3,500 images: the first 3,000 to train on, the last 500 to validate on.
    pub train: ImageSet,
    /// 1,000 images.
    pub test: ImageSet,
}

/// The bundled part of MNIST.
pub fn mnist() -> Result<Source, Error> {
    Ok(Source {
        train: pair(asset!("mix/mnist-train-images-idx3-ubyte.gz"), asset!("mix/mnist-train-labels-idx1-ubyte.gz"))?,
        test: pair(asset!("mix/mnist-test-images-idx3-ubyte.gz"), asset!("mix/mnist-test-labels-idx1-ubyte.gz"))?,
    })
}

/// The bundled part of Fashion-MNIST.
pub fn fashion() -> Result<Source, Error> {
    Ok(Source {
        train: pair(
            asset!("mix/fashion-train-images-idx3-ubyte.gz"),
            asset!("mix/fashion-train-labels-idx1-ubyte.gz"),
        )?,
        test: pair(asset!("mix/fashion-test-images-idx3-ubyte.gz"), asset!("mix/fashion-test-labels-idx1-ubyte.gz"))?,
    })
}

/// The bundled base model: a small ViT pre-trained on MNIST.
pub fn base() -> Result<VitFolder, Error> {
    let (config, processor) = (asset!("base/config.json"), asset!("base/preprocessor_config.json"));
    let weights = asset!("base/model.safetensors");
    let config = VitConfigFile::from_bytes(config.0, config.1)?;
    let preprocess = Preprocess::from_bytes(processor.0, processor.1, config.num_channels)?;
    let tensors = Tensors::from_bytes(weights.0, weights.1)?;
    Ok(VitFolder::from_parts("bundled".to_owned(), config, preprocess, tensors)?)
}

fn pair(images: Asset, labels: Asset) -> Result<ImageSet, Error> {
    let (images, labels) = idx::read_pair(images, labels)?;
    Ok(ImageSet {
        channels: 1,
        height: images.height,
        width: images.width,
        pixels: images.pixels,
        labels: labels.into_iter().map(u32::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_whole_and_balanced() {
        for source in [mnist().unwrap(), fashion().unwrap()] {
            assert_eq!((source.train.len(), source.test.len()), (3500, 1000));
            assert_eq!((source.train.height, source.train.width), (28, 28));
            for label in 0..10 {
                let count = |set: &ImageSet| set.labels.iter().filter(|&&l| l == label).count();
                let part = |range| count(&source.train.slice(range));
                assert_eq!((part(0..3000), part(3000..3500), count(&source.test)), (300, 50, 100));
            }
        }
    }

    #[test]
    fn the_base_is_the_one_its_readme_describes() {
        let base = base().unwrap();
        assert_eq!((base.config.tokens(), base.config.labels.len(), base.adapted().count()), (16, 20, 24));
        assert_eq!((base.preprocess.image_mean[0], base.preprocess.image_std[0]), (0.2, 0.33));
        let p = &base.weights.classifier; // orthonormal prototypes
        for (i, a) in p.weight.chunks(p.cols).enumerate() {
            for (j, b) in p.weight.chunks(p.cols).enumerate() {
                let dot: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-5, "prototypes {i}, {j}: {dot}");
            }
        }
    }
}
