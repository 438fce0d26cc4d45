//! Symmetric eigendecompositions `A = Q Λ Qᵀ`: faer's solver in space given by the caller, nalgebra's when it gives up.

use alloc::{vec, vec::Vec};
use core::fmt;
use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};

use super::{LinalgError, max_abs};
use crate::Real;

/// QL/QR iterations allowed per eigenvalue before nalgebra gives up.
const ITERATIONS_PER_VALUE: usize = 60;

/// `A = Q Λ Qᵀ`, eigenvalues descending.
#[derive(Clone, Debug)]
pub struct SymmetricEigen<T> {
    /// The n eigenvalues, descending.
    pub values: Vec<T>,
    /// The orthogonal n×n `Q`; column j belongs to `values[j]`.
    pub vectors: Mat<T>,
}

/// The eigendecomposition of a symmetric `a` (n×n; only its lower triangle is read).
///
/// The residual `‖A − QΛQᵀ‖` and the loss of orthogonality `‖QᵀQ − I‖` are a small multiple of `n·ε` (relative to `‖A‖`).
///
/// # Errors
/// [`LinalgError::Shape`] when not square, [`LinalgError::NonFinite`], and [`LinalgError::NoConvergence`] when neither
/// solver converges.
///
/// ```
/// use eblora_core::linalg::symmetric_eigen;
/// let eigen = symmetric_eigen(faer::mat![[2.0, 1.0], [1.0, 2.0_f64]].as_ref())?;
/// assert!((eigen.values[0] - 3.0).abs() < 1e-14 && (eigen.values[1] - 1.0).abs() < 1e-14);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn symmetric_eigen<T: Real>(a: MatRef<'_, T>) -> Result<SymmetricEigen<T>, LinalgError> {
    let mut scratch = EigenScratch::new(a.nrows());
    scratch.solve(a)?;
    Ok(SymmetricEigen { values: scratch.values, vectors: scratch.vectors })
}

/// [`symmetric_eigen`] into the scratch: afterwards [`EigenScratch::values`] and [`EigenScratch::vectors`] hold the
/// result. Panics when the scratch has another size.
///
/// # Errors
/// As [`symmetric_eigen`].
///
/// ```
/// use eblora_core::linalg::{EigenScratch, symmetric_eigen_into};
/// let mut scratch = EigenScratch::new(1);
/// symmetric_eigen_into(faer::mat![[5.0_f32]].as_ref(), &mut scratch)?;
/// assert_eq!(scratch.values(), [5.0]);
/// # Ok::<(), eblora_core::linalg::LinalgError>(())
/// ```
pub fn symmetric_eigen_into<T: Real>(a: MatRef<'_, T>, scratch: &mut EigenScratch<T>) -> Result<(), LinalgError> {
    scratch.solve(a)
}

/// Space and results of eigendecompositions of n×n matrices, made once and used every step without allocating.
pub struct EigenScratch<T> {
    pub(super) values: Vec<T>,
    pub(super) vectors: Mat<T>,
    /// Space for one n×n matrix of the caller's.
    pub(super) spare: Mat<T>,
    /// `A / max|A|`.
    pub(super) input: Mat<T>,
    order: Vec<usize>,
    memory: MemBuffer,
}

impl<T: Real> EigenScratch<T> {
    /// Space for n×n matrices.
    pub fn new(n: usize) -> Self {
        let square = || Mat::zeros(n, n);
        // faer counts n − 1 reflectors: ask for n = 0 as for n = 1.
        let memory = self_adjoint_evd_scratch::<T>(n.max(1), ComputeEigenvectors::Yes, Par::Seq, Default::default());
        Self {
            values: vec![T::of(0.0); n],
            vectors: square(),
            spare: square(),
            input: square(),
            order: vec![0; n],
            memory: MemBuffer::new(memory),
        }
    }

