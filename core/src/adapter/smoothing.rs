//! Updates with their singular values made equal, after training: what energy balance does for merging, without
//! training for it.

use alloc::vec::Vec;

use faer::Mat;

use super::{AdapterError, LoraAdapter, SpectralAdapter};
use crate::Real;

/// What all singular values are set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Smoothing {
    /// Their mean: the nuclear norm stays.
    Mean,
    /// The root of their mean square: the Frobenius norm stays.
    Frobenius,
}

/// The update with its singular vectors kept and all singular values made equal, `s ≥ 0`.
///
/// Singular values that are zero to rounding (16·ε of `scale·‖B‖·‖A‖`) are left out, as their directions are arbitrary:
/// the rank of the result is the numerical rank of the update, and of a zero update nothing is left (`None`).
///
/// ```
/// use eblora_core::adapter::{LoraAdapter, Smoothing, smoothing::smooth};
/// let identity = faer::Mat::<f64>::identity(2, 2);
/// let update = LoraAdapter::new(faer::mat![[1.0, 0.0], [0.0, 7.0]], identity, 1.0)?; // σ = 7, 1
/// assert!((smooth(&update, Smoothing::Mean)?.unwrap().s - 4.0).abs() < 1e-12);
/// assert!((smooth(&update, Smoothing::Frobenius)?.unwrap().s - 5.0).abs() < 1e-12);
/// # Ok::<(), eblora_core::adapter::AdapterError>(())
/// ```
///
/// # Errors
/// As [`LoraAdapter::svd`].
pub fn smooth<T: Real>(
    update: &LoraAdapter<T>,
    smoothing: Smoothing,
) -> Result<Option<SpectralAdapter<T>>, AdapterError> {
    let mut svd = update.svd()?;
    let norms = update.b.norm_l2().f64() * update.a.norm_l2().f64() * update.scale.f64().abs();
    let zero = 16.0 * T::EPS.f64() * norms;
    let rank = svd.s.iter().take_while(|sigma| sigma.f64() > zero).count();
    if rank == 0 {
        return Ok(None);
    }
    svd.truncate(rank);
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / rank as f64;
    let s = match smoothing {
        Smoothing::Mean => mean(&mut svd.s.iter().map(|s| s.f64())),
        Smoothing::Frobenius => libm::sqrt(mean(&mut svd.s.iter().map(|s| s.f64() * s.f64()))),
    };
    SpectralAdapter::new(svd.u, svd.v, T::of(s)).map(Some)
}

