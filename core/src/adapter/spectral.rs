//! The energy-balanced update `ΔW = s·U·Vᵀ`: orthonormal factors, one magnitude, r equal singular values `|s|`.

use alloc::{vec, vec::Vec};

use faer::{Mat, MatMut, MatRef};

use super::{AdapterError, LoraAdapter, finite, shape};
use crate::{
    Real,
    linalg::{multiply, multiply_add, orthonormality_error},
};

/// `ΔW = s·U·Vᵀ` (out×in) with `UᵀU = VᵀV = I_r`.
///
/// The fields are open, as training moves them; [`check`](Self::check) tells whether they still are what they should be.
///
/// ```
/// use eblora_core::adapter::SpectralAdapter;
/// let u = faer::mat![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]; // 3 outputs
/// let v = faer::mat![[0.0, 1.0], [1.0, 0.0]]; // 2 inputs
/// let adapter = SpectralAdapter::new(u, v, 0.5)?;
/// adapter.check(1e-12)?;
/// assert_eq!((adapter.outputs(), adapter.inputs(), adapter.rank(), adapter.orthonormality_error()), (3, 2, 2, 0.0));
/// assert_eq!(adapter.delta(), faer::mat![[0.0, 0.5], [0.5, 0.0], [0.0, 0.0]]);
/// assert_eq!(adapter.singular_values(), [0.5, 0.5]);
/// assert_eq!(adapter.to_lora().delta(), adapter.delta());
/// # Ok::<(), eblora_core::adapter::AdapterError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SpectralAdapter<T> {
    /// The output-side factor, out×r, orthonormal columns.
    pub u: Mat<T>,
    /// The input-side factor, in×r, orthonormal columns.
    pub v: Mat<T>,
    /// The magnitude.
    pub s: T,
}

impl<T: Real> SpectralAdapter<T> {
    /// The update of these factors: `u` out×r, `v` in×r. Orthonormality is left to [`check`](Self::check).
    ///
    /// # Errors
    /// [`AdapterError::Shape`] when the ranks differ, `Rank` when r exceeds out or in, `NonFinite`.
    pub fn new(u: Mat<T>, v: Mat<T>, s: T) -> Result<Self, AdapterError> {
        let adapter = Self { u, v, s };
        adapter.check_shape()?;
        Ok(adapter)
    }

    /// The number of outputs.
    pub fn outputs(&self) -> usize {
        self.u.nrows()
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.v.nrows()
    }

    /// The rank r.
    pub fn rank(&self) -> usize {
        self.u.ncols()
    }

    /// All r singular values of `ΔW`: each `|s|`.
    pub fn singular_values(&self) -> Vec<T> {
        vec![self.s.abs(); self.rank()]
    }

    /// `ΔW` itself, out×in: for checks and small layers.
    pub fn delta(&self) -> Mat<T> {
        let mut delta = Mat::zeros(self.outputs(), self.inputs());
        multiply(delta.as_mut(), self.s, self.u.as_ref(), self.v.transpose());
        delta
    }

    /// Merges the update into the weight: `W ← W + s·U·Vᵀ`, `w` out×in, nothing allocated of that size.
    ///
    /// ```
    /// # use eblora_core::adapter::SpectralAdapter;
    /// let adapter = SpectralAdapter::new(faer::mat![[1.0]], faer::mat![[0.0], [1.0]], 2.0)?;
    /// let mut w = faer::mat![[1.0, 1.0]];
    /// adapter.merge_into(w.as_mut())?;
    /// assert_eq!(w, faer::mat![[1.0, 3.0]]);
    /// # Ok::<(), eblora_core::adapter::AdapterError>(())
    /// ```
    ///
    /// # Errors
    /// [`AdapterError::Shape`] unless `w` is out×in.
    pub fn merge_into(&self, w: MatMut<'_, T>) -> Result<(), AdapterError> {
        shape("weight", (self.outputs(), self.inputs()), w.as_ref())?;
        multiply_add(w, self.s, self.u.as_ref(), self.v.transpose());
        Ok(())
    }

    /// The same update as a LoRA pair, by the PEFT export convention: `B = s·U`, `A = Vᵀ`, scale 1 (`lora_alpha = r`).
    pub fn to_lora(&self) -> LoraAdapter<T> {
        LoraAdapter { a: self.v.transpose().to_owned(), b: &self.u * faer::Scale(self.s), scale: T::of(1.0) }
    }

