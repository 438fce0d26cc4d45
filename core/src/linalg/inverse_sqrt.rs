//! The inverse square root of a Gram matrix, the heart of the whitening retraction `Y (YᵀY)^{−1/2}`.

use faer::{Mat, MatMut, MatRef};

use super::{EigenScratch, LinalgError, gram::mirror_lower, multiply};
use crate::Real;

/// `C^{−1/2}` and how well it was posed.
#[derive(Clone, Debug)]
pub struct InverseSqrt<T> {
    /// The symmetric `C^{−1/2}`, r×r.
    pub matrix: Mat<T>,
    /// Largest over smallest eigenvalue of `C` (so κ(Y)² for `C = YᵀY`); infinite when the smallest is not positive.
    pub condition: T,
}

/// `C^{−1/2} = Q Λ^{−1/2} Qᵀ` of a positive semidefinite `gram` (r×r; only its lower triangle is read).
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
    scratch.solve(gram)?;
    let (zero, one) = (T::of(0.0), T::of(1.0));
    let (first, last) = match (scratch.values.first(), scratch.values.last()) {
        (Some(&first), Some(&last)) => (first, last),
        _ => return Ok(one), // 0×0
    };
    if first <= zero {
        return Err(LinalgError::Singular { op: "inverse_sqrt", condition: f64::INFINITY });
    }
    let floor = first * T::EPS * T::of(r as f64);
    for (j, &value) in scratch.values.iter().enumerate() {
        let value = if value > floor { value } else { floor };
        let scale = one / value.sqrt();
        for i in 0..r {
            scratch.scaled[(i, j)] = scratch.vectors[(i, j)] * scale;
        }
    }
    multiply(dst.as_mut(), one, scratch.scaled.as_ref(), scratch.vectors.transpose());
    mirror_lower(dst);
    Ok(if last > zero { first / last } else { T::of(f64::INFINITY) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{gram, max_abs};
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