/// The weighted sum `Σ w_i·ΔW_i` of several updates of one layer, each smoothed first (or as it is, for `None`), as one
/// LoRA pair with the ranks added up. Zero updates drop out when smoothed; of nothing but zeros a pair of rank 0 is left.
///
/// ```
/// use eblora_core::adapter::{LoraAdapter, smoothing::merge};
/// let update = LoraAdapter::new(faer::mat![[1.0, 0.0]], faer::mat![[3.0]], 2.0)?;
/// let merged = merge(&[update.clone(), update], &[0.5, 1.0], None)?;
/// assert_eq!(merged.delta(), faer::mat![[9.0, 0.0]]);
/// # Ok::<(), eblora_core::adapter::AdapterError>(())
/// ```
///
/// # Errors
/// [`AdapterError::Count`] for no update or another number of weights, `Shape` when the layers differ, `NonFinite` for
/// a weight; as [`smooth`].
pub fn merge<T: Real>(
    updates: &[LoraAdapter<T>],
    weights: &[T],
    smoothing: Option<Smoothing>,
) -> Result<LoraAdapter<T>, AdapterError> {
    let first = match updates.first() {
        Some(first) if updates.len() == weights.len() => first,
        _ => return Err(AdapterError::Count { updates: updates.len(), weights: weights.len() }),
    };
    let (out, inn) = (first.outputs(), first.inputs());
    let mut parts = Vec::with_capacity(updates.len());
    for (update, &weight) in updates.iter().zip(weights) {
        if (update.outputs(), update.inputs()) != (out, inn) {
            let got = (update.outputs(), update.inputs());
            return Err(AdapterError::Shape { what: "update", expected: (out, inn), got });
        }
        if !weight.is_finite() {
            return Err(AdapterError::NonFinite { what: "weight" });
        }
        let part = match smoothing {
            Some(smoothing) => smooth(update, smoothing)?.map(|smoothed| smoothed.to_lora()),
            None => Some(update.clone()),
        };
        if let Some(mut part) = part {
            part.scale *= weight;
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return LoraAdapter::new(Mat::zeros(0, inn), Mat::zeros(out, 0), T::of(1.0));
    }
    LoraAdapter::stack(&parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{linalg::max_abs, random::Random};

    fn update(seed: u64, out: usize, inn: usize, r: usize) -> LoraAdapter<f64> {
        let mut random = Random::new(seed, "smoothing");
        LoraAdapter::new(random.normal_matrix(r, inn), random.normal_matrix(out, r), 0.3).unwrap()
    }

    proptest! {
        #[test]
        fn vectors_stay_and_so_does_the_norm(
            seed in 0u64..1000, out in 1usize..14, inn in 1usize..14, r in 1usize..6,
        ) {
            let update = update(seed, out, inn, r);
            let (delta, sigma) = (update.delta(), update.singular_values().unwrap());
            let mean = smooth(&update, Smoothing::Mean).unwrap().unwrap();
            let frobenius = smooth(&update, Smoothing::Frobenius).unwrap().unwrap();
            prop_assert!((frobenius.delta().norm_l2() - delta.norm_l2()).abs() < 1e-12 * (1.0 + delta.norm_l2()));
            prop_assert!((mean.s - sigma.iter().sum::<f64>() / sigma.len() as f64).abs() < 1e-12 * sigma[0]);
            prop_assert!(mean.s <= frobenius.s * (1.0 + 1e-12));
            for smoothed in [mean, frobenius] {
                smoothed.check(1e-12).unwrap();
                prop_assert_eq!(smoothed.rank(), sigma.len());
                // The same singular vectors: UᵀΔW V is the diagonal of the old values, and nothing lies outside.
                let core = smoothed.u.transpose() * &delta * &smoothed.v;
                let off = Mat::from_fn(core.nrows(), core.ncols(), |i, j| {
                    core[(i, j)] - if i == j { sigma[j] } else { 0.0 }
                });
                prop_assert!(max_abs(off.as_ref()) < 1e-11 * (1.0 + sigma[0]));
                let rest = &delta - &smoothed.u * (smoothed.u.transpose() * &delta);
                prop_assert!(rest.norm_max() < 1e-11 * (1.0 + sigma[0]));
            }
        }

        #[test]
        fn merging_is_the_weighted_sum(seed in 0u64..1000, out in 1usize..10, inn in 1usize..10, w in -2.0f64..2.0) {
            let updates = [update(seed, out, inn, 2), update(seed + 1000, out, inn, 3)];
            let plain = merge(&updates, &[w, 0.5], None).unwrap();
            let dense = updates[0].delta() * w + updates[1].delta() * 0.5;
            prop_assert!((plain.delta() - dense).norm_max() < 1e-12);
            for kind in [Smoothing::Mean, Smoothing::Frobenius] {
                let delta = |i: usize| smooth(&updates[i], kind).unwrap().unwrap().delta();
                let dense = delta(0) * w + delta(1) * 0.5;
                prop_assert!((merge(&updates, &[w, 0.5], Some(kind)).unwrap().delta() - dense).norm_max() < 1e-12);
            }
        }
    }

    #[test]
    fn null_directions_take_no_energy() {
        let mut single = update(7, 9, 8, 3);
        for i in 0..9 {
            single.b[(i, 1)] = 2.0 * single.b[(i, 0)];
            single.b[(i, 2)] = 0.0;
        }
        let smoothed = smooth(&single, Smoothing::Mean).unwrap().unwrap();
        assert_eq!(smoothed.rank(), 1);
        assert!((smoothed.delta() - single.delta()).norm_max() < 1e-13);
        let zero = LoraAdapter::<f32>::kaiming(4, 5, 2, 4.0, &mut Random::new(1, "zero")).unwrap();
        assert_eq!(smooth(&zero, Smoothing::Mean), Ok(None));
        let merged = merge(&[zero.clone(), zero], &[1.0, 1.0], Some(Smoothing::Frobenius)).unwrap();
        assert_eq!((merged.rank(), merged.delta()), (0, Mat::zeros(4, 5)));
    }

    #[test]
    fn null_directions_are_told_from_rounding_in_f32() {
        let mut random = Random::new(8, "f32");
        for (out, inn, rank, own) in [(20, 30, 8, 3), (200, 300, 16, 5), (1500, 40, 32, 31)] {
            let b = random.normal_matrix::<f32>(out, own) * random.normal_matrix::<f32>(own, rank);
            let update = LoraAdapter::new(random.normal_matrix(rank, inn), b, 2.0).unwrap();
            let smoothed = smooth(&update, Smoothing::Frobenius).unwrap().unwrap();
            assert_eq!(smoothed.rank(), own);
            smoothed.check(1e-5).unwrap();
            let (kept, norm) = (smoothed.s * libm::sqrtf(own as f32), update.delta().norm_l2());
            assert!((kept / norm - 1.0).abs() < 1e-5, "{kept} {norm}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (one, two) = (update(1, 3, 4, 2), update(1, 4, 3, 2));
        assert!(matches!(merge(&[one.clone(), two], &[1.0, 1.0], None), Err(AdapterError::Shape { .. })));
        let count = AdapterError::Count { updates: 1, weights: 2 };
        let one = [one];
        assert_eq!(merge(&one, &[1.0, 1.0], None), Err(count));
        assert_eq!(merge::<f64>(&[], &[], None), Err(AdapterError::Count { updates: 0, weights: 0 }));
        assert_eq!(merge(&one, &[f64::NAN], None), Err(AdapterError::NonFinite { what: "weight" }));
    }
}
