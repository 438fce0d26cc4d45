//! How evenly an update spreads its energy: statistics of its singular values.
//!
//! EBLoRA keeps all r singular values of `ΔW = s·U·Vᵀ` equal by construction: top share 1/r, effective rank r,
//! variance 0. A trained LoRA puts most of its energy into one direction.

use super::{MetricError, finite};

/// Statistics of the singular values of one update.
///
/// A zero (or empty) spectrum has total energy, top share, effective rank and variance 0.
///
/// ```
/// use eblora_core::metrics::Spectrum;
/// let even = Spectrum::new(&[2.0; 4])?;
/// assert_eq!((even.top_share, even.variance, even.total_energy), (0.25, 0.0, 16.0));
/// assert!((even.effective_rank - 4.0).abs() < 1e-12);
/// let single = Spectrum::new(&[3.0, 0.0])?;
/// assert_eq!((single.top_share, single.effective_rank), (1.0, 1.0));
/// # Ok::<(), eblora_core::metrics::MetricError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spectrum {
    /// Energy share of the largest singular value, `σ₁²/Σσ²`, in (0, 1].
    pub top_share: f64,
    /// `exp(−Σ pᵢ ln pᵢ)` with `pᵢ = σᵢ²/Σσ²`: from 1 (one direction) to the number of values (all equal).
    pub effective_rank: f64,
    /// Population variance of the σ themselves (all that were given, zeros included).
    pub variance: f64,
    /// `Σσ² = ‖ΔW‖_F²`.
    pub total_energy: f64,
}

impl Spectrum {
    /// The statistics of the singular values `sigma`, in any order.
    ///
    /// # Errors
    /// [`MetricError::NotFinite`] and [`MetricError::Negative`] for values that no matrix has.
    pub fn new(sigma: &[f64]) -> Result<Self, MetricError> {
        finite("singular values", sigma)?;
        if let Some(index) = sigma.iter().position(|&x| x < 0.0) {
            return Err(MetricError::Negative { index });
        }
        let top = sigma.iter().copied().fold(0.0, f64::max);
        if top == 0.0 {
            return Ok(Self { top_share: 0.0, effective_rank: 0.0, variance: 0.0, total_energy: 0.0 });
        }
        // Relative to the largest, so that no square over- or underflows on the way.
        let energy: f64 = sigma.iter().map(|x| (x / top) * (x / top)).sum();
        let entropy: f64 = sigma
            .iter()
            .map(|x| (x / top) * (x / top) / energy)
            .map(|p| if p > 0.0 { -p * libm::log(p) } else { 0.0 })
            .sum();
        let n = sigma.len() as f64;
        let mean = sigma.iter().map(|x| x / top).sum::<f64>() / n;
        let variance = sigma.iter().map(|x| (x / top - mean) * (x / top - mean)).sum::<f64>() / n;
        Ok(Self {
            top_share: 1.0 / energy,
            effective_rank: libm::exp(entropy),
            variance: variance * top * top,
            total_energy: energy * top * top,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_and_empty_are_zero() {
        let zero = Spectrum { top_share: 0.0, effective_rank: 0.0, variance: 0.0, total_energy: 0.0 };
        assert_eq!(Spectrum::new(&[]), Ok(zero));
        assert_eq!(Spectrum::new(&[0.0; 5]), Ok(zero));
    }

    #[test]
    fn by_hand() {
        // p = (0.8, 0.2)
        let s = Spectrum::new(&[1.0, 2.0]).unwrap();
        assert!((s.top_share - 0.8).abs() < 1e-15);
        assert!((s.effective_rank - 1.649_384_888_466_117_6).abs() < 1e-12, "{}", s.effective_rank);
        assert!((s.variance - 0.25).abs() < 1e-15);
        assert!((s.total_energy - 5.0).abs() < 1e-14);
    }

    #[test]
    fn values_no_matrix_has_are_refused() {
        assert_eq!(Spectrum::new(&[1.0, -1.0]), Err(MetricError::Negative { index: 1 }));
        let not_finite = MetricError::NotFinite { what: "singular values", index: 0 };
        assert_eq!(Spectrum::new(&[f64::INFINITY]), Err(not_finite));
    }

    #[test]
    fn extreme_scales_keep_their_shape() {
        for scale in [1e-200, 1e150] {
            let s = Spectrum::new(&[scale, 2.0 * scale]).unwrap();
            assert!((s.top_share - 0.8).abs() < 1e-15 && (s.effective_rank - 1.649_384_888_466_117_6).abs() < 1e-12);
        }
    }

    proptest! {
        #[test]
        fn bounds_and_invariance(mut sigma in proptest::collection::vec(0.0f64..10.0, 1..20), scale in 0.01f64..100.0) {
            sigma[0] += 0.1;
            let s = Spectrum::new(&sigma).unwrap();
            let n = sigma.len() as f64;
            prop_assert!(s.top_share >= 1.0 / n - 1e-12 && s.top_share <= 1.0);
            prop_assert!(s.effective_rank >= 1.0 - 1e-12 && s.effective_rank <= n + 1e-9);
            // Shannon entropy is at least min-entropy: exp(H) ≥ 1/p₁
            prop_assert!(s.effective_rank >= 1.0 / s.top_share - 1e-9);
            prop_assert!(s.variance >= 0.0);
            let other = Spectrum::new(&sigma.iter().rev().map(|x| x * scale).collect::<Vec<_>>()).unwrap();
            prop_assert!((other.effective_rank - s.effective_rank).abs() < 1e-9);
            prop_assert!((other.top_share - s.top_share).abs() < 1e-12);
            prop_assert!((other.variance / (scale * scale) - s.variance).abs() < 1e-9 * (1.0 + s.variance));
        }
    }
}
