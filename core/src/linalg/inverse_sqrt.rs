//! The inverse square root of a Gram matrix, the heart of the whitening retraction `Y (YᵀY)^{−1/2}`.

use faer::{Mat, MatMut, MatRef};

use super::{EigenScratch, LinalgError, gram::mirror_lower, multiply, multiply_add};
use crate::Real;

/// `C^{−1/2}` and how well it was posed.
#[derive(Clone, Debug)]
pub struct InverseSqrt<T> {
    /// The symmetric `C^{−1/2}`, r×r.
    pub matrix: Mat<T>,
    /// Largest over smallest eigenvalue of `C` (so κ(Y)² for `C = YᵀY`); infinite when the smallest is not positive. Near
    /// the identity it is not computed but bounded from above, by `(1 + e) / (1 − e)` for `e = ‖C − I‖_F ≤ ½`.
    pub condition: T,
}

/// `C^{−1/2}` of a positive semidefinite `gram` (r×r, exactly symmetric as [`gram`](super::gram()) makes it).
///
/// Where `‖C − I‖_F ≤ ½`, which is where training keeps it, by the binomial series of `(I + E)^{−1/2}`: three to nine r×r
/// products. Elsewhere `Q Λ^{−1/2} Qᵀ` by the eigendecomposition.
///
/// Eigenvalues below `r·ε·λ_max` are raised to that floor, so a nearly singular Gram matrix gives a bounded result; the
/// reported condition number says when that happened (above `1 / (r·ε)`).
///
/// # Errors
/// [`LinalgError::Shape`] when not square, [`LinalgError::NonFinite`], [`LinalgError::NoConvergence`], and
/// [`LinalgError::Singular`] when no eigenvalue is positive.
///
/// ```
/// use eblora_core::linalg::inverse_sqrt;
/// let w = inverse_sqrt(faer::mat![[4.0, 0.0], [0.0, 16.0]].as_ref())?;
/// assert!((w.matrix[(0, 0)] - 0.5_f64).abs() < 1e-15 && (w.matrix[(1, 1)] - 0.25).abs() < 1e-15);
/// assert!((w.condition - 4.0).abs() < 1e-14);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn inverse_sqrt<T: Real>(gram: MatRef<'_, T>) -> Result<InverseSqrt<T>, LinalgError> {
    let r = gram.nrows();
    let mut matrix = Mat::zeros(r, r);
    let condition = inverse_sqrt_into(matrix.as_mut(), gram, &mut EigenScratch::new(r))?;
    Ok(InverseSqrt { matrix, condition })
}

/// [`inverse_sqrt`] into `dst` (r×r) with scratch for r×r matrices; returns the condition number. `dst` is untouched
/// when an error is returned. Panics when `dst` or the scratch has another size.
///
/// # Errors
/// As [`inverse_sqrt`].
///
/// ```
/// use eblora_core::linalg::{EigenScratch, inverse_sqrt_into};
/// let mut scratch = EigenScratch::new(1); // once
/// let mut w = faer::Mat::zeros(1, 1);
/// inverse_sqrt_into(w.as_mut(), faer::mat![[4.0_f32]].as_ref(), &mut scratch)?; // every step
/// assert_eq!(w[(0, 0)], 0.5);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn inverse_sqrt_into<T: Real>(
    mut dst: MatMut<'_, T>,
    gram: MatRef<'_, T>,
    scratch: &mut EigenScratch<T>,
) -> Result<T, LinalgError> {
    let r = gram.nrows();
    let (zero, one) = (T::of(0.0), T::of(1.0));
    if gram.ncols() == r
        && let Some(distance) = near_identity(dst.as_mut(), gram, scratch)
    {
        return Ok((one + distance) / (one - distance));
    }
    scratch.solve(gram)?;
    let (first, last) = (scratch.values[0], scratch.values[r - 1]);
    if first <= zero {
        return Err(LinalgError::Singular { op: "inverse_sqrt", condition: f64::INFINITY });
    }
    let floor = first * T::EPS * T::of(r as f64);
    for (j, &value) in scratch.values.iter().enumerate() {
        let value = if value > floor { value } else { floor };
        let scale = one / value.sqrt();
        for i in 0..r {
            scratch.spare[(i, j)] = scratch.vectors[(i, j)] * scale;
        }
    }
    multiply(dst.as_mut(), one, scratch.spare.as_ref(), scratch.vectors.transpose());
    mirror_lower(dst);
    Ok(if last > zero { first / last } else { T::of(f64::INFINITY) })
}

