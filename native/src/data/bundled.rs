//! The images of the "mix" sequence and the base model: what travels inside the library, or beside it on a web page.

use super::{DataError, images::ImageError};
use crate::Error;
use crate::formats::files::At;
use crate::formats::idx;
#[cfg(feature = "bundled")]
use crate::formats::{files::Files, mapped::SharedBytes};
use crate::model::vit_folder::VitFolder;

use eblora_core::model::vit::ImageSet;

/// Where the bundled base comes from, by its own account.
pub const BASE: &str = "bundled";
/// The files of the base, in the folder `base` of the assets.
pub const BASE_FILES: [&str; 3] = ["config.json", "preprocessor_config.json", "model.safetensors"];

/// Training and test images of one source, labels 0–9.
pub struct Source {
    /// 3,500 images: the first 3,000 to train on, the last 500 to validate on.
    pub train: ImageSet,
    /// 1,000 images.
    pub test: ImageSet,
}

/// What is bundled images of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// Digits.
    Mnist,
    /// Clothes.
    Fashion,
}

impl Images {
    /// The files, in the folder `mix` of the assets: images and labels to train on, images and labels to test.
    pub fn files(self) -> [&'static str; 4] {
        match self {
            Self::Mnist => [
                "mnist-train-images-idx3-ubyte.gz",
                "mnist-train-labels-idx1-ubyte.gz",
                "mnist-test-images-idx3-ubyte.gz",
                "mnist-test-labels-idx1-ubyte.gz",
            ],
            Self::Fashion => [
                "fashion-train-images-idx3-ubyte.gz",
                "fashion-train-labels-idx1-ubyte.gz",
                "fashion-test-images-idx3-ubyte.gz",
                "fashion-test-labels-idx1-ubyte.gz",
            ],
        }
    }

    /// Reads them in the folder `mix` of the assets.
    ///
    /// # Errors
    /// When a file is not there, or damaged.
    pub fn read(self, mix: &At) -> Result<Source, Error> {
        let [train, train_labels, test, test_labels] = self.files().map(|file| mix.join(file));
        Ok(Source { train: pair(&train, &train_labels)?, test: pair(&test, &test_labels)? })
    }
}

/// The base model in the folder `base` of the assets: a small ViT pre-trained on MNIST.
///
/// # Errors
/// When a file is not there, or damaged.
pub fn read_base(base: &At) -> Result<VitFolder, Error> {
    Ok(VitFolder { source: BASE.to_owned(), ..VitFolder::read(base)? })
}

/// The files inside of the library.
#[cfg(feature = "bundled")]
pub fn assets() -> Files {
    macro_rules! assets {
        ($($path:literal),+) => {
            [$(($path, SharedBytes::of_program(include_bytes!(concat!("../../assets/", $path))))),+]
        };
    }
    Files::new(assets![
        "base/config.json",
        "base/preprocessor_config.json",
        "base/model.safetensors",
        "mix/mnist-train-images-idx3-ubyte.gz",
        "mix/mnist-train-labels-idx1-ubyte.gz",
        "mix/mnist-test-images-idx3-ubyte.gz",
        "mix/mnist-test-labels-idx1-ubyte.gz",
        "mix/fashion-train-images-idx3-ubyte.gz",
        "mix/fashion-train-labels-idx1-ubyte.gz",
        "mix/fashion-test-images-idx3-ubyte.gz",
        "mix/fashion-test-labels-idx1-ubyte.gz"
    ])
}

/// The bundled part of MNIST.
#[cfg(feature = "bundled")]
pub fn mnist() -> Result<Source, Error> {
    Images::Mnist.read(&assets().at("mix"))
}

/// The bundled part of Fashion-MNIST.
#[cfg(feature = "bundled")]
pub fn fashion() -> Result<Source, Error> {
    Images::Fashion.read(&assets().at("mix"))
}

/// The bundled base model: a small ViT pre-trained on MNIST.
#[cfg(feature = "bundled")]
pub fn base() -> Result<VitFolder, Error> {
    read_base(&assets().at("base"))
}

fn pair(images: &At, labels: &At) -> Result<ImageSet, Error> {
    let read = |at: &At| at.map().map_err(|source| ImageError::Read { path: at.path().to_owned(), source });
    let name = |at: &At| at.path().display().to_string();
    let (image_bytes, label_bytes) = (read(images).map_err(DataError::from)?, read(labels).map_err(DataError::from)?);
    let (images, labels) = idx::read_pair((&image_bytes, &name(images)), (&label_bytes, &name(labels)))?;
    Ok(ImageSet {
        channels: 1,
        height: images.height,
        width: images.width,
        pixels: images.pixels,
        labels: labels.into_iter().map(u32::from).collect(),
    })
}

#[cfg(all(test, feature = "bundled"))]
mod tests {
    use super::*;
    use crate::model::vit_folder::LinearWeights;

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

    fn assert_orthonormal(prototypes: &LinearWeights) {
        let rows = prototypes.weight.to_f32();
        for (i, a) in rows.chunks(prototypes.cols).enumerate() {
            for (j, b) in rows.chunks(prototypes.cols).enumerate() {
                let dot: f32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-5, "prototypes {i}, {j}: {dot}");
            }
        }
    }

    #[test]
    fn the_base_is_the_one_its_readme_describes() {
        let base = base().unwrap();
        assert_eq!((base.config.tokens(), base.config.labels.len(), base.adapted().count()), (16, 20, 24));
        assert_eq!((base.preprocess.image_mean[0], base.preprocess.image_std[0]), (0.2, 0.33));
        assert_orthonormal(&base.weights.classifier);
    }

    #[test]
    fn new_classes_get_prototypes_orthonormal_to_the_others() {
        let mut base = base().unwrap();
        base.add_class("zigzag");
        base.add_class("spiral");
        let p = &base.weights.classifier;
        assert_eq!((p.rows, base.config.labels.len(), base.config.labels[21].as_str()), (22, 22, "spiral"));
        assert_orthonormal(p);
    }
}
