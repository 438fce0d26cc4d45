//! A task's mean loss gradient `G = ∂L/∂W` (out×in), whole or as the truncated SVD that a sketch of it gives.

use alloc::vec::Vec;
use faer::{Mat, MatRef};

use super::{GpmError, Subspace};
use crate::Real;
use crate::linalg::{Svd, frobenius_sq, gram, orthonormalize_by, thin_svd};

/// The mean gradient of one layer's weight over a task's sample.
///
/// ```
/// use eblora_core::gpm::{Gradient, Subspace};
/// let g = Gradient::Exact(faer::mat![[0.0, 0.0, 3.0], [4.0, 0.0, 0.0_f64]]);
/// assert_eq!((g.shape(), g.total_energy()), ((2, 3), 25.0));
/// let m = Subspace::from_basis(faer::mat![[1.0], [0.0], [0.0]])?; // the direction of the 4 is taken
/// let svd = g.projected_off_svd(&m, 2)?;
/// assert_eq!(svd.s.len(), 1);
/// assert!((svd.s[0] - 3.0).abs() < 1e-14);
/// # Ok::<(), eblora_core::gpm::GpmError>(())
/// ```
#[derive(Clone, Debug)]
pub enum Gradient<T> {
    /// `G` itself, out×in.
    Exact(Mat<T>),
    /// `G ≈ U diag(s) Vᵀ`, recovered from a sketch.
    Factored {
        /// Left singular vectors, out×p.
        u: Mat<T>,
        /// Singular values, p.
        s: Vec<T>,
        /// Right singular vectors, in×p, orthonormal.
        v: Mat<T>,
        /// An estimate of `‖G‖_F²`, the part outside `U diag(s) Vᵀ` included.
        total_energy: f64,
    },
}