    /// `max |XᵀX − I|` over both factors.
    pub fn orthonormality_error(&self) -> T {
        let (u, v) = (orthonormality_error(self.u.as_ref()), orthonormality_error(self.v.as_ref()));
        if u > v { u } else { v }
    }

    /// Checks shapes, finiteness, and both factors' orthonormality to `tolerance` (the largest entry of `|XᵀX − I|`).
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`AdapterError::NotOrthonormal`].
    pub fn check(&self, tolerance: f64) -> Result<(), AdapterError> {
        self.check_shape()?;
        for (what, factor) in [("U", self.u.as_ref()), ("V", self.v.as_ref())] {
            let error = orthonormality_error(factor).f64();
            if error.is_nan() || error > tolerance {
                return Err(AdapterError::NotOrthonormal { what, error, tolerance });
            }
        }
        Ok(())
    }

    fn check_shape(&self) -> Result<(), AdapterError> {
        shape("V", (self.inputs(), self.rank()), self.v.as_ref())?;
        for (what, factor) in [("U", self.u.as_ref()), ("V", self.v.as_ref())] {
            fits(what, factor)?;
            finite(what, factor)?;
        }
        if self.s.is_finite() { Ok(()) } else { Err(AdapterError::NonFinite { what: "s" }) }
    }
}

/// Fails when a factor has more columns than rows, as these cannot be orthonormal.
fn fits<T: Real>(what: &'static str, factor: MatRef<'_, T>) -> Result<(), AdapterError> {
    let (most, rank) = factor.shape();
    if rank <= most { Ok(()) } else { Err(AdapterError::Rank { what, rank, most }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        linalg::{random_orthonormal, thin_svd},
        random::Random,
    };

    proptest! {
        #[test]
        fn values_merge_and_export_are_those_of_the_product(
            seed in 0u64..1000, out in 1usize..16, inn in 1usize..16, r in 0usize..16, s in -2.0f64..2.0,
        ) {
            let (mut random, r) = (Random::new(seed, "spectral"), r.min(out).min(inn));
            let u = random_orthonormal(out, r, &mut random).unwrap();
            let v = random_orthonormal(inn, r, &mut random).unwrap();
            let adapter = SpectralAdapter::<f64>::new(u, v, s).unwrap();
            adapter.check(1e-13).unwrap();
            let delta = adapter.delta();
            let svd = thin_svd(delta.as_ref()).unwrap();
            for (j, sigma) in svd.s.iter().enumerate() {
                let expected = if j < r { adapter.singular_values()[j] } else { 0.0 };
                prop_assert!((sigma - expected).abs() < 1e-13);
            }
            let w = random.normal_matrix::<f64>(out, inn);
            let mut merged = w.clone();
            adapter.merge_into(merged.as_mut()).unwrap();
            prop_assert!((merged - (&w + &delta)).norm_max() < 1e-14);
            let lora = adapter.to_lora();
            prop_assert_eq!(lora.scale, 1.0);
            prop_assert!((lora.b * lora.a - &delta).norm_max() < 1e-14);
        }
    }

    #[test]
    fn what_is_no_such_adapter_is_refused() {
        let identity = |n, r| Mat::<f32>::identity(n, r);
        let new = SpectralAdapter::new;
        assert!(matches!(new(identity(3, 2), identity(3, 1), 1.0), Err(AdapterError::Shape { what: "V", .. })));
        assert_eq!(new(identity(3, 3), identity(2, 3), 1.0), Err(AdapterError::Rank { what: "V", rank: 3, most: 2 }));
        assert_eq!(new(identity(3, 2), identity(2, 2), f32::NAN), Err(AdapterError::NonFinite { what: "s" }));
        let mut adapter = new(identity(3, 2), identity(2, 2), 1.0).unwrap();
        assert!(matches!(adapter.merge_into(identity(2, 3).as_mut()), Err(AdapterError::Shape { .. })));
        adapter.u[(2, 1)] = 0.1; // planted
        assert!(adapter.orthonormality_error() > 0.009);
        let error = adapter.check(1e-6).unwrap_err();
        assert!(matches!(error, AdapterError::NotOrthonormal { what: "U", .. }), "{error}");
        adapter.v[(0, 0)] = f32::NAN;
        assert_eq!(adapter.check(1.0), Err(AdapterError::NonFinite { what: "V" }));
    }
}
