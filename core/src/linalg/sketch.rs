//! A two-sided linear sketch of a gradient `G` (out×in) that is never formed.
//!
//! `G = Σ_b dY_bᵀ X_b` is linear in the batches, so its products with two fixed random test matrices are too:
//!
//! ```text
//! s_in  = GᵀΩ = Σ_b X_bᵀ (dY_b Ω)     in×p     Ω  out×p
//! s_out = GΨ  = Σ_b dY_bᵀ (X_b Ψ)     out×q    Ψ  in×q
//! ```
//!
//! From both, `G ≈ Q X` (Tropp, Yurtsever, Udell and Cevher 2017, algorithms 4 and 7): `Q` (out×q) is an orthonormal
//! basis of the range of `s_out`, and `X` (q×in) the least-squares solution of `(ΩᵀQ) X = s_inᵀ`. With `p = 2q + 1`,
//! for every ϱ < q − 1,
//!
//! - `E‖G − QX‖_F² ≤ 2·(1 + ϱ/(q − ϱ − 1))·Σ_{j>ϱ} σ_j²` (their theorem 4.3);
//! - `E‖X‖_F² = ‖G‖_F²`, exactly: `X = QᵀG + (ΩᵀQ)⁺(ΩᵀQ_⊥)Q_⊥ᵀG`, and the second term has mean zero and the energy
//!   `q/(p − q − 1)·‖Q_⊥ᵀG‖_F²`. Its error shrinks with the tail of `G`, unlike that of `‖s_in‖_F²/p`, which is
//!   `√(2/p)` of the total when one direction dominates.
//!
//! A side as wide as its dimension takes the identity as its test matrix; the sketch then holds `G` and is exact.

use alloc::sync::Arc;

use faer::{Mat, MatRef, linalg::solvers::SolveLstsq};
use thiserror::Error;

use super::{LinalgError, Svd, frobenius_sq, is_finite, multiply, multiply_add, thin_svd};
use crate::{Real, random::Random};

/// What can go wrong with a sketch.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SketchError {
    /// Two sketches of different shape, width or seed cannot be added: their test matrices differ.
    #[error("sketches do not match: (out, in, q, p, seed) is {left:?} and {right:?}")]
    Mismatch {
        /// Outputs, inputs, widths q and p, and seed of the first.
        left: (usize, usize, usize, usize, u64),
        /// The same of the second.
        right: (usize, usize, usize, usize, u64),
    },
    /// More singular triplets were asked for than the sketch can give.
    #[error("rank {rank} was asked of a sketch of width {width}")]
    Rank {
        /// The rank asked for.
        rank: usize,
        /// The largest it can give, q.
        width: usize,
    },
    /// A matrix has the wrong shape, or a decomposition failed.
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}

/// The smallest width q (unless the layer itself is smaller): below it the energy estimate has no finite variance.
const MIN_WIDTH: usize = 4;

/// The oversampling that goes with a rank: q = 2·rank + 1 in all, as Tropp et al. (2017, section 4.5) advise for
/// spectra that decay.
///
/// ```
/// assert_eq!(eblora_core::linalg::sketch::default_oversample(16), 17);
/// ```
pub const fn default_oversample(rank: usize) -> usize {
    rank + 1
}

/// The two test matrices, shared by all sketches made from each other with [`TwoSidedSketch::fresh`].
#[derive(Debug)]
struct TestMatrices<T> {
    omega: Mat<T>,
    psi: Mat<T>,
    seed: u64,
}

/// The sketch of one layer's gradient: two accumulators, in×p and out×q.
///
/// ```
/// use eblora_core::linalg::sketch::TwoSidedSketch;
/// use eblora_core::random::Random;
/// let mut random = Random::new(1, "data");
/// let (dy, x) = (random.normal_matrix::<f64>(2, 30), random.normal_matrix::<f64>(2, 20));
/// let mut sketch = TwoSidedSketch::new(30, 20, 4, 4, 7);
/// sketch.update(dy.as_ref(), x.as_ref())?; // G = dYᵀX has rank 2
/// let (svd, energy) = sketch.decompose(2)?;
/// let g = dy.transpose() * &x;
/// assert!((&g - svd.reconstruct()).norm_l2() < 1e-10 && (energy / g.squared_norm_l2() - 1.0).abs() < 1e-10);
/// # Ok::<(), eblora_core::linalg::sketch::SketchError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TwoSidedSketch<T> {
    test: Arc<TestMatrices<T>>,
    s_in: Mat<T>,
    s_out: Mat<T>,
}

