//! Retractions: from `Y = X + Δ` near the Stiefel manifold back onto it.

use faer::{Mat, MatMut};

use super::{ManifoldError, StiefelScratch};
use crate::Real;
use crate::linalg::{LinalgError, gram_into, inverse_sqrt_into, is_finite, multiply, thin_svd};

/// Beyond this condition number of `Y` a second whitening pass restores the orthogonality that the first one lost.
const SECOND_PASS: f64 = 2.0;
/// Beyond this one the eigenvalues of the Gram matrix say too little: an SVD in f64 takes over.
const FALLBACK: f64 = 1e3;

/// How `Y` is put back onto the Stiefel manifold. The orders are those of `R(X, tΔ)` against the geodesic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retraction {
    /// `Y (YᵀY)^{−1/2}` by the r×r Gram matrix ([`inverse_sqrt`](crate::linalg::inverse_sqrt())): the nearest point, of
    /// second order. The fast one.
    #[default]
    Whitening,
    /// `U Vᵀ` of the SVD `Y = U Σ Vᵀ`, taken in f64: the same point, computed independently; allocates.
    Polar,
    /// `Q` of `Y = QR` with `diag R > 0`: of first order; allocates.
    Qr,
}

/// What a retraction met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetractionInfo {
    /// The condition number κ(Y). For whitening an upper bound of it (at most √3) where `‖YᵀY − I‖_F ≤ ½`; for QR the
    /// ratio of the extreme diagonal entries of R, a lower bound.
    pub condition: f64,
    /// Whitening passes: 1 in training, 2 for an ill-conditioned `Y`; 0 where it was not whitening that did it.
    pub passes: usize,
    /// Whether whitening had to leave the work to the SVD in f64. Worth a line in the log.
    pub fallback: bool,
}

/// Puts `y` (n×r, n ≥ r) onto the Stiefel manifold, in place. The scratch is for n×r factors.
///
/// Whitening takes one pass up to κ(Y) = 2, two up to 10³, and beyond that falls back to the SVD in f64, which is the only
/// case where it allocates.
///
/// # Errors
/// [`ManifoldError::Infeasible`] for n < r, [`ManifoldError::NonFinite`], [`ManifoldError::RankDeficient`] when `Y` is
/// zero or its columns are dependent to working precision (f64 for whitening and polar), [`ManifoldError::Linalg`];
/// `y` is then unchanged.
///
/// ```
/// use eblora_core::{linalg::orthonormality_error, manifold::{Retraction, StiefelScratch, retract}};
/// let mut y = faer::mat![[1.0, 0.1], [0.0, 1.1], [0.2, 0.0_f64]];
/// let info = retract(Retraction::Whitening, y.as_mut(), &mut StiefelScratch::new(3, 2))?;
/// assert!(orthonormality_error(y.as_ref()) < 1e-14 && info.passes == 1 && !info.fallback);
/// # Ok::<(), eblora_core::manifold::ManifoldError>(())
/// ```
pub fn retract<T: Real>(
    kind: Retraction,
    y: MatMut<'_, T>,
    scratch: &mut StiefelScratch<T>,
) -> Result<RetractionInfo, ManifoldError> {
    let (dim, rank) = y.shape();
    if rank > dim {
        return Err(ManifoldError::Infeasible { dim, k: 0, rank });
    }
    if rank == 0 {
        return Ok(RetractionInfo { condition: 1.0, passes: 0, fallback: false });
    }
    match kind {
        Retraction::Whitening => whiten(y, scratch),
        Retraction::Polar => polar(y),
        Retraction::Qr => qr(y),
    }
}

