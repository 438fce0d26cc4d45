//! Explicit, portable randomness: one seed and one stream name give the same numbers on every platform.

use alloc::vec::Vec;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::Real;

/// A seeded stream of random numbers (ChaCha8). Independent purposes take independent streams of the same seed.
///
/// ```
/// use eblora_core::random::Random;
/// let mut a = Random::new(7, "order");
/// let mut b = Random::new(7, "order");
/// assert_eq!(a.permutation(5), b.permutation(5));
/// assert!(a.uniform() < 1.0);
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    rng: ChaCha8Rng,
    spare: Option<f64>,
}

impl Random {
    /// The stream called `stream` of `seed`.
    pub fn new(seed: u64, stream: &str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // FNV-1a: a stable hash of the stream's name chooses one of ChaCha's 2⁶⁴ streams.
        let id =
            stream.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        rng.set_stream(id);
        Self { rng, spare: None }
    }

    /// A uniform number in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A uniform integer in `0..n`; `n` must not be 0 (0 gives 0).
    pub fn below(&mut self, n: usize) -> usize {
        // Lemire's multiply-shift; the bias is below n / 2⁶⁴.
        ((u128::from(self.rng.next_u64()) * n as u128) >> 64) as usize
    }

    /// A standard normal number (Marsaglia's polar method, with `libm` so that platforms agree).
    pub fn normal(&mut self) -> f64 {
        if let Some(z) = self.spare.take() {
            return z;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let q = x * x + y * y;
            if q > 0.0 && q < 1.0 {
                let f = libm::sqrt(-2.0 * libm::log(q) / q);
                self.spare = Some(y * f);
                return x * f;
            }
        }
    }

    /// `len` standard normal numbers.
    pub fn normals<T: Real>(&mut self, len: usize) -> Vec<T> {
        (0..len).map(|_| T::of(self.normal())).collect()
    }

    /// A rows×cols matrix of standard normal numbers, filled row by row.
    pub fn normal_matrix<T: Real>(&mut self, rows: usize, cols: usize) -> faer::Mat<T> {
        let values = self.normals::<T>(rows * cols);
        faer::Mat::from_fn(rows, cols, |i, j| values[i * cols + j])
    }

    /// Shuffles `items` in place (Fisher–Yates).
    pub fn shuffle<U>(&mut self, items: &mut [U]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// A random order of `0..n`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, name| Random::new(seed, name).normals::<f64>(4);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let z = Random::new(3, "moments").normals::<f64>(100_000);
        let mean = z.iter().sum::<f64>() / 1e5;
        let var = z.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.015, "mean {mean}"); // 4.7 standard errors
        assert!((var - 1.0).abs() < 0.02, "variance {var}");
    }

    #[test]
    fn permutation_is_a_permutation() {
        let mut order = Random::new(5, "order").permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
