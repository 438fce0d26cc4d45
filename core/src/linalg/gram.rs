//! Gram matrices `YᵀY` and what is read off them: norms, orthonormality, finiteness.

use faer::{Mat, MatMut, MatRef};

use super::multiply;
use crate::Real;

/// The Gram matrix `YᵀY` (r×r) of `y` (n×r), exactly symmetric.
///
/// ```
/// let y = faer::mat![[1.0, 2.0], [0.0, 1.0]];
/// let g = eblora_core::linalg::gram(y.as_ref());
/// assert_eq!(g, faer::mat![[1.0, 2.0], [2.0, 5.0]]);
/// ```
pub fn gram<T: Real>(y: MatRef<'_, T>) -> Mat<T> {
    let mut dst = Mat::zeros(y.ncols(), y.ncols());
    gram_into(dst.as_mut(), y);
    dst
}

/// `dst ← YᵀY` without allocating; `dst` is r×r, `y` n×r. The lower triangle is copied onto the upper, so the result
/// is symmetric to the bit. Panics when `dst` is not r×r.
///
/// ```
/// let y = faer::mat![[3.0], [4.0]];
/// let mut g = faer::Mat::zeros(1, 1);
/// eblora_core::linalg::gram_into(g.as_mut(), y.as_ref());
/// assert_eq!(g[(0, 0)], 25.0);
/// ```
pub fn gram_into<T: Real>(mut dst: MatMut<'_, T>, y: MatRef<'_, T>) {
    multiply(dst.as_mut(), T::of(1.0), y.transpose(), y);
    mirror_lower(dst);
}

/// Copies the strict lower triangle of a square matrix onto its upper one.
pub(super) fn mirror_lower<T: Real>(mut a: MatMut<'_, T>) {
    for j in 0..a.ncols() {
        for i in j + 1..a.nrows() {
            a[(j, i)] = a[(i, j)];
        }
    }
}

/// `max |YᵀY − I|` over the entries: 0 for orthonormal columns; NaN-safe: infinite when `y` holds NaN or infinity.
///
/// ```
/// let y = faer::mat![[1.0, 0.0], [0.0, 1.5]];
/// assert_eq!(eblora_core::linalg::orthonormality_error(y.as_ref()), 1.25);
/// ```
pub fn orthonormality_error<T: Real>(y: MatRef<'_, T>) -> T {
    let mut g = gram(y);
    for j in 0..g.ncols() {
        g[(j, j)] -= T::of(1.0);
    }
    max_abs(g.as_ref())
}

/// The largest absolute entry, 0 for an empty matrix; infinite when an entry is NaN (a plain maximum would hide it).
///
/// ```
/// use eblora_core::linalg::max_abs;
/// assert_eq!(max_abs(faer::mat![[1.0, -3.0]].as_ref()), 3.0);
/// assert_eq!(max_abs(faer::mat![[1.0, f64::NAN]].as_ref()), f64::INFINITY);
/// ```
pub fn max_abs<T: Real>(a: MatRef<'_, T>) -> T {
    let mut max = T::of(0.0);
    for (i, j) in entries(a) {
        let x = a[(i, j)].abs();
        if !x.is_finite() {
            return T::of(f64::INFINITY);
        }
        if x > max {
            max = x;
        }
    }
    max
}

/// Whether every entry is finite.
///
/// ```
/// use eblora_core::linalg::is_finite;
/// assert!(is_finite(faer::mat![[1.0, 2.0]].as_ref()));
/// assert!(!is_finite(faer::mat![[1.0, f32::NAN]].as_ref()));
/// ```
pub fn is_finite<T: Real>(a: MatRef<'_, T>) -> bool {
    entries(a).all(|(i, j)| a[(i, j)].is_finite())
}

/// `‖A‖_F²`, summed in f64.
///
/// ```
/// assert_eq!(eblora_core::linalg::frobenius_sq(faer::mat![[3.0_f32, 4.0]].as_ref()), 25.0);
/// ```
pub fn frobenius_sq<T: Real>(a: MatRef<'_, T>) -> f64 {
    entries(a).map(|(i, j)| a[(i, j)].f64() * a[(i, j)].f64()).sum()
}

/// All index pairs of `a`, along its shorter stride first.
fn entries<T>(a: MatRef<'_, T>) -> impl Iterator<Item = (usize, usize)> + use<T> {
    let (m, n) = a.shape();
    let row_major = a.col_stride().unsigned_abs() < a.row_stride().unsigned_abs();
    let (outer, inner) = if row_major { (m, n) } else { (n, m) };
    (0..outer).flat_map(move |o| (0..inner).map(move |i| if row_major { (o, i) } else { (i, o) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gram_is_symmetric_and_ignores_strides(seed in 0u64..1000, n in 1usize..40, r in 1usize..12) {
            let y = Random::new(seed, "gram").normal_matrix::<f64>(n, r);
            let g = gram(y.as_ref());
            let rows: Vec<f64> = (0..n).flat_map(|i| (0..r).map(move |j| (i, j))).map(|at| y[at]).collect();
            let h = gram(MatRef::from_row_major_slice(&rows, n, r));
            for i in 0..r {
                for j in 0..r {
                    let direct: f64 = (0..n).map(|k| y[(k, i)] * y[(k, j)]).sum();
                    prop_assert_eq!(g[(i, j)], g[(j, i)]);
                    prop_assert!((g[(i, j)] - direct).abs() <= 1e-13 * n as f64 * 20.0);
                    prop_assert!((g[(i, j)] - h[(i, j)]).abs() <= 1e-13 * n as f64 * 20.0);
                }
            }
            prop_assert!((frobenius_sq(y.as_ref()) - (0..r).map(|i| g[(i, i)]).sum::<f64>()).abs() < 1e-11);
        }
    }

    #[test]
    fn a_planted_error_is_seen() {
        let mut q = Mat::<f32>::identity(6, 3);
        assert_eq!(orthonormality_error(q.as_ref()), 0.0);
        q[(5, 2)] = 1e-2;
        assert!(orthonormality_error(q.as_ref()) > 9e-5);
        q[(5, 2)] = f32::NAN;
        assert_eq!(orthonormality_error(q.as_ref()), f32::INFINITY);
    }

    #[test]
    fn empty_matrices_are_fine() {
        let y = Mat::<f64>::zeros(5, 0);
        assert_eq!(gram(y.as_ref()).shape(), (0, 0));
        assert_eq!(orthonormality_error(y.as_ref()), 0.0);
        assert_eq!(orthonormality_error(Mat::<f64>::zeros(0, 2).as_ref()), 1.0);
        assert!(is_finite(y.as_ref()));
    }
}