    /// The eigenvalues of the last matrix solved, descending.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The eigenvectors of the last matrix solved; column j belongs to `values()[j]`.
    pub fn vectors(&self) -> MatRef<'_, T> {
        self.vectors.as_ref()
    }

    pub(super) fn solve(&mut self, a: MatRef<'_, T>) -> Result<(), LinalgError> {
        self.solve_with(a, solve_faer, solve_nalgebra)
    }

    /// Runs `first` on `A / max|A|` and, when it does not converge, `second`.
    fn solve_with(&mut self, a: MatRef<'_, T>, first: Solver<T>, second: Solver<T>) -> Result<(), LinalgError> {
        let (op, n) = ("symmetric_eigen", a.nrows());
        if a.ncols() != n {
            return Err(LinalgError::Shape { op, expected: (n, n), got: a.shape() });
        }
        assert_eq!(n, self.values.len(), "{op}: the scratch is for another size");
        // Scaled to a largest entry of 1, no square over- or underflows harmfully.
        for j in 0..n {
            for i in j..n {
                self.input[(i, j)] = a[(i, j)];
                self.input[(j, i)] = a[(i, j)];
            }
        }
        let scale = max_abs(self.input.as_ref());
        if !scale.is_finite() {
            return Err(LinalgError::NonFinite { op });
        }
        if scale == T::of(0.0) {
            self.values.fill(scale);
            self.vectors.fill(scale);
            (0..n).for_each(|j| self.vectors[(j, j)] = T::of(1.0));
            return Ok(());
        }
        for j in 0..n {
            for i in 0..n {
                self.input[(i, j)] /= scale;
            }
        }
        let (input, values, vectors) = (self.input.as_ref(), &mut self.values, &mut self.spare);
        let stack = MemStack::new(&mut self.memory);
        if !first(input, values, vectors, stack) && !second(input, values, vectors, stack) {
            return Err(LinalgError::NoConvergence { op });
        }
        self.order.iter_mut().enumerate().for_each(|(j, at)| *at = j);
        self.order.sort_unstable_by(|&x, &y| {
            values[y].partial_cmp(&values[x]).unwrap_or(core::cmp::Ordering::Equal).then(x.cmp(&y))
        });
        for (j, &from) in self.order.iter().enumerate() {
            self.vectors.col_mut(j).copy_from(self.spare.col(from));
        }
        self.values.sort_unstable_by(|x, y| y.partial_cmp(x).unwrap_or(core::cmp::Ordering::Equal));
        self.values.iter_mut().for_each(|value| *value *= scale);
        Ok(())
    }
}

impl<T> fmt::Debug for EigenScratch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EigenScratch").field("n", &self.order.len()).finish_non_exhaustive()
    }
}

