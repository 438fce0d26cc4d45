//! From the two accumulators back to `G`: its truncated SVD and its energy.
//!
//! `G ≈ Q X` (Tropp, Yurtsever, Udell and Cevher 2017): `Q` (out×q) is an orthonormal
//! basis of the range of `s_out`, and `X` (q×in) the least-squares solution of `(ΩᵀQ) X = s_inᵀ`. With `p = 2q + 1`,
//! for every ϱ < q − 1,
//!
//! - `E‖G − QX‖_F² ≤ 2·(1 + ϱ/(q − ϱ − 1))·Σ_{j>ϱ} σ_j²` (their Frobenius bound);
//! - `E‖X‖_F² = ‖G‖_F²`, exactly: `X = QᵀG + (ΩᵀQ)⁺(ΩᵀQ_⊥)Q_⊥ᵀG`, and the second term has mean zero and the energy
//!   `q/(p − q − 1)·‖Q_⊥ᵀG‖_F²`. Its error shrinks with the tail of `G`, unlike that of `‖s_in‖_F²/p`, which is
//!   `√(2/p)` of the total when one direction dominates.

use faer::{Mat, MatRef, linalg::solvers::SolveLstsq};

use super::{SketchError, TwoSidedSketch};
use crate::{
    Real,
    linalg::{LinalgError, Svd, frobenius_sq, is_finite, thin_svd},
};

impl<T: Real> TwoSidedSketch<T> {
    /// The leading `rank` singular triplets of `G`: `u` out×rank, `s`, `v` in×rank.
    ///
    /// # Errors
    /// [`SketchError::Rank`] beyond q; [`LinalgError::NonFinite`] or `NoConvergence`.
    pub fn truncated_svd(&self, rank: usize) -> Result<Svd<T>, SketchError> {
        self.decompose(rank).map(|(svd, _)| svd)
    }

    /// An unbiased estimate of `‖G‖_F²`; exact when a side is as wide as its dimension, and close to it when the
    /// energy of `G` beyond its first q directions is small.
    ///
    /// # Errors
    /// [`LinalgError::NonFinite`].
    pub fn frobenius_sq(&self) -> Result<f64, SketchError> {
        if !(is_finite(self.s_in.as_ref()) && is_finite(self.s_out.as_ref())) {
            return Err(LinalgError::NonFinite { op: "sketch" }.into());
        }
        self.energy(self.range_and_core().1.as_ref())
    }

    /// Both at once, at the cost of one: the truncated SVD and the estimate of `‖G‖_F²`, which is never below the
    /// energy of the triplets but for rounding.
    ///
    /// # Errors
    /// As [`truncated_svd`](Self::truncated_svd).
    pub fn decompose(&self, rank: usize) -> Result<(Svd<T>, f64), SketchError> {
        if rank > self.q() {
            return Err(SketchError::Rank { rank, width: self.q() });
        }
        if !(is_finite(self.s_in.as_ref()) && is_finite(self.s_out.as_ref())) {
            return Err(LinalgError::NonFinite { op: "sketch" }.into());
        }
        let (range, core) = self.range_and_core();
        let energy = self.energy(core.as_ref())?;
        let mut svd = thin_svd(core.as_ref())?;
        svd.truncate(rank);
        svd.u = &range * &svd.u;
        Ok((svd, energy))
    }

    /// `Q` (out×q) and `X` (q×in) with `G ≈ QX`.
    fn range_and_core(&self) -> (Mat<T>, Mat<T>) {
        let range = self.s_out.qr().compute_thin_Q();
        let seen = self.test.omega.transpose() * &range;
        let core = seen.qr().solve_lstsq(self.s_in.transpose());
        (range, core)
    }