/// The first coefficients of `(1 + x)^{−1/2}`.
const SERIES: [f64; 7] = [1.0, -0.5, 0.375, -0.3125, 0.2734375, -0.24609375, 0.2255859375];

/// `dst ← C^{−1/2}` when `e = ‖C − I‖_F ≤ ½`, and that `e`; otherwise `None`, and `dst` untouched.
///
/// With `P` the series of degree 6 in `E = C − I`, `P C P = I + O(E⁷)`; where that is not yet below rounding the product
/// `P C P` takes the place of `C` and the `P`s are multiplied (all are polynomials in `C` and commute).
fn near_identity<T: Real>(mut dst: MatMut<'_, T>, c: MatRef<'_, T>, scratch: &mut EigenScratch<T>) -> Option<T> {
    let (r, one) = (c.nrows(), T::of(1.0));
    let EigenScratch { vectors: square, spare: cube, input: e, .. } = scratch;
    e.copy_from(c);
    (0..r).for_each(|i| e[(i, i)] -= one);
    let mut distance = e.norm_l2();
    // Not finite is not near either.
    if distance > T::of(0.5) || !distance.is_finite() {
        return None;
    }
    let first_distance = distance;
    for round in 0.. {
        multiply(square.as_mut(), one, e.as_ref(), e.as_ref());
        multiply(cube.as_mut(), one, square.as_ref(), e.as_ref());
        // E ← (a₀ + a₁E + a₂E²), and square ← (a₃ + a₄E + a₅E² + a₆E³): P = E + E³·square.
        let [a0, a1, a2, a3, a4, a5, a6] = SERIES.map(T::of);
        for j in 0..r {
            for i in 0..r {
                let (x, x2, x3) = (e[(i, j)], square[(i, j)], cube[(i, j)]);
                e[(i, j)] = a1 * x + a2 * x2;
                square[(i, j)] = a4 * x + a5 * x2 + a6 * x3;
            }
            e[(j, j)] += a0;
            square[(j, j)] += a3;
        }
        multiply_add(e.as_mut(), one, cube.as_ref(), square.as_ref());
        if round == 0 {
            dst.copy_from(e.as_ref());
        } else {
            square.copy_from(dst.as_ref());
            multiply(dst.as_mut(), one, square.as_ref(), e.as_ref());
        }
        // The next E is at most 2·E⁷ in norm.
        if T::of(2.0) * distance.powi(7) <= T::EPS {
            break;
        }
        multiply(square.as_mut(), one, c, dst.as_ref());
        multiply(e.as_mut(), one, dst.as_ref(), square.as_ref());
        (0..r).for_each(|i| e[(i, i)] -= one);
        distance = e.norm_l2();
    }
    mirror_lower(dst);
    Some(first_distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{gram, max_abs, random_orthonormal};
    use crate::random::Random;
    use proptest::prelude::*;

    /// `max |W C W − I|`.
    fn error<T: Real>(w: MatRef<'_, T>, c: MatRef<'_, T>) -> f64 {
        let mut e = w * c * w;
        for i in 0..e.nrows() {
            e[(i, i)] -= T::of(1.0);
        }
        max_abs(e.as_ref()).f64()
    }

    proptest! {
        #[test]
        fn it_whitens(seed in 0u64..500, r in 1usize..20, extra in 0usize..30) {
            let y = Random::new(seed, "whiten").normal_matrix::<f64>(r + extra, r);
            let c = gram(y.as_ref());
            let w = inverse_sqrt(c.as_ref()).unwrap();
            let bound = 20.0 * r as f64 * f64::EPSILON * w.condition.max(1.0);
            prop_assert!(error(w.matrix.as_ref(), c.as_ref()) <= bound);
            let mut planted = w.matrix.clone();
            planted[(0, 0)] *= 1.0 + 1e-3 + 10.0 * bound;
            prop_assert!(error(planted.as_ref(), c.as_ref()) > bound, "the comparator must see a planted error");
        }
    }

    /// `Q diag(1 + e_j) Qᵀ` with `‖e‖ = distance`, through the series and through the eigendecomposition.
    fn series_against_eigen<T: Real>(r: usize, distance: f64) {
        let rng = &mut Random::new(r as u64, "near");
        let q: Mat<f64> = random_orthonormal(r, r, rng).unwrap();
        let mut e = rng.normal_matrix::<f64>(r, 1);
        e = &e * faer::Scale(distance / e.norm_l2());
        let by = |f: &dyn Fn(f64) -> f64| {
            let scaled = Mat::from_fn(r, r, |i, j| q[(i, j)] * f(1.0 + e[(j, 0)]));
            let c = &scaled * q.transpose();
            Mat::from_fn(r, r, |i, j| T::of(c[(i.max(j), i.min(j))]))
        };
        let (c, exact) = (by(&|x| x), by(&|x| 1.0 / x.sqrt()));
        let mut w = Mat::zeros(r, r);
        let seen = near_identity(w.as_mut(), c.as_ref(), &mut EigenScratch::new(r)).unwrap();
        assert!((seen.f64() - distance).abs() < 1e-6);
        let apart = max_abs((&w - &exact).as_ref()) / T::EPS;
        let at = alloc::format!("{} r={r} e={distance}: {apart} ε", T::NAME);
        assert!(apart < T::of(12.0) && error(w.as_ref(), c.as_ref()) < (8.0 + 0.5 * r as f64) * T::EPS.f64(), "{at}");
        let condition = inverse_sqrt(c.as_ref()).unwrap().condition.f64();
        let true_condition =
            (0..r).map(|j| 1.0 + e[(j, 0)]).fold((f64::MAX, 0.0_f64), |(a, b), x| (a.min(x), b.max(x)));
        assert!(condition >= true_condition.1 / true_condition.0 - 1e-5 && condition <= 3.01, "{at}");
    }

    #[test]
    fn near_the_identity_the_series_serves() {
        for r in [1, 2, 3, 8, 16, 33, 64] {
            for distance in [0.0, 1e-6, 1e-3, 0.02, 0.1, 0.3, 0.499] {
                series_against_eigen::<f32>(r, distance);
                series_against_eigen::<f64>(r, distance);
            }
        }
        let far = Mat::<f64>::identity(2, 2) * faer::Scale(2.0);
        let mut untouched = Mat::full(2, 2, 7.0);
        assert!(near_identity(untouched.as_mut(), far.as_ref(), &mut EigenScratch::new(2)).is_none());
        assert_eq!(untouched, Mat::full(2, 2, 7.0));
    }

    #[test]
    fn singular_inputs() {
        let semi = inverse_sqrt(faer::mat![[1.0_f32, 0.0], [0.0, 0.0]].as_ref()).unwrap();
        assert!(semi.condition.is_infinite() && crate::linalg::is_finite(semi.matrix.as_ref()));
        let zero = inverse_sqrt(Mat::<f32>::zeros(3, 3).as_ref());
        assert!(matches!(zero, Err(LinalgError::Singular { .. })));
        let nan = inverse_sqrt(faer::mat![[f64::NAN]].as_ref());
        assert!(matches!(nan, Err(LinalgError::NonFinite { .. })));
        assert_eq!(inverse_sqrt(Mat::<f32>::zeros(0, 0).as_ref()).unwrap().condition, 1.0);
    }
}
