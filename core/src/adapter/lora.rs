//! The LoRA pair `ΔW = scale·B·A`: what most methods train and every method exports.

use alloc::vec::Vec;

use faer::{Mat, MatMut};

use super::{AdapterError, finite, shape};
use crate::{
    Real,
    linalg::{Svd, multiply, multiply_add, thin_svd},
    random::Random,
};

/// `ΔW = scale·B·A` (out×in).
///
/// ```
/// use eblora_core::adapter::LoraAdapter;
/// let adapter = LoraAdapter::new(faer::mat![[1.0, 2.0]], faer::mat![[3.0], [4.0], [0.0]], 0.5)?;
/// assert_eq!((adapter.outputs(), adapter.inputs(), adapter.rank()), (3, 2, 1));
/// assert_eq!(adapter.delta(), faer::mat![[1.5, 3.0], [2.0, 4.0], [0.0, 0.0]]);
/// let sigma = adapter.singular_values()?;
/// assert!((sigma[0] - 0.5 * 5.0 * 5.0_f64.sqrt()).abs() < 1e-12);
/// assert!((adapter.svd()?.reconstruct() - adapter.delta()).norm_max() < 1e-12);
/// # Ok::<(), eblora_core::adapter::AdapterError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LoraAdapter<T> {
    /// The input-side factor, r×in (PEFT's `lora_A.weight`).
    pub a: Mat<T>,
    /// The output-side factor, out×r (PEFT's `lora_B.weight`).
    pub b: Mat<T>,
    /// The factor before the product, `lora_alpha / r`.
    pub scale: T,
}

impl<T: Real> LoraAdapter<T> {
    /// The update of these factors: `a` r×in, `b` out×r. The rank can be anything, even above out and in.
    ///
    /// # Errors
    /// [`AdapterError::Shape`] when the ranks differ, `NonFinite`.
    pub fn new(a: Mat<T>, b: Mat<T>, scale: T) -> Result<Self, AdapterError> {
        shape("B", (b.nrows(), a.nrows()), b.as_ref())?;
        finite("A", a.as_ref())?;
        finite("B", b.as_ref())?;
        if !scale.is_finite() {
            return Err(AdapterError::NonFinite { what: "scale" });
        }
        Ok(Self { a, b, scale })
    }

    /// PEFT's initialisation: `A` Kaiming-uniform with a = √5, which is uniform within ±√(6/((1 + 5)·in)) = ±1/√in,
    /// row by row; `B = 0`; scale `alpha / rank`.
    ///
    /// ```
    /// use eblora_core::{adapter::LoraAdapter, random::Random};
    /// let adapter = LoraAdapter::<f32>::kaiming(3, 16, 2, 4.0, &mut Random::new(1, "lora"))?;
    /// assert!(adapter.a.norm_max() <= 0.25 && adapter.b.norm_max() == 0.0 && adapter.scale == 2.0);
    /// # Ok::<(), eblora_core::adapter::AdapterError>(())
    /// ```
    ///
    /// # Errors
    /// [`AdapterError::Range`] when the rank is 0 or `alpha` is not finite.
    pub fn kaiming(out: usize, inn: usize, rank: usize, alpha: f64, random: &mut Random) -> Result<Self, AdapterError> {
        if rank == 0 {
            return Err(AdapterError::Range { what: "rank", range: "at least 1", value: 0.0 });
        }
        if !alpha.is_finite() {
            return Err(AdapterError::Range { what: "alpha", range: "finite", value: alpha });
        }
        let bound = 1.0 / libm::sqrt(inn as f64);
        let mut a = Mat::zeros(rank, inn);
        for i in 0..rank {
            for j in 0..inn {
                a[(i, j)] = T::of((2.0 * random.uniform() - 1.0) * bound);
            }
        }
        Ok(Self { a, b: Mat::zeros(out, rank), scale: T::of(alpha / rank as f64) })
    }

    /// The number of outputs.
    pub fn outputs(&self) -> usize {
        self.b.nrows()
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.a.ncols()
    }

    /// The number of columns of `B`: an upper bound of the rank of `ΔW`.
    pub fn rank(&self) -> usize {
        self.a.nrows()
    }

    /// `ΔW` itself, out×in: for checks and small layers.
    pub fn delta(&self) -> Mat<T> {
        let mut delta = Mat::zeros(self.outputs(), self.inputs());
        multiply(delta.as_mut(), self.scale, self.b.as_ref(), self.a.as_ref());
        delta
    }