impl<T: Real> TwoSidedSketch<T> {
    /// An empty sketch of an `out`×`inn` gradient from which `rank` triplets will be wanted.
    ///
    /// The widths are `q = rank + oversample` (at least 4, at most min(out, inn)) and `p = 2q + 1` (at most `out`);
    /// [`default_oversample`] is a good choice. Equal arguments give equal test matrices on every platform, so that
    /// workers with the same seed can [`add`](Self::add) their sketches.
    pub fn new(out: usize, inn: usize, rank: usize, oversample: usize, seed: u64) -> Self {
        let q = (rank + oversample).max(MIN_WIDTH).min(out).min(inn);
        let p = (2 * q + 1).min(out);
        let gaussian_or_identity = |rows: usize, cols: usize, stream: &str| match cols == rows {
            true => Mat::identity(rows, cols),
            false => Random::new(seed, stream).normal_matrix(rows, cols),
        };
        let omega = gaussian_or_identity(out, p, "sketch omega");
        let psi = gaussian_or_identity(inn, q, "sketch psi");
        let test = Arc::new(TestMatrices { omega, psi, seed });
        Self { test, s_in: Mat::zeros(inn, p), s_out: Mat::zeros(out, q) }
    }

    /// An empty sketch with the same test matrices, shared, not copied: for layers of equal shape.
    pub fn fresh(&self) -> Self {
        let (s_in, s_out) = (Mat::zeros(self.inputs(), self.p()), Mat::zeros(self.outputs(), self.q()));
        Self { test: Arc::clone(&self.test), s_in, s_out }
    }

    /// A sketch like this one with accumulators computed elsewhere: `s_in` (in×p) `= GᵀΩ` and `s_out` (out×q) `= GΨ`.
    /// A device that multiplies by [`omega`](Self::omega) and [`psi`](Self::psi) itself hands its sums in here.
    ///
    /// # Errors
    /// [`LinalgError::Shape`] for accumulators of another shape.
    pub fn from_parts(&self, s_in: Mat<T>, s_out: Mat<T>) -> Result<Self, SketchError> {
        let op = "sketch from parts";
        shape(op, (self.inputs(), self.p()), s_in.as_ref())?;
        shape(op, (self.outputs(), self.q()), s_out.as_ref())?;
        Ok(Self { test: Arc::clone(&self.test), s_in, s_out })
    }

    /// The accumulators `s_in` (in×p) and `s_out` (out×q).
    pub fn accumulators(&self) -> (MatRef<'_, T>, MatRef<'_, T>) {
        (self.s_in.as_ref(), self.s_out.as_ref())
    }

