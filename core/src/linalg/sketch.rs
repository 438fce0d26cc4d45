//! A two-sided linear sketch of a gradient `G` (out×in) that is never formed.
//!
//! `G = Σ_b dY_bᵀ X_b` is linear in the batches, so its products with two fixed random test matrices are too:
//!
//! ```text
//! s_in  = GᵀΩ = Σ_b X_bᵀ (dY_b Ω)     in×p     Ω  out×p
//! s_out = GΨ  = Σ_b dY_bᵀ (X_b Ψ)     out×q    Ψ  in×q
//! ```
//!
//! `recover.rs` gets the truncated SVD of `G` and an unbiased `‖G‖_F²` back from the two.
//!
//! A side as wide as its dimension takes the identity as its test matrix; the sketch then holds `G` and is exact.

use alloc::sync::Arc;

use faer::{Mat, MatRef};
use thiserror::Error;

use super::{LinalgError, multiply, multiply_add};
use crate::{Real, random::Random};

mod recover;

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

/// The oversampling that goes with a rank: q = 2·rank + 1 in all, as Tropp et al. (2017) advise for
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
    /// ```
    /// use eblora_core::linalg::sketch::TwoSidedSketch;
    /// let g = faer::Mat::<f64>::from_fn(30, 20, |i, j| if i == j { 1.0 / (1 + i) as f64 } else { 0.0 });
    /// let layer = TwoSidedSketch::new(30, 20, 2, 3, 7);
    /// let (device, mut here) = (layer.from_parts(g.transpose() * layer.omega(), &g * layer.psi())?, layer.fresh());
    /// here.update_dense(g.as_ref())?;
    /// assert_eq!((here.outputs(), here.inputs(), here.p(), here.q()), (30, 20, 11, 5));
    /// assert!((device.truncated_svd(2)?.s[0] - here.truncated_svd(2)?.s[0]).abs() < 1e-12);
    /// assert!((device.frobenius_sq()? - here.frobenius_sq()?).abs() < 1e-12);
    /// # Ok::<(), eblora_core::linalg::sketch::SketchError>(())
    /// ```
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

    fn key(&self) -> (usize, usize, usize, usize, u64) {
        (self.outputs(), self.inputs(), self.q(), self.p(), self.test.seed)
    }
}

fn shape<T: Real>(op: &'static str, expected: (usize, usize), a: MatRef<'_, T>) -> Result<(), LinalgError> {
    if a.shape() == expected { Ok(()) } else { Err(LinalgError::Shape { op, expected, got: a.shape() }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        let (dy, x) = (Mat::zeros(2, 30), Mat::zeros(3, 20));
        assert!(matches!(sketch.update(dy.as_ref(), x.as_ref()), Err(SketchError::Linalg(_))));
    }
}