impl<T: Real> Gradient<T> {
    /// Rows and columns of `G`: the layer's output and input width.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Exact(g) => g.shape(),
            Self::Factored { u, v, .. } => (u.nrows(), v.nrows()),
        }
    }

    /// `‖G‖_F²`; for a factored gradient the given estimate, at least the energy of its factors.
    pub fn total_energy(&self) -> f64 {
        match self {
            Self::Exact(_) => self.known_energy(),
            Self::Factored { total_energy, .. } => {
                let known = self.known_energy();
                // Written so that NaN stays NaN and is refused later.
                if *total_energy < known { known } else { *total_energy }
            }
        }
    }

    /// The energy that [`projected_off_svd`](Self::projected_off_svd) can find: `‖G‖_F²` or `Σ s²`.
    pub(super) fn known_energy(&self) -> f64 {
        match self {
            Self::Exact(g) => frobenius_sq(g.as_ref()),
            Self::Factored { s, .. } => s.iter().map(|s| s.f64() * s.f64()).sum(),
        }
    }

    /// The `rank` leading components of the SVD of `G (I − MMᵀ)`; `v` (in×p) is orthonormal and orthogonal to `M`.
    ///
    /// Numerically null components (`σ ≤ 4·√max(out, in)·ε·‖G‖_F`: nothing but rounding) are left out, so fewer may come
    /// back; [`Subspace::complete`] fills up a basis.
    ///
    /// # Errors
    /// [`GpmError::Shape`] when the factors do not fit together or to the subspace, [`GpmError::NonFinite`], and
    /// [`GpmError::Linalg`].
    pub fn projected_off_svd(&self, subspace: &Subspace<T>, rank: usize) -> Result<Svd<T>, GpmError> {
        self.check(subspace.dim())?;
        let scratch = &mut Vec::new();
        let mut svd = match self {
            Self::Exact(g) => {
                let mut g = g.clone();
                subspace.project_off_right(g.as_mut(), scratch);
                thin_svd(g.as_ref())?
            }
            Self::Factored { u, s, v, .. } => {
                // (I − MMᵀ) V = Q R, hence G⊥ = U (S Rᵀ) Qᵀ: only a p×p matrix is decomposed.
                let mut v = v.clone();
                subspace.project_off(v.as_mut(), scratch);
                let (qr, p) = (v.qr(), s.len());
                let r = qr.thin_R();
                let core = thin_svd(Mat::from_fn(p, r.nrows(), |i, j| s[i] * r[(j, i)]).as_ref())?;
                Svd { u: u * &core.u, s: core.s, v: qr.compute_thin_Q() * &core.v }
            }
        };
        let (out, inputs) = self.shape();
        let null = 4.0 * libm::sqrt(out.max(inputs) as f64 * self.known_energy()) * T::EPS.f64();
        svd.truncate(svd.s.iter().take_while(|s| s.f64() > null).count().min(rank));
        // Small components carry rounding errors of the large ones: clean `V` of what lies in M.
        let clean = orthonormalize_by(svd.v.clone(), |y| subspace.project_off(y, scratch));
        if clean.ncols() == svd.v.ncols() {
            svd.v = clean;
        }
        Ok(svd)
    }

    /// What a memory needs of it: a matrix with the same `GᵀG`, without the left factor where there is one.
    ///
    /// ```
    /// use eblora_core::{faer::mat, gpm::Gradient};
    /// let (u, v) = (mat![[0.0], [1.0], [0.0]], mat![[1.0], [0.0_f64]]);
    /// let g = Gradient::Factored { u, s: vec![3.0], v, total_energy: 10.0 }.of_inputs();
    /// assert_eq!((g.shape(), g.total_energy()), ((1, 2), 10.0));
    /// ```
    pub fn of_inputs(self) -> Self {
        match self {
            Self::Exact(_) => self,
            Self::Factored { s, v, total_energy, .. } => {
                // A copy: what is kept of many layers then lies close together, and what is let go leaves no holes between.
                Self::Factored { u: Mat::identity(s.len(), s.len()), s, v: v.clone(), total_energy }
            }
        }
    }

    /// `(G B)ᵀ (G B)` (k×k) for a `basis` of in×k: the energy along each of its directions is on the diagonal.
    pub(super) fn gram_on(&self, basis: MatRef<'_, T>) -> Mat<T> {
        match self {
            Self::Exact(g) => gram((g * basis).as_ref()),
            Self::Factored { s, v, .. } => {
                let mut coefficients = v.transpose() * basis;
                for j in 0..coefficients.ncols() {
                    for i in 0..s.len() {
                        coefficients[(i, j)] *= s[i];
                    }
                }
                gram(coefficients.as_ref())
            }
        }
    }

    /// Whether the parts fit together and to `dim` inputs, and the energy is a finite number.
    pub(super) fn check(&self, dim: usize) -> Result<(), GpmError> {
        let equal = |what, expected, got| {
            if expected == got { Ok(()) } else { Err(GpmError::Shape { what, expected, got }) }
        };
        equal("input width of the gradient", dim, self.shape().1)?;
        if let Self::Factored { u, s, v, .. } = self {
            equal("columns of the gradient's u", s.len(), u.ncols())?;
            equal("columns of the gradient's v", s.len(), v.ncols())?;
        }
        let energy = self.total_energy();
        if energy.is_finite() { Ok(()) } else { Err(GpmError::NonFinite) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{max_abs, orthonormality_error, random_orthonormal};
    use crate::random::Random;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn both_forms_give_the_same_projected_svd(seed in 0u64..500, out in 1usize..20, dim in 1usize..25, k in 0usize..20) {
            let rng = &mut Random::new(seed, "gradient");
            let g = rng.normal_matrix::<f64>(out, dim);
            let m = Subspace::from_basis(random_orthonormal(dim, k.min(dim), rng).unwrap()).unwrap();
            let svd = thin_svd(g.as_ref()).unwrap();
            let factored = Gradient::Factored { u: svd.u, s: svd.s, v: svd.v, total_energy: frobenius_sq(g.as_ref()) };
            let mut direct = g.clone();
            m.project_off_right(direct.as_mut(), &mut Vec::new());
            for gradient in [Gradient::Exact(g), factored] {
                let svd = gradient.projected_off_svd(&m, usize::MAX).unwrap();
                prop_assert!(svd.s.len() <= out.min(dim - m.k()));
                prop_assert!(max_abs((svd.reconstruct() - &direct).as_ref()) < 1e-12);
                prop_assert!(orthonormality_error(svd.v.as_ref()) < 1e-12 && m.overlap(svd.v.as_ref()) < 1e-12);
            }
        }
    }

    #[test]
    fn misfits_are_typed_errors() {
        let m = Subspace::<f32>::empty(3);
        let wrong = Gradient::Exact(Mat::<f32>::zeros(2, 4));
        assert!(matches!(wrong.projected_off_svd(&m, 1), Err(GpmError::Shape { expected: 3, got: 4, .. })));
        let nan = Gradient::Exact(Mat::full(2, 3, f32::NAN));
        assert!(matches!(nan.projected_off_svd(&m, 1), Err(GpmError::NonFinite)));
        let factored = |columns, total_energy| Gradient::Factored {
            u: Mat::identity(2, columns),
            s: alloc::vec![1.0_f32],
            v: Mat::identity(3, 1),
            total_energy,
        };
        assert!(matches!(factored(2, 1.0).projected_off_svd(&m, 1), Err(GpmError::Shape { .. })));
        assert!(matches!(factored(1, f64::NAN).projected_off_svd(&m, 1), Err(GpmError::NonFinite)));
        assert_eq!(factored(1, 0.5).total_energy(), 1.0); // an estimate below what is known
    }
}
