//! Matrix products into a given destination: no allocation, one thread (callers parallelise over layers).

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};

use crate::Real;

/// `dst ← α·A·B`; `dst` is m×n, `a` m×k, `b` k×n. Panics on other shapes.
///
/// ```
/// use eblora_core::linalg::multiply;
/// let (a, b) = (faer::mat![[1.0, 2.0]], faer::mat![[3.0], [4.0]]);
/// let mut dst = faer::Mat::zeros(1, 1);
/// multiply(dst.as_mut(), 2.0, a.as_ref(), b.as_ref());
/// assert_eq!(dst[(0, 0)], 22.0);
/// ```
pub fn multiply<T: Real>(dst: MatMut<'_, T>, alpha: T, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    matmul(dst, Accum::Replace, a, b, alpha, Par::Seq);
}

/// `dst ← dst + α·A·B`; `dst` is m×n, `a` m×k, `b` k×n. Panics on other shapes.
///
/// ```
/// use eblora_core::linalg::multiply_add;
/// let (a, b) = (faer::mat![[1.0, 2.0]], faer::mat![[3.0], [4.0]]);
/// let mut dst = faer::mat![[1.0]];
/// multiply_add(dst.as_mut(), -1.0, a.as_ref(), b.as_ref());
/// assert_eq!(dst[(0, 0)], -10.0);
/// ```
pub fn multiply_add<T: Real>(dst: MatMut<'_, T>, alpha: T, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    matmul(dst, Accum::Add, a, b, alpha, Par::Seq);
}
