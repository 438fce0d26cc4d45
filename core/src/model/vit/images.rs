//! Images on the host and their way into patches.

use alloc::vec::Vec;
use core::ops::Range;

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
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The bytes of image `i`.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.image_len()..(i + 1) * self.image_len()]
    }

    /// The images of a range, in order.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let bytes = range.start * self.image_len()..range.end * self.image_len();
        Self { pixels: self.pixels[bytes].to_vec(), labels: self.labels[range].to_vec(), ..self.empty() }
    }

    /// The images at these indices, in their order; an index may come twice.
    pub fn subset(&self, indices: &[usize]) -> Self {
        let mut subset = self.empty();
        subset.pixels.reserve(indices.len() * self.image_len());
        for &i in indices {
            subset.pixels.extend_from_slice(self.image(i));
            subset.labels.push(self.labels[i]);
        }
        subset
    }

    /// The same images with `change` applied to each and `shift` added to each label.
    pub fn map(&self, change: impl Fn(&[u8]) -> Vec<u8>, shift: u32) -> Self {
        let pixels = (0..self.len()).flat_map(|i| change(self.image(i))).collect();
        Self { pixels, labels: self.labels.iter().map(|label| label + shift).collect(), ..self.empty() }
    }

    /// No images, of the same size.
    fn empty(&self) -> Self {
        Self { pixels: Vec::new(), labels: Vec::new(), ..*self }
    }
}

impl Samples for ImageSet {
    fn len(&self) -> usize {
        Self::len(self)
    }
    fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
    fn numbers(&self, i: usize) -> usize {
        self.image(i).len()
    }

    fn gather(parts: &[(&Self, &[usize])]) -> Self {
        let mut all = parts.first().map_or_else(Self::default, |(first, _)| first.empty());
        for (set, indices) in parts {
            let same = (set.channels, set.height, set.width) == (all.channels, all.height, all.width);
            assert!(same, "gather: images of one size are needed, as one model takes them");
            let part = set.subset(indices);
            all.pixels.extend(part.pixels);
            all.labels.extend(part.labels);
        }
        all
    }
}

/// Writes an image's patches, row by row of patches, each as channels × patch × patch (the order of a flattened
/// convolution weight), normalised. A class token's row stays as it is.
pub fn patchify<T: Real>(dst: &mut [T], image: &[u8], config: &VitConfig) {
    for_each_place(config, |c, from, to| {
        let scale = config.preprocess.rescale / config.preprocess.std[c];
        let shift = config.preprocess.mean[c] / config.preprocess.std[c];
        for (x, &byte) in dst[to].iter_mut().zip(&image[from]) {
            *x = T::of(f64::from(byte) * scale - shift);
        }
    });
}

/// The same for pixels (channels × height × width) that are normalised already.
pub fn patchify_normalized<T: Real>(dst: &mut [T], image: &[T], config: &VitConfig) {
    for_each_place(config, |_, from, to| dst[to].copy_from_slice(&image[from]));
}

/// Calls `f(channel, from, to)` for every row of every patch: where it lies in the image and among the tokens.
fn for_each_place(config: &VitConfig, mut f: impl FnMut(usize, Range<usize>, Range<usize>)) {
    let (p, side, len) = (config.patch, config.image / config.patch, config.patch_values());
    for c in 0..config.channels {
        for y in 0..config.image {
            for column in 0..side {
                let token = usize::from(config.class_token) + (y / p) * side + column;
                let from = (c * config.image + y) * config.image + column * p;
                let to = token * len + c * p * p + (y % p) * p;
                f(c, from..from + p, to..to + p);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn three() -> ImageSet {
        ImageSet { channels: 1, height: 1, width: 2, pixels: vec![0, 1, 2, 3, 4, 5], labels: vec![7, 8, 9] }
    }

    #[test]
    fn slice_and_subset_keep_pixels_and_labels_together() {
        let part = three().slice(1..3);
        assert_eq!((part.len(), part.image(0), &part.labels[..]), (2, &[2, 3][..], &[8, 9][..]));
        let picked = three().subset(&[2, 0, 2]);
        assert_eq!((&picked.pixels[..], &picked.labels[..]), (&[4, 5, 0, 1, 4, 5][..], &[9, 7, 9][..]));
        assert!(three().slice(1..1).is_empty());
    }

    #[test]
    fn map_changes_images_and_shifts_labels() {
        let mapped = three().map(|image| image.iter().rev().copied().collect(), 10);
        assert_eq!((mapped.image(2), &mapped.labels[..]), (&[5, 4][..], &[17, 18, 19][..]));
    }
}
