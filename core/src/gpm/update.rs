//! The GPM update: `M` grows until it holds a share ε of the new gradient's energy.

use alloc::vec::Vec;

use super::{GpmError, Gradient, Subspace};
use crate::Real;

/// What one [`update`] did. Energies are in units of `‖G‖_F²` unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct GpmUpdate {
    /// Directions added.
    pub added: usize,
    /// Directions held now.
    pub k: usize,
    /// The share of the energy that `M` held before; 1 for a zero gradient.
    pub energy_before: f64,
    /// The share it holds now. Below ε only when the gradient is factored and its factors hold less than that.
    pub energy_after: f64,
    /// `‖G‖_F²`.
    pub total_energy: f64,
    /// The energy σ² of each direction added, descending, not relative.
    pub directions: Vec<f64>,
}

/// Extends `subspace` (M, in×k) by the right singular vectors of the residual `R = G (I − MMᵀ)` in the order of σ², until
/// `(‖G‖² − ‖R‖² + Σ σ²) / ‖G‖² ≥ ε`.
///
/// A zero gradient adds nothing, numerically null directions are never added (ε = 1 adds all others), and k is at most
/// the input width. A share that is below ε by less than 64 machine epsilons counts as reached, so that repeating an
/// update adds nothing.
///
/// # Errors
/// [`GpmError::Threshold`] for ε outside (0, 1] or NaN, [`GpmError::Shape`], [`GpmError::NonFinite`] and
/// [`GpmError::Linalg`]; the subspace is then unchanged.
///
/// ```
/// use eblora_core::gpm::{Gradient, Subspace, update};
/// let mut m = Subspace::<f64>::empty(3);
/// let g = Gradient::Exact(faer::mat![[10.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.5]]);
/// let done = update(&mut m, &g, 0.99)?; // 100 of 104.25 is 96 %, 104 is 99.8 %
/// assert_eq!((done.added, m.k()), (2, 2));
/// assert_eq!(update(&mut m, &g, 0.99)?.added, 0);
/// assert!(update(&mut m, &g, 1.5).is_err());
/// # Ok::<(), eblora_core::gpm::GpmError>(())
/// ```
pub fn update<T: Real>(
    subspace: &mut Subspace<T>,
    gradient: &Gradient<T>,
    epsilon: f64,
) -> Result<GpmUpdate, GpmError> {
    if !(epsilon > 0.0 && epsilon <= 1.0) {
        return Err(GpmError::Threshold(epsilon));
    }
    gradient.check(subspace.dim())?;
    let (total, known) = (gradient.total_energy(), gradient.known_energy());
    if known == 0.0 {
        let share = f64::from(total == 0.0);
        let (k, directions) = (subspace.k(), Vec::new());
        return Ok(GpmUpdate {
            added: 0,
            k,
            energy_before: share,
            energy_after: share,
            total_energy: total,
            directions,
        });
    }
    let residual = gradient.projected_off_svd(subspace, subspace.dim() - subspace.k())?;
    let energies: Vec<f64> = residual.s.iter().map(|s| s.f64() * s.f64()).collect();
    let before = ((known - energies.iter().sum::<f64>()) / total).max(0.0);
    let (mut after, mut directions) = (before, Vec::new());
    if before < epsilon - 64.0 * T::EPS.f64() {
        for energy in energies {
            directions.push(energy);
            after += energy / total;
            if after >= epsilon {
                break;
            }
        }
    }
    let added = subspace.extend(residual.v.subcols(0, directions.len()))?;
    Ok(GpmUpdate {
        added,
        k: subspace.k(),
        energy_before: before,
        energy_after: after,
        total_energy: total,
        directions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{Svd, frobenius_sq, orthonormality_error, random_orthonormal};
    use crate::random::Random;
    use faer::Mat;
    use proptest::prelude::*;

    fn decaying<T: Real>(out: usize, dim: usize, decay: f64, rng: &mut Random) -> Mat<T> {
        let p = out.min(dim);
        let s = (0..p).map(|j| T::of(libm::pow(decay, j as f64))).collect();
        Svd { u: random_orthonormal(out, p, rng).unwrap(), s, v: random_orthonormal(dim, p, rng).unwrap() }
            .reconstruct()
    }

    /// The share of the energy of `g` that `m` holds, independently of the update.
    fn held<T: Real>(g: &Mat<T>, m: &Subspace<T>) -> f64 {
        let mut rest = g.clone();
        m.project_off_right(rest.as_mut(), &mut Vec::new());
        1.0 - frobenius_sq(rest.as_ref()) / frobenius_sq(g.as_ref())
    }

    fn rule<T: Real>(seed: u64, out: usize, dim: usize, epsilon: f64, tolerance: f64) {
        let (mut m, rng) = (Subspace::<T>::empty(dim), &mut Random::new(seed, "tasks"));
        for task in 0..5 {
            let g = decaying::<T>(out, dim, 0.3 + 0.15 * task as f64, rng);
            let (k, gradient, share) = (m.k(), Gradient::Exact(g.clone()), held(&g, &m));
            let done = update(&mut m, &gradient, epsilon).unwrap();
            assert_eq!((done.k, done.added), (m.k(), m.k() - k), "k never decreases");
            assert_eq!(done.directions.len(), done.added);
            assert!((done.energy_before - share).abs() < 100.0 * tolerance);
            assert!((done.energy_after - held(&g, &m)).abs() < 100.0 * tolerance);
            assert!(done.energy_after >= epsilon - 100.0 * tolerance, "{done:?}");
            if let Some(last) = done.directions.last() {
                assert!(done.energy_after - last / done.total_energy < epsilon, "one direction too many");
            }
            assert!(orthonormality_error(m.direct_basis().as_ref()).f64() <= tolerance);
            assert_eq!(update(&mut m, &gradient, epsilon).unwrap().added, 0, "the same gradient adds nothing");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_rule_holds(seed in 0u64..1000, out in 1usize..20, dim in 1usize..30, epsilon in 0.05f64..1.0) {
            rule::<f32>(seed, out, dim, epsilon, 1e-5);
            rule::<f64>(seed, out, dim, epsilon, 1e-12);
        }
    }

    #[test]
    fn threshold_one_takes_the_whole_row_space_and_no_noise() {
        let rng = &mut Random::new(4, "rank");
        let g = rng.normal_matrix::<f32>(20, 3) * rng.normal_matrix::<f32>(3, 16);
        let (mut m, gradient) = (Subspace::empty(16), Gradient::Exact(g));
        assert_eq!(update(&mut m, &gradient, 1.0).unwrap().added, 3);
        assert_eq!(update(&mut m, &gradient, 1.0).unwrap().added, 0);
    }

    #[test]
    fn tiny_gradients_are_as_good_as_large_ones() {
        let g = Random::new(4, "scale").normal_matrix::<f32>(8, 6);
        let adds = |scale: f32| {
            let g = Mat::from_fn(8, 6, |i, j| g[(i, j)] * scale);
            update(&mut Subspace::empty(6), &Gradient::Exact(g), 0.9).unwrap().added
        };
        assert!(adds(1.0) > 0 && adds(1e-25) == adds(1.0) && adds(1e25) == adds(1.0));
    }

    #[test]
    fn a_factored_gradient_reports_what_it_could_not_reach() {
        let factored = Gradient::Factored {
            u: Mat::<f64>::identity(4, 2),
            s: alloc::vec![3.0, 1.0],
            v: Mat::identity(5, 2),
            total_energy: 20.0, // half of it is outside the factors
        };
        let done = update(&mut Subspace::empty(5), &factored, 0.99).unwrap();
        assert_eq!((done.added, done.directions.len()), (2, 2));
        assert!((done.energy_after - 0.5).abs() < 1e-12);
    }

    #[test]
    fn zero_gradients_and_errors_change_nothing() {
        let mut m = Subspace::<f32>::empty(4);
        m.extend(Mat::<f32>::identity(4, 1).as_ref()).unwrap();
        let zero = update(&mut m, &Gradient::Exact(Mat::zeros(3, 4)), 0.99).unwrap();
        assert_eq!((zero.added, zero.k, zero.energy_after), (0, 1, 1.0));
        let g = Gradient::Exact(Mat::full(3, 4, 1.0));
        for epsilon in [0.0, -1.0, 1.0 + 1e-9, f64::NAN, f64::INFINITY] {
            assert!(matches!(update(&mut m, &g, epsilon), Err(GpmError::Threshold(_))));
        }
        let nan = Gradient::Exact(Mat::full(3, 4, f32::NAN));
        assert_eq!(update(&mut m, &nan, 0.9), Err(GpmError::NonFinite));
        assert!(matches!(update(&mut m, &Gradient::Exact(Mat::zeros(3, 5)), 0.9), Err(GpmError::Shape { .. })));
        assert_eq!(m.k(), 1);
    }

    #[test]
    fn it_stops_at_the_full_space() {
        let (mut m, rng) = (Subspace::<f64>::empty(6), &mut Random::new(9, "full"));
        for _ in 0..6 {
            update(&mut m, &Gradient::Exact(rng.normal_matrix(3, 6)), 1.0).unwrap();
        }
        assert_eq!(m.k(), 6);
    }
}