    /// Merges the update into the weight: `W ← W + scale·B·A`, `w` out×in, nothing allocated of that size.
    ///
    /// ```
    /// # use eblora_core::adapter::LoraAdapter;
    /// let adapter = LoraAdapter::new(faer::mat![[0.0, 1.0]], faer::mat![[3.0]], 0.5)?;
    /// let mut w = faer::mat![[1.0, 1.0]];
    /// adapter.merge_into(w.as_mut())?;
    /// assert_eq!(w, faer::mat![[1.0, 2.5]]);
    /// # Ok::<(), eblora_core::adapter::AdapterError>(())
    /// ```
    ///
    /// # Errors
    /// [`AdapterError::Shape`] unless `w` is out×in.
    pub fn merge_into(&self, w: MatMut<'_, T>) -> Result<(), AdapterError> {
        shape("weight", (self.outputs(), self.inputs()), w.as_ref())?;
        multiply_add(w, self.scale, self.b.as_ref(), self.a.as_ref());
        Ok(())
    }

    /// The thin SVD of `ΔW` without forming it, min(r, out, in) triplets: with `B = Q_B R_B` and `Aᵀ = Q_A R_A`, the
    /// SVD `scale·R_B R_Aᵀ = P Σ Oᵀ` (at most r×r) gives `ΔW = (Q_B P) Σ (Q_A O)ᵀ`.
    ///
    /// # Errors
    /// [`LinalgError`](crate::linalg::LinalgError) for NaN, infinity or no convergence.
    pub fn svd(&self) -> Result<Svd<T>, AdapterError> {
        let (left, right) = (self.b.qr(), self.a.transpose().qr());
        let core = left.thin_R() * right.thin_R().transpose() * faer::Scale(self.scale);
        let Svd { u, s, v } = thin_svd(core.as_ref())?;
        Ok(Svd { u: left.compute_thin_Q() * u, s, v: right.compute_thin_Q() * v })
    }

    /// The min(r, out, in) singular values of `ΔW` that can be other than 0, descending, as [`svd`](Self::svd) finds
    /// them.
    ///
    /// # Errors
    /// As [`svd`](Self::svd).
    pub fn singular_values(&self) -> Result<Vec<T>, AdapterError> {
        let core = self.b.qr().thin_R() * self.a.transpose().qr().thin_R().transpose() * faer::Scale(self.scale);
        Ok(thin_svd(core.as_ref())?.s)
    }

