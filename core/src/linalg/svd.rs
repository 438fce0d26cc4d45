//! Thin, truncated and randomized singular value decompositions, with a second solver for when the first gives up.

use alloc::vec::Vec;
use faer::{Mat, MatRef};

use super::{LinalgError, complete, is_finite, max_abs, symmetric_eigen};
use crate::{Real, random::Random};

/// `A = U diag(s) Vᵀ` with p components, singular values descending.
#[derive(Clone, Debug)]
pub struct Svd<T> {
    /// Left singular vectors, m×p, orthonormal.
    pub u: Mat<T>,
    /// Singular values, descending, not negative.
    pub s: Vec<T>,
    /// Right singular vectors, n×p, orthonormal.
    pub v: Mat<T>,
}

impl<T: Real> Svd<T> {
    /// Keeps the first `rank` components (all when there are fewer).
    pub fn truncate(&mut self, rank: usize) {
        let rank = rank.min(self.s.len());
        self.s.truncate(rank);
        self.u.truncate(self.u.nrows(), rank);
        self.v.truncate(self.v.nrows(), rank);
    }

    /// `U diag(s) Vᵀ` (m×n).
    pub fn reconstruct(&self) -> Mat<T> {
        Mat::from_fn(self.u.nrows(), self.s.len(), |i, j| self.u[(i, j)] * self.s[j]) * self.v.transpose()
    }
}

/// The thin decomposition of `a` (m×n) with min(m, n) components.
///
/// When faer's solver does not converge (seen on ordinary matrices) the eigenvectors of the smaller Gram matrix, taken in
/// f64 and polished by Jacobi rotations, serve instead: slower, as accurate.
///
/// # Errors
/// [`LinalgError::NonFinite`], and [`LinalgError::NoConvergence`] when both ways fail.
///
/// ```
/// use eblora_core::linalg::thin_svd;
/// let a = faer::mat![[0.0, 2.0], [3.0, 0.0], [0.0, 0.0_f64]];
/// let svd = thin_svd(a.as_ref())?;
/// assert!((svd.s[0] - 3.0).abs() < 1e-14 && (svd.s[1] - 2.0).abs() < 1e-14);
/// assert!((svd.reconstruct() - a).norm_max() < 1e-14);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn thin_svd<T: Real>(a: MatRef<'_, T>) -> Result<Svd<T>, LinalgError> {
    thin_svd_with(a, |a| {
        let svd = a.thin_svd().ok()?;
        let s = svd.S().column_vector().iter().copied().collect();
        Some(Svd { u: svd.U().to_owned(), s, v: svd.V().to_owned() })
    })
}

