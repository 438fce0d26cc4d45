//! Orthonormal bases: against a given basis, at random, completed.

use alloc::vec::Vec;
use faer::{Mat, MatMut, MatRef};

use super::{LinalgError, gram, max_abs, multiply, multiply_add};
use crate::{Real, random::Random};

/// An orthonormal basis of the columns of `y` (n×c) after `M` (n×k, orthonormal) is projected out; columns that depend
/// on `M` or on earlier ones (to `16·√n·ε` of their length), zero and non-finite columns are dropped, so n×c′ with
/// c′ ≤ c comes back. Gram–Schmidt in the given order, two rounds of it ("twice is enough").
///
/// Panics when `m` and `y` differ in rows.
///
/// ```
/// use eblora_core::linalg::orthonormalize_against;
/// let m = faer::mat![[1.0], [0.0], [0.0]];
/// let y = faer::mat![[3.0, 1.0], [0.0, 2.0], [0.0, 0.0_f64]]; // the first column lies in M
/// let q = orthonormalize_against(Some(m.as_ref()), y);
/// assert_eq!(q, faer::mat![[0.0], [1.0], [0.0]]);
/// ```
pub fn orthonormalize_against<T: Real>(m: Option<MatRef<'_, T>>, y: Mat<T>) -> Mat<T> {
    orthonormalize_by(y, |y| project_off_basis(m, y))
}

/// [`orthonormalize_against`] whatever `project_off` removes (an orthogonal projection, given in any form).
pub(crate) fn orthonormalize_by<T: Real>(mut y: Mat<T>, mut project_off: impl FnMut(MatMut<'_, T>)) -> Mat<T> {
    let n = y.nrows();
    let tolerance = T::of(16.0) * T::of(n as f64).sqrt() * T::EPS;
    // Scaled to unit columns, so that the tolerance is relative to what came in.
    let mut kept = 0;
    for j in 0..y.ncols() {
        if let Some(unit) = normalized(y.col(j).iter().copied()) {
            unit.iter().enumerate().for_each(|(i, &x)| y[(i, kept)] = x);
            kept += 1;
        }
    }
    for _round in 0..2 {
        y.resize_with(n, kept, |_, _| T::of(0.0));
        project_off(y.as_mut());
        if !newton_schulz(&mut y) {
            kept = gram_schmidt(&mut y, tolerance);
        }
    }
    y.resize_with(n, kept, |_, _| T::of(0.0));
    y
}

/// Columns that are orthonormal to √ε already (singular vectors, say) become so to ε by one matrix product,
/// `Y ← Y (3I − YᵀY)/2`. Returns whether they were.
fn newton_schulz<T: Real>(y: &mut Mat<T>) -> bool {
    let mut g = gram(y.as_ref());
    (0..g.ncols()).for_each(|j| g[(j, j)] -= T::of(1.0));
    if max_abs(g.as_ref()) * T::of(g.ncols() as f64) >= T::EPS.sqrt() {
        return false;
    }
    let old = y.clone();
    multiply_add(y.as_mut(), T::of(-0.5), old.as_ref(), g.as_ref());
    true
}

/// Orthonormalises the columns in place, each against those before it, packs the kept ones to the front and returns
/// their number. A column is dropped when no more than `tolerance` of it is new.
fn gram_schmidt<T: Real>(y: &mut Mat<T>, tolerance: T) -> usize {
    let (n, mut kept) = (y.nrows(), 0);
    let mut coefficients = Mat::zeros(y.ncols(), 1);
    for j in 0..y.ncols() {
        if kept < j {
            let (mut front, back) = y.as_mut().split_at_col_mut(j);
            front.as_mut().col_mut(kept).copy_from(back.col(0));
        }
        let (q, mut rest) = y.as_mut().split_at_col_mut(kept);
        let mut v = rest.as_mut().subcols_mut(0, 1);
        for _pass in 0..2 {
            let mut c = coefficients.as_mut().subrows_mut(0, kept);
            multiply(c.as_mut(), T::of(1.0), q.as_ref().transpose(), v.as_ref());
            multiply_add(v.as_mut(), T::of(-1.0), q.as_ref(), c.as_ref());
        }
        let norm = v.norm_l2();
        if kept < n && norm > tolerance {
            (0..n).for_each(|i| v[(i, 0)] /= norm);
            kept += 1;
        }
    }
    kept
}

/// The column scaled to length 1 without over- or underflow; `None` when zero or not finite.
fn normalized<T: Real>(column: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let mut unit: Vec<T> = column.collect();
    let largest = max_abs(MatRef::from_column_major_slice(&unit, unit.len(), 1));
    if !largest.is_finite() || largest == T::of(0.0) {
        return None;
    }
    unit.iter_mut().for_each(|x| *x /= largest);
    let norm = unit.iter().map(|&x| x * x).sum::<T>().sqrt();
    unit.iter_mut().for_each(|x| *x /= norm);
    Some(unit)
}

/// `y ← (I − MMᵀ) y`.
fn project_off_basis<T: Real>(m: Option<MatRef<'_, T>>, y: MatMut<'_, T>) {
    let Some(m) = m else { return };
    let coefficients = m.transpose() * y.as_ref();
    multiply_add(y, T::of(-1.0), m, coefficients.as_ref());
}

/// A random n×r matrix with orthonormal columns, uniform on the Stiefel manifold (Gaussian columns, Gram–Schmidt).
///
/// # Errors
/// [`LinalgError::Shape`] when r > n.
///
/// ```
/// use eblora_core::{linalg::{orthonormality_error, random_orthonormal}, random::Random};
/// let q = random_orthonormal::<f32>(20, 4, &mut Random::new(1, "q"))?;
/// assert!(orthonormality_error(q.as_ref()) < 1e-6);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn random_orthonormal<T: Real>(n: usize, r: usize, rng: &mut Random) -> Result<Mat<T>, LinalgError> {
    complete(None, Mat::zeros(n, 0), r, rng)
}

