//! Images on the host and their way into patches.

use alloc::vec::Vec;

use super::VitConfig;
use crate::Real;
use crate::model::Samples;

/// Labelled images of one size, as bytes: n × channels × height × width.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet {
    /// Channels of each image.
    pub channels: usize,
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// All pixels.
    pub pixels: Vec<u8>,
    /// A class for each image.
    pub labels: Vec<u32>,
}

impl ImageSet {
    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Image `i`: channels × height × width bytes.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, i: usize) -> &[u8] {
        let len = self.image_len();
        &self.pixels[i * len..][..len]
    }
}

impl Samples for ImageSet {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
}

/// Writes an image's patches, row by row of patches, each as channels × patch × patch (the order of a flattened
/// convolution weight), normalised. A class token's row stays as it is.
pub fn patchify<T: Real>(dst: &mut [T], image: &[u8], config: &VitConfig) {
    let (p, side, len) = (config.patch, config.image / config.patch, config.patch_values());
    let dst = &mut dst[usize::from(config.class_token) * len..];
    for c in 0..config.channels {
        let scale = config.preprocess.rescale / config.preprocess.std[c];
        let shift = config.preprocess.mean[c] / config.preprocess.std[c];
        let channel = &image[c * config.image * config.image..];
        for y in 0..config.image {
            for x in 0..config.image {
                let at = ((y / p) * side + x / p) * len + c * p * p + (y % p) * p + x % p;
                dst[at] = T::of(f64::from(channel[y * config.image + x]) * scale - shift);
            }
        }
    }
}
