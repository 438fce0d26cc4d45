//! Labelled images as bytes.

use std::ops::Range;

/// `labels.len()` images of one size; image i is `channels·height·width` bytes, channel by channel, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet {
    /// Channels c.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// All pixels `[n, channels, height, width]`.
    pub pixels: Vec<u8>,
    /// One label per image.
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

#[cfg(test)]
mod tests {
    use super::*;

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