    /// One adapter for the sum of several, by concatenation: `A` of all rows, `B` of all columns with each scale
    /// folded in, scale 1.
    ///
    /// ```
    /// # use eblora_core::adapter::LoraAdapter;
    /// let one = LoraAdapter::new(faer::mat![[1.0, 0.0]], faer::mat![[1.0]], 2.0)?;
    /// let two = LoraAdapter::new(faer::mat![[0.0, 1.0]], faer::mat![[1.0]], 3.0)?;
    /// let both = LoraAdapter::stack(&[one, two])?;
    /// assert_eq!((both.rank(), both.delta()), (2, faer::mat![[2.0, 3.0]]));
    /// # Ok::<(), eblora_core::adapter::AdapterError>(())
    /// ```
    ///
    /// # Errors
    /// [`AdapterError::Count`] for none, `Shape` when the layers differ in outputs or inputs.
    pub fn stack(adapters: &[Self]) -> Result<Self, AdapterError> {
        let first = adapters.first().ok_or(AdapterError::Count { updates: 0, weights: 0 })?;
        let (out, inn) = (first.outputs(), first.inputs());
        let rank = adapters.iter().map(Self::rank).sum();
        let (mut a, mut b) = (Mat::zeros(rank, inn), Mat::zeros(out, rank));
        let mut start = 0;
        for adapter in adapters {
            let r = adapter.rank();
            shape("A", (r, inn), adapter.a.as_ref())?;
            shape("B", (out, r), adapter.b.as_ref())?;
            a.subrows_mut(start, r).copy_from(&adapter.a);
            b.subcols_mut(start, r).copy_from(&adapter.b * faer::Scale(adapter.scale));
            start += r;
        }
        Ok(Self { a, b, scale: T::of(1.0) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::linalg::orthonormality_error;

    fn random(seed: u64, out: usize, inn: usize, r: usize, scale: f64) -> LoraAdapter<f64> {
        let mut random = Random::new(seed, "lora");
        LoraAdapter::new(random.normal_matrix(r, inn), random.normal_matrix(out, r), scale).unwrap()
    }

    proptest! {
        #[test]
        fn the_svd_of_the_factors_is_that_of_the_product(
            seed in 0u64..1000, out in 1usize..14, inn in 1usize..14, r in 0usize..10, scale in -2.0f64..2.0,
        ) {
            let adapter = random(seed, out, inn, r, scale);
            let (delta, svd) = (adapter.delta(), adapter.svd().unwrap());
            let dense = thin_svd(delta.as_ref()).unwrap().s;
            let bound = 1e-13 * (1.0 + adapter.a.norm_l2() * adapter.b.norm_l2());
            prop_assert_eq!(svd.s.len(), r.min(out).min(inn));
            prop_assert_eq!(&adapter.singular_values().unwrap(), &svd.s);
            for (j, sigma) in dense.iter().enumerate() {
                prop_assert!((sigma - svd.s.get(j).copied().unwrap_or(0.0)).abs() <= bound);
            }
            prop_assert!((svd.reconstruct() - &delta).norm_max() <= bound);
            prop_assert!(orthonormality_error(svd.u.as_ref()) < 1e-13 && orthonormality_error(svd.v.as_ref()) < 1e-13);
        }

        #[test]
        fn merging_is_adding_the_product_and_stacking_the_sum(
            seed in 0u64..1000, out in 1usize..14, inn in 1usize..14, r in 0usize..6, q in 1usize..6,
        ) {
            let (one, two) = (random(seed, out, inn, r, 0.5), random(seed + 1000, out, inn, q, -3.0));
            let w = Random::new(seed, "w").normal_matrix::<f64>(out, inn);
            let (mut apart, mut at_once) = (w.clone(), w.clone());
            one.merge_into(apart.as_mut()).unwrap();
            two.merge_into(apart.as_mut()).unwrap();
            let both = LoraAdapter::stack(&[one.clone(), two.clone()]).unwrap();
            both.merge_into(at_once.as_mut()).unwrap();
            let dense = &w + one.delta() + two.delta();
            prop_assert!((apart - &dense).norm_max() < 1e-12 && (at_once - &dense).norm_max() < 1e-12);
            prop_assert_eq!((both.rank(), both.scale), (r + q, 1.0));
        }
    }

    #[test]
    fn kaiming_fills_its_interval_evenly() {
        let adapter = LoraAdapter::<f64>::kaiming(3, 400, 50, 100.0, &mut Random::new(2, "kaiming")).unwrap();
        assert!(adapter.a.norm_max() <= 0.05 && adapter.a.norm_max() > 0.0499);
        // the variance of a uniform number within ±b is b²/3
        let variance = adapter.a.squared_norm_l2() / (400.0 * 50.0);
        assert!((variance / (0.05 * 0.05 / 3.0) - 1.0).abs() < 0.03, "{variance}");
        assert_eq!((adapter.scale, adapter.singular_values().unwrap()), (2.0, alloc::vec![0.0; 3]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (a, b) = (Mat::<f32>::zeros(2, 5), Mat::<f32>::zeros(4, 3));
        let expected = AdapterError::Shape { what: "B", expected: (4, 2), got: (4, 3) };
        assert_eq!(LoraAdapter::new(a.clone(), b, 1.0), Err(expected));
        let nan = Mat::full(4, 2, f32::NAN);
        assert_eq!(LoraAdapter::new(a.clone(), nan, 1.0), Err(AdapterError::NonFinite { what: "B" }));
        let good = LoraAdapter::new(a, Mat::zeros(4, 2), 1.0).unwrap();
        assert!(matches!(good.merge_into(Mat::zeros(5, 4).as_mut()), Err(AdapterError::Shape { .. })));
        let other = LoraAdapter::new(Mat::<f32>::zeros(2, 6), Mat::zeros(4, 2), 1.0).unwrap();
        assert!(matches!(LoraAdapter::stack(&[good, other]), Err(AdapterError::Shape { what: "A", .. })));
        assert!(matches!(LoraAdapter::<f32>::stack(&[]), Err(AdapterError::Count { .. })));
        let mut random = Random::new(0, "none");
        assert!(LoraAdapter::<f32>::kaiming(2, 2, 0, 1.0, &mut random).is_err());
        assert!(LoraAdapter::<f32>::kaiming(2, 2, 1, f64::NAN, &mut random).is_err());
    }
}