/// Writes the eigenvalues (any order) and eigenvectors of a finite symmetric matrix; `false` without convergence.
type Solver<T> = fn(MatRef<'_, T>, &mut [T], &mut Mat<T>, &mut MemStack) -> bool;

fn solve_faer<T: Real>(a: MatRef<'_, T>, values: &mut [T], vectors: &mut Mat<T>, stack: &mut MemStack) -> bool {
    let diagonal = DiagMut::from_slice_mut(values);
    self_adjoint_evd(a, diagonal, Some(vectors.as_mut()), Par::Seq, stack, Default::default()).is_ok()
        && super::is_finite(vectors.as_ref())
}

fn solve_nalgebra<T: Real>(a: MatRef<'_, T>, values: &mut [T], vectors: &mut Mat<T>, _: &mut MemStack) -> bool {
    let n = a.nrows();
    let matrix = nalgebra::DMatrix::from_fn(n, n, |i, j| a[(i, j)]);
    let Some(eigen) = nalgebra::SymmetricEigen::try_new(matrix, T::EPS, ITERATIONS_PER_VALUE * n) else { return false };
    for j in 0..n {
        values[j] = eigen.eigenvalues[j];
        for i in 0..n {
            vectors[(i, j)] = eigen.eigenvectors[(i, j)];
        }
    }
    super::is_finite(vectors.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{frobenius_sq, gram, random_orthonormal};
    use crate::random::Random;

    const SIZES: [usize; 10] = [1, 2, 3, 7, 8, 16, 31, 32, 63, 64];

    /// The two ratios of LAPACK's test suite: `‖A − QΛQᵀ‖ / (‖A‖ n ε)` and `‖QᵀQ − I‖ / (n ε)`, Frobenius norms.
    fn ratios<T: Real>(a: MatRef<'_, T>, values: &[T], q: MatRef<'_, T>) -> (f64, f64) {
        let n = a.nrows();
        // In f64, so that the check adds no error of its own.
        let (a, q) = (to_f64(a), to_f64(q));
        let scaled = Mat::from_fn(n, n, |i, j| q[(i, j)] * values[j].f64());
        let mut residual = &scaled * q.transpose();
        residual -= &a;
        let mut orthogonality = gram(q.as_ref());
        for j in 0..n {
            orthogonality[(j, j)] -= 1.0;
        }
        let unit = n as f64 * T::EPS.f64();
        let norm = frobenius_sq(a.as_ref()).sqrt().max(f64::MIN_POSITIVE);
        (frobenius_sq(residual.as_ref()).sqrt() / (norm * unit), frobenius_sq(orthogonality.as_ref()).sqrt() / unit)
    }

    fn to_f64<T: Real>(a: MatRef<'_, T>) -> Mat<f64> {
        Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)].f64())
    }

    /// `Q diag(spectrum) Qᵀ` with a random orthogonal `Q`, built in f64 and rounded.
    fn with_spectrum<T: Real>(spectrum: &[f64], seed: u64) -> Mat<T> {
        let n = spectrum.len();
        let q: Mat<f64> = random_orthonormal(n, n, &mut Random::new(seed, "spectrum")).unwrap();
        let scaled = Mat::from_fn(n, n, |i, j| q[(i, j)] * spectrum[j]);
        let a = &scaled * q.transpose();
        Mat::from_fn(n, n, |i, j| T::of(a[(i.max(j), i.min(j))]))
    }

    fn spectra(n: usize) -> [(&'static str, Vec<f64>); 7] {
        let fill = |f: &dyn Fn(usize) -> f64| (0..n).map(f).collect::<Vec<_>>();
        let mut random = Random::new(n as u64, "values");
        [
            ("random", (0..n).map(|_| random.normal()).collect()),
            ("graded", fill(&|j| libm::pow(10.0, -(j as f64) * 12.0 / n as f64))),
            ("clustered", fill(&|j| if j % 2 == 0 { 1.0 } else { 1.0 + 1e-9 * j as f64 })),
            ("rank-deficient", fill(&|j| if j < n / 2 { 1.0 + j as f64 } else { 0.0 })),
            ("near identity", fill(&|j| 1.0 + 1e-4 * j as f64)),
            ("huge", fill(&|j| 1e30 * (1.0 + j as f64))),
            ("zero", fill(&|_| 0.0)),
        ]
    }

    fn bounded<T: Real>() {
        for n in SIZES {
            for (name, spectrum) in spectra(n) {
                let a = with_spectrum::<T>(&spectrum, n as u64);
                for (solver, run) in [("nalgebra", solve_nalgebra::<T> as Solver<T>), ("faer", solve_faer::<T>)] {
                    let mut scratch = EigenScratch::new(n);
                    scratch.solve_with(a.as_ref(), run, |_, _, _, _| false).unwrap();
                    let (residual, orthogonality) = ratios(a.as_ref(), &scratch.values, scratch.vectors.as_ref());
                    let at = alloc::format!("{} {solver} {name} n={n}: {residual} {orthogonality}", T::NAME);
                    assert!(residual < 12.0 && orthogonality < 12.0, "{at}");
                    assert!(scratch.values.is_sorted_by(|x, y| x >= y), "{at}");
                }
            }
        }
    }

    #[test]
    fn both_ratios_are_bounded_for_both_solvers() {
        bounded::<f32>();
        bounded::<f64>();
    }

    #[test]
    fn nalgebra_and_faer_agree() {
        for n in SIZES {
            let a = with_spectrum::<f64>(&spectra(n)[0].1, 3);
            let mut solved = [solve_nalgebra::<f64> as Solver<f64>, solve_faer].map(|run| {
                let mut scratch = EigenScratch::new(n);
                scratch.solve_with(a.as_ref(), run, |_, _, _, _| false).unwrap();
                scratch.values
            });
            let [x, y] = &mut solved;
            for (x, y) in x.iter().zip(y) {
                assert!((x - *y).abs() < 1e-13 * n as f64, "n={n}");
            }
        }
    }

    #[test]
    fn planted_errors_are_seen() {
        for n in [2, 16, 64] {
            let a = with_spectrum::<f32>(&spectra(n)[0].1, 5);
            let eigen = symmetric_eigen(a.as_ref()).unwrap();
            let mut values = eigen.values.clone();
            values[0] *= 1.0 + 1e-3;
            assert!(ratios(a.as_ref(), &values, eigen.vectors.as_ref()).0 > 12.0);
            let mut vectors = eigen.vectors.clone();
            vectors[(0, 0)] += 1e-3;
            assert!(ratios(a.as_ref(), &eigen.values, vectors.as_ref()).1 > 12.0);
        }
    }

    #[test]
    fn larger_matrices_and_any_strides() {
        let a = with_spectrum::<f32>(&spectra(100)[0].1, 1);
        let eigen = symmetric_eigen(a.as_ref()).unwrap();
        let (residual, orthogonality) = ratios(a.as_ref(), &eigen.values, eigen.vectors.as_ref());
        assert!(residual < 12.0 && orthogonality < 12.0, "{residual} {orthogonality}");
        let (small, reversed) = (a.submatrix(0, 0, 8, 8), a.submatrix(0, 0, 8, 8).reverse_rows_and_cols());
        let (x, y) = (symmetric_eigen(small).unwrap().values, symmetric_eigen(reversed).unwrap().values);
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-5));
    }

    #[test]
    fn errors_and_fallback() {
        let nan = faer::mat![[1.0, 0.0], [f32::NAN, 1.0]];
        assert!(matches!(symmetric_eigen(nan.as_ref()), Err(LinalgError::NonFinite { .. })));
        let wide = Mat::<f32>::zeros(2, 3);
        assert!(matches!(symmetric_eigen(wide.as_ref()), Err(LinalgError::Shape { got: (2, 3), .. })));
        let a = faer::mat![[2.0, 0.0], [0.0, 3.0_f32]];
        let mut scratch = EigenScratch::new(2);
        scratch.solve_with(a.as_ref(), |_, _, _, _| false, solve_nalgebra).unwrap();
        assert!((scratch.values[0] - 3.0).abs() < 1e-6 && (scratch.values[1] - 2.0).abs() < 1e-6);
        let none = scratch.solve_with(a.as_ref(), |_, _, _, _| false, |_, _, _, _| false);
        assert_eq!(none, Err(LinalgError::NoConvergence { op: "symmetric_eigen" }));
        assert!(symmetric_eigen(Mat::<f64>::zeros(0, 0).as_ref()).unwrap().values.is_empty());
    }
}
