//! Texts on the host: token numbers of different lengths, end to end.

use alloc::vec::Vec;
use core::ops::Range;

use crate::model::Samples;

/// Labelled texts as token numbers.
///
/// ```
/// use eblora_core::model::bert::TextSet;
/// let mut texts = TextSet::new();
/// texts.push(&[101, 7592, 102], 0);
/// texts.push(&[101, 102], 1);
/// assert_eq!((texts.len(), texts.tokens(1)), (2, &[101, 102][..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextSet {
    ids: Vec<u32>,
    /// Where each text ends in `ids`.
    ends: Vec<usize>,
    labels: Vec<u32>,
}

impl TextSet {
    /// No texts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text, special tokens included, with its class.
    pub fn push(&mut self, ids: &[u32], label: u32) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
        self.labels.push(label);
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The tokens of text `i`.
    pub fn tokens(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.ids[start..self.ends[i]]
    }

    /// The classes.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Tokens of the longest text.
    pub fn longest(&self) -> usize {
        (0..self.len()).map(|i| self.tokens(i).len()).max().unwrap_or(0)
    }

    /// The texts of a range, in order.
    pub fn slice(&self, range: Range<usize>) -> Self {
        self.pick(range)
    }

    /// The texts at these indices, in their order; an index may come twice.
    pub fn subset(&self, indices: &[usize]) -> Self {
        self.pick(indices.iter().copied())
    }

    fn pick(&self, indices: impl Iterator<Item = usize>) -> Self {
        let mut picked = Self::new();
        indices.for_each(|i| picked.push(self.tokens(i), self.labels[i]));
        picked
    }
}

impl Samples for TextSet {
    fn len(&self) -> usize {
        Self::len(self)
    }
    fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
    fn length(&self, i: usize) -> usize {
        self.tokens(i).len()
    }
    fn gather(parts: &[(&Self, &[usize])]) -> Self {
        let mut all = Self::new();
        for (set, indices) in parts {
            indices.iter().for_each(|&i| all.push(set.tokens(i), set.labels[i]));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_labels_stay_together() {
        let mut texts = TextSet::new();
        for (ids, label) in [(&[5, 6, 7][..], 3), (&[], 4), (&[8], 5)] {
            texts.push(ids, label);
        }
        assert_eq!((texts.len(), texts.longest(), texts.labels()), (3, 3, &[3, 4, 5][..]));
        let picked = texts.subset(&[2, 0, 2]);
        assert_eq!([0, 1, 2].map(|i| picked.tokens(i)), [&[8][..], &[5, 6, 7], &[8]]);
        assert_eq!(picked.labels(), [5, 3, 5]);
        let part = texts.slice(1..3);
        assert_eq!((part.tokens(0), part.tokens(1), part.labels()), (&[][..], &[8][..], &[4, 5][..]));
        assert!(texts.slice(1..1).is_empty());
    }
}