    /// The test matrix Ω (out×p).
    pub fn omega(&self) -> MatRef<'_, T> {
        self.test.omega.as_ref()
    }

    /// The test matrix Ψ (in×q).
    pub fn psi(&self) -> MatRef<'_, T> {
        self.test.psi.as_ref()
    }

    /// The number of outputs, rows of `G`.
    pub fn outputs(&self) -> usize {
        self.test.omega.nrows()
    }

    /// The number of inputs, columns of `G`.
    pub fn inputs(&self) -> usize {
        self.test.psi.nrows()
    }

    /// The width p of Ω, the finer side.
    pub fn p(&self) -> usize {
        self.test.omega.ncols()
    }

    /// The width q of Ψ: the largest rank that the sketch can give.
    pub fn q(&self) -> usize {
        self.test.psi.ncols()
    }

    /// The scalars held: `in·p + out·q` in the accumulators and `out·p + in·q` in the (shareable) test matrices.
    ///
    /// ```
    /// # use eblora_core::linalg::sketch::TwoSidedSketch;
    /// let sketch = TwoSidedSketch::<f32>::new(1000, 500, 3, 4, 0); // q = 7, p = 15
    /// assert_eq!(sketch.memory_scalars(), (1000 + 500) * (7 + 15));
    /// ```
    pub fn memory_scalars(&self) -> usize {
        (self.inputs() + self.outputs()) * (self.p() + self.q())
    }

    /// Adds one batch: `G ← G + dYᵀX`, with `dy` n×out and `x` n×in. Two thin products per side; the largest
    /// temporary is n×p.
    ///
    /// # Errors
    /// [`LinalgError::Shape`] when the columns are not out and in, or the numbers of rows differ.
    pub fn update(&mut self, dy: MatRef<'_, T>, x: MatRef<'_, T>) -> Result<(), SketchError> {
        shape("sketch update, dY", (x.nrows(), self.outputs()), dy)?;
        shape("sketch update, X", (dy.nrows(), self.inputs()), x)?;
        let mut product = Mat::zeros(dy.nrows(), self.p());
        multiply(product.as_mut(), T::of(1.0), dy, self.test.omega.as_ref());
        multiply_add(self.s_in.as_mut(), T::of(1.0), x.transpose(), product.as_ref());
        let mut product = Mat::zeros(x.nrows(), self.q());
        multiply(product.as_mut(), T::of(1.0), x, self.test.psi.as_ref());
        multiply_add(self.s_out.as_mut(), T::of(1.0), dy.transpose(), product.as_ref());
        Ok(())
    }

    /// Adds a gradient that is there in full: `g` is out×in.
    ///
    /// # Errors
    /// [`LinalgError::Shape`] for another shape.
    pub fn update_dense(&mut self, g: MatRef<'_, T>) -> Result<(), SketchError> {
        shape("sketch update, G", (self.outputs(), self.inputs()), g)?;
        multiply_add(self.s_in.as_mut(), T::of(1.0), g.transpose(), self.test.omega.as_ref());
        multiply_add(self.s_out.as_mut(), T::of(1.0), g, self.test.psi.as_ref());
        Ok(())
    }

    /// Adds another worker's sketch: the result is the sketch of the sum of the gradients.
    ///
    /// ```
    /// use eblora_core::linalg::sketch::TwoSidedSketch;
    /// let g = faer::Mat::<f64>::identity(20, 20);
    /// let mut first = TwoSidedSketch::new(20, 20, 2, 2, 7);
    /// first.update_dense(g.as_ref())?;
    /// let second = first.clone();
    /// first.add(&second)?;
    /// first.scale(0.5); // the mean over two workers
    /// assert_eq!(first.accumulators(), second.accumulators());
    /// # Ok::<(), eblora_core::linalg::sketch::SketchError>(())
    /// ```
    ///
    /// # Errors
    /// [`SketchError::Mismatch`] when shape, widths or seed differ.
    pub fn add(&mut self, other: &Self) -> Result<(), SketchError> {
        if self.key() != other.key() {
            return Err(SketchError::Mismatch { left: self.key(), right: other.key() });
        }
        self.s_in += &other.s_in;
        self.s_out += &other.s_out;
        Ok(())
    }

    /// Multiplies the sketched gradient by `factor`, such as 1/batches.
    pub fn scale(&mut self, factor: T) {
        self.s_in *= faer::Scale(factor);
        self.s_out *= faer::Scale(factor);
    }

    /// The leading `rank` singular triplets of `G`: `u` out×rank, `s`, `v` in×rank.
    ///
    /// # Errors
    /// [`SketchError::Rank`] beyond q; [`LinalgError::NonFinite`] or `NoConvergence`.
    pub fn truncated_svd(&self, rank: usize) -> Result<Svd<T>, SketchError> {
        self.decompose(rank).map(|(svd, _)| svd)
    }

    /// An unbiased estimate of `‖G‖_F²`; exact when a side is as wide as its dimension, and close to it when the
    /// energy of `G` beyond its first q directions is small.
    ///
    /// # Errors
    /// [`LinalgError::NonFinite`].
    pub fn frobenius_sq(&self) -> Result<f64, SketchError> {
        if !(is_finite(self.s_in.as_ref()) && is_finite(self.s_out.as_ref())) {
            return Err(LinalgError::NonFinite { op: "sketch" }.into());
        }
        self.energy(self.range_and_core().1.as_ref())
    }

    /// Both at once, at the cost of one: the truncated SVD and the estimate of `‖G‖_F²`, which is never below the
    /// energy of the triplets but for rounding.
    ///
    /// # Errors
    /// As [`truncated_svd`](Self::truncated_svd).
    pub fn decompose(&self, rank: usize) -> Result<(Svd<T>, f64), SketchError> {
        if rank > self.q() {
            return Err(SketchError::Rank { rank, width: self.q() });
        }
        if !(is_finite(self.s_in.as_ref()) && is_finite(self.s_out.as_ref())) {
            return Err(LinalgError::NonFinite { op: "sketch" }.into());
        }
        let (range, core) = self.range_and_core();
        let energy = self.energy(core.as_ref())?;
        let mut svd = thin_svd(core.as_ref())?;
        svd.truncate(rank);
        svd.u = &range * &svd.u;
        Ok((svd, energy))
    }

    /// `Q` (out×q) and `X` (q×in) with `G ≈ QX`.
    fn range_and_core(&self) -> (Mat<T>, Mat<T>) {
        let range = self.s_out.qr().compute_thin_Q();
        let seen = self.test.omega.transpose() * &range;
        let core = seen.qr().solve_lstsq(self.s_in.transpose());
        (range, core)
    }

    fn energy(&self, core: MatRef<'_, T>) -> Result<f64, SketchError> {
        Ok(if self.p() == self.outputs() {
            frobenius_sq(self.s_in.as_ref())
        } else if self.q() == self.inputs() {
            frobenius_sq(self.s_out.as_ref())
        } else {
            frobenius_sq(core)
        })
    }

    fn key(&self) -> (usize, usize, usize, usize, u64) {
        (self.outputs(), self.inputs(), self.q(), self.p(), self.test.seed)
    }
}