fn whiten<T: Real>(mut y: MatMut<'_, T>, scratch: &mut StiefelScratch<T>) -> Result<RetractionInfo, ManifoldError> {
    let mut condition = 1.0;
    let mut passes = 0;
    loop {
        gram_into(scratch.gram.as_mut(), y.as_ref());
        match inverse_sqrt_into(scratch.whitener.as_mut(), scratch.gram.as_ref(), &mut scratch.eigen) {
            Ok(squared) => {
                let kappa = libm::sqrt(squared.f64());
                if passes == 0 {
                    condition = kappa;
                }
                if kappa > FALLBACK {
                    break;
                }
            }
            // Overflow, underflow or a solver that gave up: the SVD tells which.
            Err(LinalgError::NonFinite { .. } | LinalgError::Singular { .. } | LinalgError::NoConvergence { .. }) => {
                break;
            }
            Err(other) => return Err(other.into()),
        }
        scratch.copy.copy_from(y.as_ref());
        multiply(y.as_mut(), T::of(1.0), scratch.copy.as_ref(), scratch.whitener.as_ref());
        passes += 1;
        if passes == 2 || condition <= SECOND_PASS {
            return Ok(RetractionInfo { condition, passes, fallback: false });
        }
    }
    if passes == 1 {
        y.copy_from(scratch.copy.as_ref());
    }
    let info = polar(y)?;
    Ok(RetractionInfo { fallback: true, ..info })
}

/// `Y ← U Vᵀ` by an SVD in f64, which scales its input: neither size nor condition matters to it.
fn polar<T: Real>(mut y: MatMut<'_, T>) -> Result<RetractionInfo, ManifoldError> {
    let (n, r) = y.shape();
    if !is_finite(y.as_ref()) {
        return Err(ManifoldError::NonFinite);
    }
    let svd = thin_svd(Mat::from_fn(n, r, |i, j| y[(i, j)].f64()).as_ref())?;
    let condition = svd.s[0] / svd.s[r - 1];
    check_rank(condition, n as f64 * f64::EPSILON)?;
    let point = &svd.u * svd.v.transpose();
    for j in 0..r {
        for i in 0..n {
            y[(i, j)] = T::of(point[(i, j)]);
        }
    }
    Ok(RetractionInfo { condition, passes: 0, fallback: false })
}

/// Refuses a condition number of 1 / `tolerance` or more, and NaN (0/0, for a zero matrix).
fn check_rank(condition: f64, tolerance: f64) -> Result<(), ManifoldError> {
    if condition * tolerance < 1.0 {
        return Ok(());
    }
    Err(ManifoldError::RankDeficient { condition: if condition.is_nan() { f64::INFINITY } else { condition } })
}