    fn energy(&self, core: MatRef<'_, T>) -> Result<f64, SketchError> {
        Ok(if self.p() == self.outputs() {
            frobenius_sq(self.s_in.as_ref())
        } else if self.q() == self.inputs() {
            frobenius_sq(self.s_out.as_ref())
        } else {
            frobenius_sq(core)
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        linalg::{random_orthonormal, sketch::default_oversample},
        metrics::interference::principal_angles,
        random::Random,
    };

    /// A matrix with the singular values `sigma` and random singular vectors; its right ones beside it.
    fn planted(seed: u64, out: usize, inn: usize, sigma: &[f64]) -> (Mat<f64>, Mat<f64>) {
        let mut random = Random::new(seed, "planted");
        let u = random_orthonormal::<f64>(out, sigma.len(), &mut random).unwrap();
        let v = random_orthonormal::<f64>(inn, sigma.len(), &mut random).unwrap();
        let us = Mat::from_fn(out, sigma.len(), |i, j| u[(i, j)] * sigma[j]);
        (&us * v.transpose(), v)
    }

    fn sketch_of(g: MatRef<'_, f64>, rank: usize, oversample: usize, seed: u64) -> TwoSidedSketch<f64> {
        let mut sketch = TwoSidedSketch::new(g.nrows(), g.ncols(), rank, oversample, seed);
        sketch.update_dense(g).unwrap();
        sketch
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn low_rank_gradients_are_recovered(
            seed in 0u64..1000, out in 1usize..40, inn in 1usize..40, rank in 0usize..5,
        ) {
            let rank = rank.min(out).min(inn);
            let sigma: Vec<f64> = (0..rank).map(|j| 3.0 / (1 + j) as f64).collect();
            let (g, _) = planted(seed, out, inn, &sigma);
            let (svd, energy) = sketch_of(g.as_ref(), rank, 2.min(out.min(inn) - rank), seed).decompose(rank).unwrap();
            prop_assert!((svd.reconstruct() - &g).norm_max() < 1e-10);
            prop_assert!((energy - g.squared_norm_l2()).abs() < 1e-9);
            for j in 0..rank {
                prop_assert!((svd.s[j] - sigma[j]).abs() < 1e-10);
            }
        }

        #[test]
        fn decaying_spectra_keep_their_leading_subspace(
            seed in 0u64..1000, decay in 0.2f64..0.6, rank in 1usize..6, out in 40usize..80, inn in 40usize..80,
        ) {
            let sigma: Vec<f64> = (0..40).map(|j| libm::pow(decay, j as f64)).collect();
            let (g, v) = planted(seed, out, inn, &sigma);
            let sketch = sketch_of(g.as_ref(), rank, default_oversample(rank) + 2, seed);
            let svd = sketch.truncated_svd(rank).unwrap();
            let angle = *principal_angles(svd.v.as_ref(), v.subcols(0, rank)).unwrap().last().unwrap();
            // Wedin: sin θ ≤ ‖G − QX‖/(σ_r − σ_{r+1}), with the bound above at ϱ = q − 3.
            let q = sketch.q();
            let tail: f64 = sigma[q - 3..].iter().map(|s| s * s).sum();
            let error = libm::sqrt(2.0 * (1.0 + (q - 3) as f64 / 2.0) * tail);
            let bound = error / (sigma[rank - 1] - sigma[rank]) * 6.0; // 6: the bound is on the mean
            prop_assert!(libm::sin(angle) <= bound, "angle {angle} bound {bound}");
            for j in 0..rank {
                prop_assert!((svd.s[j] - sigma[j]).abs() <= 6.0 * error);
            }
        }
    }

    #[test]
    fn the_mean_error_obeys_the_theorem_and_the_energy_is_unbiased() {
        // A flat tail, the worst case for both.
        let sigma: Vec<f64> = (0..30).map(|j| if j < 3 { 5.0 } else { 1.0 }).collect();
        let (g, _) = planted(3, 36, 33, &sigma);
        let truth = g.squared_norm_l2();
        let (mut errors, mut energies) = (Vec::new(), Vec::new());
        for seed in 0..1500 {
            let sketch = sketch_of(g.as_ref(), 3, 4, seed);
            let (svd, energy) = sketch.decompose(sketch.q()).unwrap();
            errors.push((svd.reconstruct() - &g).squared_norm_l2());
            energies.push(energy);
        }
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let bound = 2.0 * (1.0 + 3.0 / 3.0) * 27.0; // q = 7, ϱ = 3
        assert!(mean(&errors) <= bound, "{} > {bound}", mean(&errors));
        let m = mean(&energies);
        let variance = mean(&energies.iter().map(|e| (e - m) * (e - m)).collect::<Vec<_>>());
        let standard_error = libm::sqrt(variance / energies.len() as f64);
        assert!((m - truth).abs() < 4.0 * standard_error, "{m} {truth} ± {standard_error}");
        assert!(standard_error < 0.01 * truth, "the check is blind: ± {standard_error}");
    }

    #[test]
    fn a_wide_sketch_is_exact() {
        for (out, inn) in [(5, 5), (3, 60), (60, 3), (1, 1), (12, 40)] {
            let g = Random::new(9, "dense").normal_matrix::<f64>(out, inn);
            let sketch = sketch_of(g.as_ref(), out.min(inn), 0, 1);
            let (svd, energy) = sketch.decompose(out.min(inn)).unwrap();
            assert!((svd.reconstruct() - &g).norm_max() < 1e-12, "{out}×{inn}");
            assert!((energy - g.squared_norm_l2()).abs() < 1e-10, "{out}×{inn}");
        }
    }

    #[test]
    fn a_gradient_too_large_to_hold_is_sketched() {
        // G would need 160 GB.
        let n = 200_000;
        let mut sketch = TwoSidedSketch::<f32>::new(n, n, 1, 3, 0);
        assert_eq!(sketch.memory_scalars(), 2 * n * (4 + 9));
        let (dy, x) = (Mat::from_fn(1, n, |_, j| if j == 7 { 2.0 } else { 0.0 }), Mat::full(1, n, 1.0_f32));
        sketch.update(dy.as_ref(), x.as_ref()).unwrap();
        let svd = sketch.truncated_svd(1).unwrap();
        assert!((svd.s[0] / libm::sqrtf(4.0 * n as f32) - 1.0).abs() < 1e-4);
        assert!((svd.u[(7, 0)].abs() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn misuse_is_typed() {
        let mut sketch = TwoSidedSketch::<f64>::new(30, 20, 3, 4, 5);
        assert_eq!(sketch.truncated_svd(8).map(|_| ()), Err(SketchError::Rank { rank: 8, width: 7 }));
        let (dy, x) = (Mat::full(1, 30, f64::NAN), Mat::full(1, 20, 1.0));
        sketch.update(dy.as_ref(), x.as_ref()).unwrap();
        assert_eq!(sketch.truncated_svd(1).map(|_| ()), Err(LinalgError::NonFinite { op: "sketch" }.into()));
        assert_eq!(sketch.frobenius_sq(), Err(LinalgError::NonFinite { op: "sketch" }.into()));
    }
}