fn shape<T: Real>(op: &'static str, expected: (usize, usize), a: MatRef<'_, T>) -> Result<(), LinalgError> {
    if a.shape() == expected { Ok(()) } else { Err(LinalgError::Shape { op, expected, got: a.shape() }) }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{linalg::random_orthonormal, metrics::interference::principal_angles};

    /// A matrix with the singular values `sigma` and random singular vectors; its right ones beside it.
    fn planted(seed: u64, out: usize, inn: usize, sigma: &[f64]) -> (Mat<f64>, Mat<f64>) {
        let mut random = Random::new(seed, "planted");
        let u = random_orthonormal::<f64>(out, sigma.len(), &mut random).unwrap();
        let v = random_orthonormal::<f64>(inn, sigma.len(), &mut random).unwrap();
        let us = Mat::from_fn(out, sigma.len(), |i, j| u[(i, j)] * sigma[j]);
        (&us * v.transpose(), v)
    }

    fn sketch_of(g: MatRef<'_, f64>, rank: usize, oversample: usize, seed: u64) -> TwoSidedSketch<f64> {
        let mut sketch = TwoSidedSketch::new(g.nrows(), g.ncols(), rank, oversample, seed);
        sketch.update_dense(g).unwrap();
        sketch
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn batches_workers_and_the_dense_gradient_give_one_sketch(
            seed in 0u64..1000, out in 1usize..40, inn in 1usize..40, n in 1usize..6,
        ) {
            let mut random = Random::new(seed, "batches");
            let mut workers = [TwoSidedSketch::new(out, inn, 2, 3, seed), TwoSidedSketch::new(out, inn, 2, 3, seed)];
            let mut g = Mat::<f64>::zeros(out, inn);
            for batch in 0..4 {
                let (dy, x) = (random.normal_matrix(n, out), random.normal_matrix(n, inn));
                workers[batch % 2].update(dy.as_ref(), x.as_ref()).unwrap();
                g += dy.transpose() * &x;
            }
            let [mut first, mut second] = workers;
            let alone = first.clone();
            first.add(&second).unwrap();
            second.add(&alone).unwrap();
            prop_assert_eq!(first.accumulators(), second.accumulators()); // to the bit, in either order
            let dense = sketch_of(g.as_ref(), 2, 3, seed);
            let bound = 1e-13 * (1.0 + g.norm_l2()) * (out + inn) as f64;
            prop_assert!((&first.s_in - &dense.s_in).norm_max() <= bound);
            prop_assert!((&first.s_out - &dense.s_out).norm_max() <= bound);
            first.scale(0.25);
            prop_assert!((&first.s_in - &dense.s_in * faer::Scale(0.25)).norm_max() <= bound);
        }

        #[test]
        fn low_rank_gradients_are_recovered(
            seed in 0u64..1000, out in 1usize..40, inn in 1usize..40, rank in 0usize..5,
        ) {
            let rank = rank.min(out).min(inn);
            let sigma: Vec<f64> = (0..rank).map(|j| 3.0 / (1 + j) as f64).collect();
            let (g, _) = planted(seed, out, inn, &sigma);
            let (svd, energy) = sketch_of(g.as_ref(), rank, 2.min(out.min(inn) - rank), seed).decompose(rank).unwrap();
            prop_assert!((svd.reconstruct() - &g).norm_max() < 1e-10);
            prop_assert!((energy - g.squared_norm_l2()).abs() < 1e-9);
            for j in 0..rank {
                prop_assert!((svd.s[j] - sigma[j]).abs() < 1e-10);
            }
        }

        #[test]
        fn decaying_spectra_keep_their_leading_subspace(
            seed in 0u64..1000, decay in 0.2f64..0.6, rank in 1usize..6, out in 40usize..80, inn in 40usize..80,
        ) {
            let sigma: Vec<f64> = (0..40).map(|j| libm::pow(decay, j as f64)).collect();
            let (g, v) = planted(seed, out, inn, &sigma);
            let sketch = sketch_of(g.as_ref(), rank, default_oversample(rank) + 2, seed);
            let svd = sketch.truncated_svd(rank).unwrap();
            let angle = *principal_angles(svd.v.as_ref(), v.subcols(0, rank)).unwrap().last().unwrap();
            // Wedin: sin θ ≤ ‖G − QX‖/(σ_r − σ_{r+1}), with the error bound of theorem 4.3 at ϱ = q − 3.
            let q = sketch.q();
            let tail: f64 = sigma[q - 3..].iter().map(|s| s * s).sum();
            let error = libm::sqrt(2.0 * (1.0 + (q - 3) as f64 / 2.0) * tail);
            let bound = error / (sigma[rank - 1] - sigma[rank]) * 6.0; // 6: the bound is on the mean
            prop_assert!(libm::sin(angle) <= bound, "angle {angle} bound {bound}");
            for j in 0..rank {
                prop_assert!((svd.s[j] - sigma[j]).abs() <= 6.0 * error);
            }
        }
    }

    #[test]
    fn the_mean_error_obeys_the_theorem_and_the_energy_is_unbiased() {
        // A flat tail, the worst case for both.
        let sigma: Vec<f64> = (0..30).map(|j| if j < 3 { 5.0 } else { 1.0 }).collect();
        let (g, _) = planted(3, 36, 33, &sigma);
        let truth = g.squared_norm_l2();
        let (mut errors, mut energies) = (Vec::new(), Vec::new());
        for seed in 0..1500 {
            let sketch = sketch_of(g.as_ref(), 3, 4, seed);
            let (svd, energy) = sketch.decompose(sketch.q()).unwrap();
            errors.push((svd.reconstruct() - &g).squared_norm_l2());
            energies.push(energy);
        }
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let bound = 2.0 * (1.0 + 3.0 / 3.0) * 27.0; // q = 7, ϱ = 3
        assert!(mean(&errors) <= bound, "{} > {bound}", mean(&errors));
        let m = mean(&energies);
        let variance = mean(&energies.iter().map(|e| (e - m) * (e - m)).collect::<Vec<_>>());
        let standard_error = libm::sqrt(variance / energies.len() as f64);
        assert!((m - truth).abs() < 4.0 * standard_error, "{m} {truth} ± {standard_error}");
        assert!(standard_error < 0.01 * truth, "the check is blind: ± {standard_error}");
    }

    #[test]
    fn a_wide_sketch_is_exact() {
        for (out, inn) in [(5, 5), (3, 60), (60, 3), (1, 1), (12, 40)] {
            let g = Random::new(9, "dense").normal_matrix::<f64>(out, inn);
            let sketch = sketch_of(g.as_ref(), out.min(inn), 0, 1);
            let (svd, energy) = sketch.decompose(out.min(inn)).unwrap();
            assert!((svd.reconstruct() - &g).norm_max() < 1e-12, "{out}×{inn}");
            assert!((energy - g.squared_norm_l2()).abs() < 1e-10, "{out}×{inn}");
        }
    }

    #[test]
    fn a_gradient_too_large_to_hold_is_sketched() {
        // G would need 160 GB.
        let n = 200_000;
        let mut sketch = TwoSidedSketch::<f32>::new(n, n, 1, 3, 0);
        assert_eq!(sketch.memory_scalars(), 2 * n * (4 + 9));
        let (dy, x) = (Mat::from_fn(1, n, |_, j| if j == 7 { 2.0 } else { 0.0 }), Mat::full(1, n, 1.0_f32));
        sketch.update(dy.as_ref(), x.as_ref()).unwrap();
        let svd = sketch.truncated_svd(1).unwrap();
        assert!((svd.s[0] / libm::sqrtf(4.0 * n as f32) - 1.0).abs() < 1e-4);
        assert!((svd.u[(7, 0)].abs() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_device_can_accumulate_by_itself() {
        let g = Random::new(4, "g").normal_matrix::<f64>(30, 20);
        let empty = TwoSidedSketch::new(30, 20, 3, 4, 5);
        let whole = empty.from_parts(g.transpose() * empty.omega(), &g * empty.psi()).unwrap();
        let here = sketch_of(g.as_ref(), 3, 4, 5);
        assert!((&whole.s_in - &here.s_in).norm_max() < 1e-13 && (&whole.s_out - &here.s_out).norm_max() < 1e-13);
        assert_eq!(empty.fresh().accumulators(), empty.accumulators());
        assert_ne!(empty.omega()[(0, 0)], empty.psi()[(0, 0)]); // streams of their own: Ω and Ψ are independent
        let error = empty.from_parts(Mat::zeros(20, 3), Mat::zeros(30, 7)).unwrap_err();
        let expected = LinalgError::Shape { op: "sketch from parts", expected: (20, 15), got: (20, 3) };
        assert_eq!(error, SketchError::Linalg(expected));
    }

    #[test]
    fn misuse_is_typed() {
        let mut sketch = TwoSidedSketch::<f64>::new(30, 20, 3, 4, 5);
        for other in [TwoSidedSketch::new(30, 20, 3, 4, 6), TwoSidedSketch::new(30, 21, 3, 4, 5)] {
            assert!(matches!(sketch.add(&other), Err(SketchError::Mismatch { .. })));
        }
        assert_eq!(sketch.truncated_svd(8).map(|_| ()), Err(SketchError::Rank { rank: 8, width: 7 }));
        let (dy, x) = (Mat::zeros(2, 30), Mat::zeros(3, 20));
        assert!(matches!(sketch.update(dy.as_ref(), x.as_ref()), Err(SketchError::Linalg(_))));
        let (dy, x) = (Mat::full(1, 30, f64::NAN), Mat::full(1, 20, 1.0));
        sketch.update(dy.as_ref(), x.as_ref()).unwrap();
        assert_eq!(sketch.truncated_svd(1).map(|_| ()), Err(LinalgError::NonFinite { op: "sketch" }.into()));
        assert_eq!(sketch.frobenius_sq(), Err(LinalgError::NonFinite { op: "sketch" }.into()));
    }
}