/// Fills an orthonormal `q` (n×c) up to `columns` columns with random directions orthogonal to it and to the
/// orthonormal `m` (n×k); the first c columns stay as they are, and more columns than asked for are cut off.
///
/// # Errors
/// [`LinalgError::Shape`] when there is no room: columns > n − k.
///
/// ```
/// use eblora_core::{linalg::{complete, orthonormality_error}, random::Random};
/// let q = complete(None, faer::mat![[1.0_f64], [0.0], [0.0]], 3, &mut Random::new(1, "fill"))?;
/// assert!(q.ncols() == 3 && q[(0, 0)] == 1.0 && orthonormality_error(q.as_ref()) < 1e-14);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn complete<T: Real>(
    m: Option<MatRef<'_, T>>,
    q: Mat<T>,
    columns: usize,
    rng: &mut Random,
) -> Result<Mat<T>, LinalgError> {
    let room = q.nrows().saturating_sub(m.map_or(0, |m| m.ncols()));
    complete_by(q, columns, room, rng, |y| project_off_basis(m, y))
}

/// [`complete`] against whatever `project_off` removes; `room` is the dimension of what it leaves.
pub(crate) fn complete_by<T: Real>(
    q: Mat<T>,
    columns: usize,
    room: usize,
    rng: &mut Random,
    mut project_off: impl FnMut(MatMut<'_, T>),
) -> Result<Mat<T>, LinalgError> {
    let n = q.nrows();
    if columns > room {
        return Err(LinalgError::Shape { op: "complete", expected: (n, room), got: (n, columns) });
    }
    let mut q = q;
    q.truncate(n, columns.min(q.ncols()));
    // A random direction is dependent with probability 0, but in the last dimensions it can be so numerically.
    for _attempt in 0..8 {
        let have = q.ncols();
        if have == columns {
            return Ok(q);
        }
        let random = rng.normal_matrix(n, columns - have);
        let fresh = orthonormalize_by(random, |mut y| {
            project_off(y.as_mut());
            project_off_basis(Some(q.as_ref()), y);
        });
        q.resize_with(n, have + fresh.ncols(), |i, j| fresh[(i, j - have)]);
    }
    Err(LinalgError::NoConvergence { op: "complete" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::orthonormality_error;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_basis_is_orthonormal_and_off_m(seed in 0u64..1000, n in 1usize..50, k in 0usize..20, c in 0usize..20) {
            let (k, rng) = (k.min(n), &mut Random::new(seed, "orthonormal"));
            let m = random_orthonormal::<f32>(n, k, rng).unwrap();
            let mut y = rng.normal_matrix::<f32>(n, c);
            // Planted: a column in M, a copy of the first, one tiny, and one nearly in M.
            for i in 0..n {
                if c > 3 && k > 0 {
                    y[(i, 3)] = m[(i, 0)] + 1e-3 * y[(i, 3)];
                    y[(i, 2)] = m[(i, 0)];
                    y[(i, 1)] = 2.0 * y[(i, 0)];
                }
                if c > 4 {
                    y[(i, 4)] *= 1e-30;
                }
            }
            let independent = if c > 3 && k > 0 { c - 2 } else { c };
            let q = orthonormalize_against(Some(m.as_ref()), y);
            prop_assert_eq!(q.ncols(), independent.min(n - k));
            prop_assert!(orthonormality_error(q.as_ref()) < 2e-6);
            prop_assert!(max_abs((m.transpose() * &q).as_ref()) < 2e-6);
        }

        #[test]
        fn completion_keeps_what_is_there(seed in 0u64..1000, n in 1usize..40, k in 0usize..10, c in 0usize..10) {
            let rng = &mut Random::new(seed, "complete");
            let (k, c) = (k.min(n), c.min(n - k.min(n)));
            let basis = random_orthonormal::<f64>(n, k + c, rng).unwrap();
            let (m, q) = (basis.subcols(0, k), basis.subcols(k, c).to_owned());
            let all = complete(Some(m), q.clone(), n - k, rng).unwrap();
            prop_assert_eq!(all.subcols(0, c), q.as_ref());
            prop_assert!(orthonormality_error(all.as_ref()) < 1e-13);
            prop_assert!(max_abs((m.transpose() * &all).as_ref()) < 1e-13);
            prop_assert!(complete(Some(m), q, n - k + 1, rng).is_err());
        }
    }

    #[test]
    fn zero_and_non_finite_columns_are_dropped() {
        let y = faer::mat![[0.0_f32, f32::NAN, 1.0], [0.0, 1.0, 0.0]];
        assert_eq!(orthonormalize_against(None, y), faer::mat![[1.0], [0.0]]);
        assert_eq!(orthonormalize_against::<f32>(None, Mat::zeros(4, 0)).ncols(), 0);
    }
}
