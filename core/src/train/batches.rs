//! The order of training samples: seeded, and the same for every method.

use alloc::format;
use alloc::vec::Vec;

use crate::model::Samples;
use crate::random::Random;

/// Batches of a task in shuffled epochs; a last incomplete batch of an epoch is left out.
///
/// ```
/// use eblora_core::train::BatchOrder;
/// let mut order = BatchOrder::new(0, 1, 10, 4);
/// let (first, second) = (order.next_batch().to_vec(), order.next_batch().to_vec());
/// assert!(first.iter().all(|i| *i < 10 && !second.contains(i)));
/// ```
#[derive(Clone, Debug)]
pub struct BatchOrder {
    rng: Random,
    order: Vec<usize>,
    batch: usize,
    next: usize,
}

impl BatchOrder {
    /// The order for `samples` samples of task number `task`; batches are of `batch` samples, or of all where there are
    /// fewer.
    pub fn new(seed: u64, task: usize, samples: usize, batch: usize) -> Self {
        let mut rng = Random::new(seed, &format!("batches/{task}"));
        Self { order: rng.permutation(samples), rng, batch: batch.clamp(1, samples.max(1)), next: 0 }
    }

    /// The next batch; empty only where there is no sample at all.
    pub fn next_batch(&mut self) -> &[usize] {
        if self.next + self.batch > self.order.len() {
            self.rng.shuffle(&mut self.order);
            self.next = 0;
        }
        let batch = &self.order[self.next..(self.next + self.batch).min(self.order.len())];
        self.next += self.batch;
        batch
    }

    /// Passes over so many batches.
    pub fn skip(&mut self, batches: usize) {
        for _ in 0..batches {
            self.next_batch();
        }
    }
}

/// All samples, the shortest first: batches of like lengths, where no order is asked for, have little to fill up.
pub(super) fn by_length<S: Samples>(samples: &S) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..samples.len()).collect();
    indices.sort_by_key(|&i| samples.length(i));
    indices
}

/// `share` of `0..samples` (at least one), evenly spaced from a seeded offset.
pub(super) fn evenly_spaced(seed: u64, task: usize, samples: usize, share: f64) -> Vec<usize> {
    if samples == 0 {
        return Vec::new();
    }
    let wanted = (libm::ceil(share * samples as f64) as usize).clamp(1, samples);
    spread(seed, &format!("gradient sample/{task}"), samples, wanted)
}

/// `wanted` of `0..samples`, evenly spaced from an offset of the stream's.
pub(super) fn spread(seed: u64, stream: &str, samples: usize, wanted: usize) -> Vec<usize> {
    if samples == 0 {
        return Vec::new();
    }
    let offset = Random::new(seed, stream).below(samples);
    (0..wanted).map(|i| (offset + i * samples / wanted) % samples).collect()
}

/// The classes that occur in these samples, rising.
pub(super) fn classes<S: Samples>(sets: &[&S]) -> Vec<u32> {
    let mut classes: Vec<u32> = sets.iter().flat_map(|set| (0..set.len()).map(|i| set.label(i))).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// A hash of all labels (FNV-1a), which tells one set of samples from another of the same size.
pub(super) fn labels_hash(samples: &impl Samples) -> u32 {
    let bytes = (0..samples.len()).flat_map(|i| samples.label(i).to_le_bytes());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bert::TextSet;
    use crate::model::vit::ImageSet;
    use alloc::vec;

    #[test]
    fn an_epoch_visits_each_sample_at_most_once() {
        let mut order = BatchOrder::new(3, 0, 103, 10);
        let mut seen: Vec<usize> = (0..10).flat_map(|_| order.next_batch().to_vec()).collect();
        seen.sort_unstable();
        let before = seen.len();
        seen.dedup();
        assert_eq!((seen.len(), before), (100, 100));
    }

    #[test]
    fn small_sets_and_large_batches_work() {
        assert_eq!(BatchOrder::new(0, 0, 3, 10).next_batch().len(), 3);
        assert!(BatchOrder::new(0, 0, 0, 10).next_batch().is_empty());
    }

    #[test]
    fn evenly_spaced_samples_are_distinct() {
        for (n, share) in [(1, 0.2), (7, 0.5), (100, 0.2), (10, 1.0)] {
            let mut sample = evenly_spaced(9, 2, n, share);
            let wanted = ((share * n as f64).ceil() as usize).max(1);
            sample.sort_unstable();
            sample.dedup();
            assert_eq!(sample.len(), wanted);
            assert!(sample.iter().all(|&i| i < n));
        }
    }

    #[test]
    fn texts_are_measured_by_their_lengths_and_images_in_their_order() {
        let mut texts = TextSet::new();
        [9, 3, 9, 2, 5].iter().for_each(|&length| texts.push(&[7; 9][..length], 0));
        assert_eq!(by_length(&texts), [3, 1, 4, 0, 2]);
        texts.push(&[7], 6);
        let mut others = TextSet::new();
        [9, 2].iter().for_each(|&label| others.push(&[7], label));
        assert_eq!((classes(&[&texts, &others]), classes(&[&TextSet::new()])), (vec![0, 2, 6, 9], Vec::new()));
        let images = ImageSet { pixels: vec![0; 12], labels: vec![0; 3], channels: 1, height: 2, width: 2 };
        assert_eq!(by_length(&images), [0, 1, 2]);
    }
}