/// [`thin_svd`] with `first` as the first solver.
fn thin_svd_with<T: Real>(
    a: MatRef<'_, T>,
    first: impl FnOnce(MatRef<'_, T>) -> Option<Svd<T>>,
) -> Result<Svd<T>, LinalgError> {
    let (op, (m, n)) = ("thin_svd", a.shape());
    if m == 0 || n == 0 {
        return Ok(Svd { u: Mat::zeros(m, 0), s: Vec::new(), v: Mat::zeros(n, 0) });
    }
    let scale = max_abs(a);
    if !scale.is_finite() {
        return Err(LinalgError::NonFinite { op });
    }
    if scale == T::of(0.0) {
        let p = m.min(n);
        return Ok(Svd { u: Mat::identity(m, p), s: alloc::vec![scale; p], v: Mat::identity(n, p) });
    }
    // Scaled to a largest entry of 1: no over- or underflow in either solver.
    let scaled = Mat::from_fn(m, n, |i, j| a[(i, j)] / scale);
    let sound =
        |svd: &Svd<T>| is_finite(svd.u.as_ref()) && is_finite(svd.v.as_ref()) && svd.s.iter().all(|s| s.is_finite());
    let mut svd = match first(scaled.as_ref()).filter(sound) {
        Some(svd) => svd,
        None => svd_by_gram(scaled.as_ref()).map_err(|_| LinalgError::NoConvergence { op })?,
    };
    svd.s.iter_mut().for_each(|s| *s *= scale);
    Ok(svd)
}

/// The thin decomposition in f64 by the eigenvectors of `AᵀA` (or `AAᵀ` when that is smaller), then polished: `A V` has
/// nearly orthogonal columns, and one-sided Jacobi rotations of them remove what squaring lost, usually in two sweeps.
fn svd_by_gram<T: Real>(a: MatRef<'_, T>) -> Result<Svd<T>, LinalgError> {
    if a.nrows() < a.ncols() {
        let Svd { u, s, v } = svd_by_gram(a.transpose())?;
        return Ok(Svd { u: v, s, v: u });
    }
    let (m, n) = a.shape();
    let a = Mat::from_fn(m, n, |i, j| a[(i, j)].f64());
    let mut v = symmetric_eigen(super::gram(a.as_ref()).as_ref())?.vectors;
    let mut av = &a * &v;
    let null = av.norm_l2() * f64::EPSILON;
    for _sweep in 0..JACOBI_SWEEPS {
        if !jacobi_sweep(&mut av, &mut v, null) {
            break;
        }
    }
    // `A v_j = σ_j u_j`.
    let mut order: Vec<(f64, usize)> = (0..n).map(|j| (av.col(j).norm_l2(), j)).collect();
    order.sort_by(|x, y| y.0.total_cmp(&x.0));
    let known = order.iter().take_while(|&&(sigma, _)| sigma > null).count();
    let u = Mat::from_fn(m, known, |i, j| av[(i, order[j].1)] / order[j].0);
    let u = complete(None, u, n, &mut Random::new(0, "null space"))?;
    Ok(Svd {
        u: Mat::from_fn(m, n, |i, j| T::of(u[(i, j)])),
        s: order.iter().map(|&(sigma, _)| T::of(sigma)).collect(),
        v: Mat::from_fn(n, n, |i, j| T::of(v[(i, order[j].1)])),
    })
}

const JACOBI_SWEEPS: usize = 30;

/// Rotates each pair of columns of `av` (and of `v` with it) to be orthogonal; columns shorter than `null` are left.
/// Returns whether anything had to be rotated.
fn jacobi_sweep(av: &mut Mat<f64>, v: &mut Mat<f64>, null: f64) -> bool {
    let (mut rotated, tolerance) = (false, f64::EPSILON * libm::sqrt(av.nrows() as f64));
    let dot = |a: &Mat<f64>, i: usize, j: usize| (0..a.nrows()).map(|k| a[(k, i)] * a[(k, j)]).sum::<f64>();
    for i in 0..av.ncols() {
        for j in i + 1..av.ncols() {
            let (x, y, xy) = (dot(av, i, i), dot(av, j, j), dot(av, i, j));
            if x.min(y) <= null * null || xy.abs() <= tolerance * libm::sqrt(x) * libm::sqrt(y) {
                continue;
            }
            rotated = true;
            let zeta = (y - x) / (2.0 * xy);
            let t = libm::copysign(1.0, zeta) / (zeta.abs() + libm::hypot(1.0, zeta));
            let c = 1.0 / libm::hypot(1.0, t);
            for a in [&mut *av, &mut *v] {
                for k in 0..a.nrows() {
                    let (p, q) = (a[(k, i)], a[(k, j)]);
                    (a[(k, i)], a[(k, j)]) = (c * (p - t * q), c * (q + t * p));
                }
            }
        }
    }
    rotated
}

/// The `rank` leading components of [`thin_svd`] (all min(m, n) when there are fewer): the best approximation of that
/// rank (Eckart–Young).
///
/// # Errors
/// As [`thin_svd`].
///
/// ```
/// use eblora_core::linalg::truncated_svd;
/// let svd = truncated_svd(faer::mat![[0.0, 2.0], [3.0, 0.0_f32]].as_ref(), 1)?;
/// assert_eq!((svd.u.shape(), svd.s.len(), svd.v.shape()), ((2, 1), 1, (2, 1)));
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn truncated_svd<T: Real>(a: MatRef<'_, T>, rank: usize) -> Result<Svd<T>, LinalgError> {
    let mut svd = thin_svd(a)?;
    svd.truncate(rank);
    Ok(svd)
}

/// An approximate truncated SVD of `a` (m×n) from random projections (Halko, Martinsson & Tropp 2011, algorithms 4.4 and
/// 5.1): the range of `(AAᵀ)^q A Ω` with `Ω` of `rank + oversample` Gaussian columns and `q = power_iterations`.
///
/// Costs O(m·n·(rank + oversample)·(q + 1)) instead of O(m·n·min(m, n)). Two iterations and 8 more columns are near the
/// optimum unless the spectrum is flat.
///
/// # Errors
/// As [`thin_svd`].
///
/// ```
/// use eblora_core::{linalg::randomized_svd, random::Random};
/// let mut rng = Random::new(1, "svd");
/// let a = rng.normal_matrix::<f64>(40, 3) * rng.normal_matrix::<f64>(3, 30); // rank 3
/// let svd = randomized_svd(a.as_ref(), 3, 5, 1, &mut rng)?;
/// assert!((svd.reconstruct() - a).norm_max() < 1e-12);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn randomized_svd<T: Real>(
    a: MatRef<'_, T>,
    rank: usize,
    oversample: usize,
    power_iterations: usize,
    rng: &mut Random,
) -> Result<Svd<T>, LinalgError> {
    let columns = rank + oversample;
    if columns >= a.nrows().min(a.ncols()) {
        return truncated_svd(a, rank);
    }
    if !is_finite(a) {
        return Err(LinalgError::NonFinite { op: "randomized_svd" });
    }
    let orthonormal = |y: Mat<T>| y.qr().compute_thin_Q();
    let mut q = orthonormal(a * rng.normal_matrix::<T>(a.ncols(), columns));
    for _ in 0..power_iterations {
        let z = orthonormal(a.transpose() * &q);
        q = orthonormal(a * &z);
    }
    let mut svd = thin_svd((q.transpose() * a).as_ref())?;
    svd.truncate(rank);
    svd.u = &q * &svd.u;
    Ok(svd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{frobenius_sq, orthonormality_error, random_orthonormal};
    use proptest::prelude::*;

    fn with_values<T: Real>(m: usize, n: usize, s: &[f64], seed: u64) -> Mat<T> {
        let rng = &mut Random::new(seed, "svd");
        let (u, v) = (random_orthonormal(m, s.len(), rng).unwrap(), random_orthonormal(n, s.len(), rng).unwrap());
        let a = Svd { u, s: s.to_vec(), v }.reconstruct();
        Mat::from_fn(m, n, |i, j| T::of(a[(i, j)]))
    }

    /// Residual over `‖A‖ max(m,n) ε`, and the larger loss of orthonormality over `max(m,n) ε`.
    fn ratios<T: Real>(a: MatRef<'_, T>, svd: &Svd<T>) -> (f64, f64) {
        let unit = a.nrows().max(a.ncols()) as f64 * T::EPS.f64();
        let residual = frobenius_sq((svd.reconstruct() - a).as_ref()).sqrt();
        let lost = orthonormality_error(svd.u.as_ref()).f64().max(orthonormality_error(svd.v.as_ref()).f64());
        (residual / (frobenius_sq(a).sqrt().max(f64::MIN_POSITIVE) * unit), lost / unit)
    }

    fn bounded<T: Real>() {
        for (m, n) in [(1, 1), (1, 9), (9, 1), (8, 8), (40, 7), (7, 40), (64, 33)] {
            let p = m.min(n);
            let fill = |f: &dyn Fn(usize) -> f64| (0..p).map(f).collect::<Vec<_>>();
            for (name, s) in [
                ("flat", fill(&|_| 1.0)),
                ("graded", fill(&|j| libm::pow(10.0, -(j as f64)))),
                ("rank-deficient", fill(&|j| f64::from(j < p / 2))),
                ("tiny", fill(&|j| 1e-30 / (1.0 + j as f64))),
                ("zero", fill(&|_| 0.0)),
            ] {
                let a = with_values::<T>(m, n, &s, 1);
                for (solver, svd) in [("faer", thin_svd(a.as_ref())), ("gram", thin_svd_with(a.as_ref(), |_| None))] {
                    let svd = svd.unwrap();
                    let (residual, lost) = ratios(a.as_ref(), &svd);
                    let at = alloc::format!("{} {solver} {name} {m}x{n}: {residual} {lost}", T::NAME);
                    assert!(residual < 12.0 && lost < 12.0, "{at}");
                    assert!(svd.s.is_sorted_by(|x, y| x >= y) && svd.s.len() == p, "{at}");
                }
                let mut planted = thin_svd(a.as_ref()).unwrap();
                planted.v[(0, 0)] += T::of(1e-2);
                assert!(ratios(a.as_ref(), &planted).1 > 12.0, "planted error unseen: {name} {m}x{n}");
            }
        }
    }

    #[test]
    fn both_solvers_are_bounded() {
        bounded::<f32>();
        bounded::<f64>();
    }

    #[test]
    fn a_solver_that_returns_nan_falls_back() {
        let a = with_values::<f32>(9, 4, &[4.0, 3.0, 2.0, 1.0], 2);
        let broken = |a: MatRef<'_, f32>| {
            Some(Svd { u: Mat::full(a.nrows(), 4, f32::NAN), s: alloc::vec![0.0; 4], v: Mat::zeros(4, 4) })
        };
        let svd = thin_svd_with(a.as_ref(), broken).unwrap();
        assert!((svd.s[0] - 4.0).abs() < 1e-5 && ratios(a.as_ref(), &svd).1 < 12.0);
    }

    #[test]
    fn non_finite_and_empty_inputs() {
        let nan = faer::mat![[1.0_f32, f32::INFINITY]];
        assert!(matches!(thin_svd(nan.as_ref()), Err(LinalgError::NonFinite { .. })));
        let wide = Mat::full(20, 20, f32::NAN);
        assert!(randomized_svd(wide.as_ref(), 2, 2, 1, &mut Random::new(0, "")).is_err());
        assert_eq!(thin_svd(Mat::<f32>::zeros(0, 3).as_ref()).unwrap().v.shape(), (3, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn truncation_is_the_best_approximation(seed in 0u64..500, m in 1usize..30, n in 1usize..30, rank in 0usize..12) {
            let a = Random::new(seed, "a").normal_matrix::<f64>(m, n);
            let all = thin_svd(a.as_ref()).unwrap();
            let svd = truncated_svd(a.as_ref(), rank).unwrap();
            let tail: f64 = all.s.iter().skip(rank).map(|s| s * s).sum();
            let left = frobenius_sq((svd.reconstruct() - &a).as_ref());
            prop_assert!((left - tail).abs() <= 1e-10 * frobenius_sq(a.as_ref()));
        }

        #[test]
        fn randomized_is_close_to_truncated(seed in 0u64..500, rank in 1usize..6) {
            let s: Vec<f64> = (0..20).map(|j| libm::pow(0.5, j as f64)).collect();
            let a = with_values::<f64>(60, 40, &s, seed);
            let svd = randomized_svd(a.as_ref(), rank, 6, 2, &mut Random::new(seed, "omega")).unwrap();
            prop_assert!(orthonormality_error(svd.u.as_ref()) < 1e-12 && orthonormality_error(svd.v.as_ref()) < 1e-12);
            for j in 0..rank {
                prop_assert!((svd.s[j] - s[j]).abs() < 1e-4 * s[j]);
            }
        }
    }
}