/// `Y ← Q sign(diag R)`.
fn qr<T: Real>(mut y: MatMut<'_, T>) -> Result<RetractionInfo, ManifoldError> {
    let (n, r) = y.shape();
    if !is_finite(y.as_ref()) {
        return Err(ManifoldError::NonFinite);
    }
    let factors = y.as_ref().qr();
    let diagonal = |j: usize| factors.thin_R()[(j, j)];
    let (mut least, mut most) = (f64::INFINITY, 0.0);
    for j in 0..r {
        let size = diagonal(j).f64().abs();
        (least, most) = (size.min(least), size.max(most));
    }
    let condition = most / least;
    check_rank(condition, n as f64 * T::EPS.f64())?;
    let q = factors.compute_thin_Q();
    for j in 0..r {
        let sign = if diagonal(j) < T::of(0.0) { T::of(-1.0) } else { T::of(1.0) };
        for i in 0..n {
            y[(i, j)] = sign * q[(i, j)];
        }
    }
    Ok(RetractionInfo { condition, passes: 0, fallback: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{Svd, gram, max_abs, orthonormality_error, random_orthonormal};
    use crate::manifold::{TangentMap, project_tangent, random_point};
    use crate::random::Random;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const ALL: [Retraction; 3] = [Retraction::Whitening, Retraction::Polar, Retraction::Qr];

    fn retracted<T: Real>(kind: Retraction, y: &Mat<T>) -> Result<(Mat<T>, RetractionInfo), ManifoldError> {
        let mut y = y.clone();
        let mut scratch = StiefelScratch::new(y.nrows(), y.ncols());
        let info = retract(kind, y.as_mut(), &mut scratch)?;
        Ok((y, info))
    }

    /// n×r with singular values from 1 down to 1/κ.
    fn conditioned<T: Real>(n: usize, r: usize, kappa: f64, seed: u64) -> Mat<T> {
        let rng = &mut Random::new(seed, "condition");
        let s = (0..r).map(|j| libm::pow(kappa, -(j as f64) / (r - 1).max(1) as f64)).collect();
        let (u, v) = (random_orthonormal(n, r, rng).unwrap(), random_orthonormal(r, r, rng).unwrap());
        let y: Mat<f64> = Svd { u, s, v }.reconstruct();
        Mat::from_fn(n, r, |i, j| T::of(y[(i, j)]))
    }

    fn tangent(x: &Mat<f64>, rng: &mut Random) -> Mat<f64> {
        let (n, r) = x.shape();
        let mut delta = rng.normal_matrix(n, r);
        project_tangent(TangentMap::Euclidean, x.as_ref(), delta.as_mut(), &mut StiefelScratch::new(n, r));
        let norm = delta.norm_l2();
        // The tangent space of a 1×1 point is {0}.
        delta * faer::Scale(if norm > 1e-9 { 1.0 / norm } else { 0.0 })
    }

    /// `e^A` by its series; for small `A`.
    fn exponential(a: &Mat<f64>) -> Mat<f64> {
        let (mut sum, mut term) = (Mat::identity(a.nrows(), a.nrows()), Mat::identity(a.nrows(), a.nrows()));
        for k in 1..30 {
            term = &term * a * faer::Scale(1.0 / f64::from(k));
            sum += &term;
        }
        sum
    }

    /// The geodesic of the Euclidean metric (Edelman, Arias & Smith 1998, section 2.2.2).
    fn geodesic(x: &Mat<f64>, delta: &Mat<f64>) -> Mat<f64> {
        let r = x.ncols();
        let (a, s) = (x.transpose() * delta, gram(delta.as_ref()));
        let block = Mat::from_fn(2 * r, 2 * r, |i, j| match (i < r, j < r) {
            (true, true) => a[(i, j)],
            (true, false) => -s[(i, j - r)],
            (false, true) => f64::from(i - r == j),
            (false, false) => a[(i - r, j - r)],
        });
        let both = Mat::from_fn(x.nrows(), 2 * r, |i, j| if j < r { x[(i, j)] } else { delta[(i, j - r)] });
        &both * exponential(&block).subcols(0, r) * exponential(&(a * faer::Scale(-1.0)))
    }

    #[test]
    fn order_of_each_retraction() {
        let rng = &mut Random::new(3, "order");
        for (n, r) in [(12, 3), (5, 4), (4, 4)] {
            let x = random_point::<f64>(n, r, rng).unwrap();
            let direction = tangent(&x, rng);
            for (kind, order) in ALL.iter().zip([3.0, 3.0, 2.0]) {
                let error = |t: f64| {
                    let delta = &direction * faer::Scale(t);
                    let (y, _) = retracted(*kind, &(&x + &delta)).unwrap();
                    (y - geodesic(&x, &delta)).norm_l2()
                };
                let slope = libm::log10(error(1e-1) / error(1e-3)) / 2.0;
                assert!((slope - order).abs() < 0.1, "{kind:?} {n}x{r}: slope {slope}, expected {order}");
            }
        }
    }

    #[test]
    fn condition_decides_passes_and_fallback() {
        for (kappa, passes, fallback) in
            [(1.0, 1, false), (1.9, 1, false), (10.0, 2, false), (500.0, 2, false), (1e4, 0, true), (1e6, 0, true)]
        {
            let y = conditioned::<f32>(96, 16, kappa, 7);
            let (point, info) = retracted(Retraction::Whitening, &y).unwrap();
            assert_eq!((info.passes, info.fallback), (passes, fallback), "κ = {kappa}: {info:?}");
            assert!((info.condition / kappa - 1.0).abs() < 0.1, "κ = {kappa}: {info:?}");
            assert!(orthonormality_error(point.as_ref()) < 2e-6, "κ = {kappa}");
            let (exact, _) = retracted(Retraction::Polar, &y).unwrap();
            let apart = max_abs((&point - &exact).as_ref()).f64();
            let allowed = if fallback { 1e-7 } else { 4.0 * 1.2e-7 * (1.0 + kappa * kappa / 8.0) };
            assert!(apart < allowed, "κ = {kappa}: {apart:e} from the polar factor");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn retractions_return_to_the_manifold(seed in 0u64..1000, extra in 0usize..30, r in 1usize..9, step in 0.0f64..2.0) {
            let rng = &mut Random::new(seed, "retract");
            let x = random_point::<f64>(r + extra, r, rng).unwrap();
            let y = &x + tangent(&x, rng) * faer::Scale(step);
            for kind in ALL {
                let (point, info) = retracted(kind, &y).unwrap();
                prop_assert!(orthonormality_error(point.as_ref()) < 1e-13 && !info.fallback);
                let (same, _) = retracted(kind, &x).unwrap();
                prop_assert!(max_abs((same - &x).as_ref()) < 1e-13, "R(X, 0) = X");
            }
            let (white, polar) = (retracted(Retraction::Whitening, &y).unwrap().0, retracted(Retraction::Polar, &y).unwrap().0);
            prop_assert!(max_abs((white - polar).as_ref()) < 1e-12);
        }

        #[test]
        fn strides_do_not_matter(seed in 0u64..200, n in 4usize..20) {
            let y = conditioned::<f32>(n, 3, 2.0, seed);
            let mut rows: Vec<f32> = (0..n).flat_map(|i| (0..3).map(move |j| (i, j))).map(|at| y[at]).collect();
            let mut row_major = MatMut::from_row_major_slice_mut(&mut rows, n, 3);
            retract(Retraction::Whitening, row_major.as_mut(), &mut StiefelScratch::new(n, 3)).unwrap();
            let (point, _) = retracted(Retraction::Whitening, &y).unwrap();
            prop_assert!(max_abs((row_major.as_ref() - &point).as_ref()) < 1e-6);
        }
    }

    #[test]
    fn bad_inputs_are_typed_errors_and_left_alone() {
        for kind in ALL {
            for (y, non_finite) in [
                (Mat::<f32>::zeros(4, 2), false),
                (faer::mat![[1.0, 1.0], [2.0, 2.0], [0.5, 0.5]], false),
                (faer::mat![[1.0, f32::NAN], [0.0, 1.0]], true),
                (faer::mat![[1.0, f32::INFINITY], [0.0, 1.0]], true),
            ] {
                let mut after = y.clone();
                let error = retract(kind, after.as_mut(), &mut StiefelScratch::new(y.nrows(), 2)).unwrap_err();
                assert_eq!(matches!(error, ManifoldError::NonFinite), non_finite, "{kind:?} {error}");
                assert_eq!(matches!(error, ManifoldError::RankDeficient { .. }), !non_finite, "{kind:?} {error}");
                assert!((0..y.nrows()).all(|i| (0..2).all(|j| y[(i, j)].to_bits() == after[(i, j)].to_bits())));
            }
            assert!(matches!(retracted(kind, &Mat::<f32>::zeros(2, 3)), Err(ManifoldError::Infeasible { .. })));
        }
    }

    #[test]
    fn extreme_sizes_and_tiny_shapes() {
        for kind in ALL {
            for scale in [1e-30_f32, 1e30] {
                let y = conditioned::<f32>(10, 3, 2.0, 1) * faer::Scale(scale);
                assert!(orthonormality_error(retracted(kind, &y).unwrap().0.as_ref()) < 2e-6, "{kind:?} {scale}");
            }
            assert_eq!(retracted(kind, &faer::mat![[-3.0_f32]]).unwrap().0[(0, 0)], -1.0);
            assert_eq!(retracted(kind, &Mat::<f32>::zeros(3, 0)).unwrap().0.ncols(), 0);
        }
    }
}
