//! The restricted Stiefel manifold `{V : VᵀV = I, MᵀV = 0}`: orthonormal columns that stay off a gradient memory `M`.

use faer::{Mat, MatMut, MatRef};

use super::{ManifoldError, Retraction, RetractionInfo, StiefelScratch, TangentMap, project_tangent, retract};
use crate::gpm::Subspace;
use crate::linalg::{frobenius_sq, orthonormality_error};
use crate::{Real, random::Random};

/// The largest feasible rank up to `rank`: `min(rank, dim − k)`; 0 when `M` (dim×k) fills the space.
///
/// ```
/// use eblora_core::manifold::feasible_rank;
/// assert_eq!(feasible_rank(64, 16, 8), 8);
/// assert_eq!(feasible_rank(64, 60, 8), 4);
/// ```
pub fn feasible_rank(dim: usize, k: usize, rank: usize) -> usize {
    rank.min(dim.saturating_sub(k))
}

/// The manifold of dim×rank matrices with orthonormal columns orthogonal to `subspace`.
///
/// ```
/// use eblora_core::{gpm::Subspace, manifold::{Retraction, RestrictedStiefel, TangentMap}, random::Random};
/// let m = Subspace::from_basis(faer::Mat::<f64>::identity(10, 4))?;
/// let manifold = RestrictedStiefel::new(&m, 3)?;
/// let (mut rng, mut scratch) = (Random::new(1, "v"), manifold.scratch());
/// let mut v = manifold.random_point(&mut rng)?;
/// let mut delta = rng.normal_matrix(10, 3);
/// manifold.project(TangentMap::Euclidean, v.as_ref(), delta.as_mut(), &mut scratch);
/// v += delta;
/// manifold.retract(Retraction::Whitening, v.as_mut(), &mut scratch)?;
/// let (orthonormality, overlap) = manifold.violation(v.as_ref());
/// assert!(orthonormality < 1e-14 && overlap < 1e-14);
/// assert!(RestrictedStiefel::new(&m, 7).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RestrictedStiefel<'a, T> {
    subspace: &'a Subspace<T>,
    rank: usize,
}

impl<'a, T: Real> RestrictedStiefel<'a, T> {
    /// The manifold off `subspace` with `rank` columns.
    ///
    /// # Errors
    /// [`ManifoldError::Infeasible`] when dim − k < rank; [`feasible_rank`] tells what fits.
    pub fn new(subspace: &'a Subspace<T>, rank: usize) -> Result<Self, ManifoldError> {
        let (dim, k) = (subspace.dim(), subspace.k());
        if feasible_rank(dim, k, rank) < rank {
            return Err(ManifoldError::Infeasible { dim, k, rank });
        }
        Ok(Self { subspace, rank })
    }

    /// The columns of a point.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// What the points are orthogonal to.
    pub fn subspace(&self) -> &'a Subspace<T> {
        self.subspace
    }

    /// Scratch space for [`project`](Self::project) and [`retract`](Self::retract).
    pub fn scratch(&self) -> StiefelScratch<T> {
        StiefelScratch::new(self.subspace.dim(), self.rank)
    }

    /// `Δ ← ` its image in the tangent space at the point `x`: off `M` first, then [`project_tangent`], which does not leave
    /// `M`'s complement because `x` is in it. With the Euclidean map it is the orthogonal projection.
    pub fn project(&self, map: TangentMap, x: MatRef<'_, T>, delta: MatMut<'_, T>, scratch: &mut StiefelScratch<T>) {
        let mut delta = delta;
        self.subspace.project_off(delta.as_mut(), &mut scratch.coefficients);
        project_tangent(map, x, delta, scratch);
    }

    /// Puts `y` (dim×rank) onto the manifold: off `M`, then [`retract`](super::retract()). Where little of `y` is left or it is
    /// ill-conditioned, a second round removes what rounding brought back of `M`.
    ///
    /// # Errors
    /// As [`retract`](super::retract()); [`ManifoldError::RankDeficient`] too when a column lies in `M`. `y` is then
    /// projected off `M` and otherwise unchanged.
    pub fn retract(
        &self,
        kind: Retraction,
        y: MatMut<'_, T>,
        scratch: &mut StiefelScratch<T>,
    ) -> Result<RetractionInfo, ManifoldError> {
        let mut y = y;
        let before = frobenius_sq(y.as_ref());
        self.subspace.project_off(y.as_mut(), &mut scratch.coefficients);
        let after = frobenius_sq(y.as_ref());
        // What is left of columns in M is rounding, and no direction.
        let noise = 16.0 * libm::sqrt(self.subspace.dim() as f64) * T::EPS.f64();
        if self.rank > 0 && self.subspace.k() > 0 && after <= before * noise * noise {
            return Err(ManifoldError::RankDeficient { condition: f64::INFINITY });
        }
        if after < 0.25 * before {
            self.subspace.project_off(y.as_mut(), &mut scratch.coefficients);
        }
        let info = retract(kind, y.as_mut(), scratch)?;
        if info.condition > 10.0 && self.subspace.k() > 0 {
            self.subspace.project_off(y.as_mut(), &mut scratch.coefficients);
            retract(kind, y, scratch)?;
        }
        Ok(info)
    }

    /// A uniformly random point.
    ///
    /// # Errors
    /// [`ManifoldError::Linalg`] should random directions fail to be independent, over and over.
    pub fn random_point(&self, rng: &mut Random) -> Result<Mat<T>, ManifoldError> {
        Ok(self.subspace.complete(Mat::zeros(self.subspace.dim(), 0), self.rank, rng)?)
    }

    /// How far `x` (dim×rank) is off the manifold: `max |XᵀX − I|`, and the greatest length of a column of `MᵀX`
    /// ([`Subspace::overlap`]).
    pub fn violation(&self, x: MatRef<'_, T>) -> (T, T) {
        (orthonormality_error(x), self.subspace.overlap(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{max_abs, random_orthonormal};
    use crate::manifold::tangency_error;
    use proptest::prelude::*;

    fn memory<T: Real>(dim: usize, k: usize, rng: &mut Random) -> Subspace<T> {
        Subspace::from_basis(random_orthonormal(dim, k, rng).unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn steps_stay_on_the_manifold(seed in 0u64..1000, dim in 1usize..30, k in 0usize..30, r in 1usize..8) {
            let rng = &mut Random::new(seed, "restricted");
            let m = memory::<f64>(dim, k.min(dim), rng);
            let r = feasible_rank(dim, m.k(), r);
            let manifold = RestrictedStiefel::new(&m, r).unwrap();
            let (mut x, mut scratch) = (manifold.random_point(rng).unwrap(), manifold.scratch());
            for kind in [Retraction::Whitening, Retraction::Polar, Retraction::Qr] {
                for map in [TangentMap::Euclidean, TangentMap::Canonical] {
                    let mut delta = rng.normal_matrix::<f64>(dim, r);
                    manifold.project(map, x.as_ref(), delta.as_mut(), &mut scratch);
                    prop_assert!(tangency_error(x.as_ref(), delta.as_ref()) < 1e-12);
                    prop_assert!(m.overlap(delta.as_ref()) < 1e-12);
                    if map == TangentMap::Euclidean {
                        let mut again = delta.clone();
                        manifold.project(map, x.as_ref(), again.as_mut(), &mut scratch);
                        prop_assert!(max_abs((again - &delta).as_ref()) < 1e-12, "idempotent");
                    }
                    x += &delta;
                    manifold.retract(kind, x.as_mut(), &mut scratch).unwrap();
                    let (orthonormality, overlap) = manifold.violation(x.as_ref());
                    prop_assert!(orthonormality < 1e-13 && overlap < 1e-13, "{orthonormality} {overlap}");
                }
            }
        }
    }

    #[test]
    fn many_steps_in_f32_do_not_drift() {
        let rng = &mut Random::new(1, "drift");
        for k in [10, 40] {
            let m = memory::<f32>(64, k, rng);
            let manifold = RestrictedStiefel::new(&m, 8).unwrap();
            let (mut x, mut scratch) = (manifold.random_point(rng).unwrap(), manifold.scratch());
            for _ in 0..300 {
                let mut delta = rng.normal_matrix::<f32>(64, 8) * faer::Scale(0.02);
                manifold.project(TangentMap::Euclidean, x.as_ref(), delta.as_mut(), &mut scratch);
                x += &delta;
                let info = manifold.retract(Retraction::Whitening, x.as_mut(), &mut scratch).unwrap();
                assert!(info.passes == 1 && info.condition < 1.2);
            }
            let (orthonormality, overlap) = manifold.violation(x.as_ref());
            assert!(orthonormality < 2e-6 && overlap < 2e-6, "{orthonormality} {overlap}");
            x[(0, 0)] += 1e-3;
            assert!(manifold.violation(x.as_ref()).1 > 2e-6, "a planted error must be seen");
        }
    }

    #[test]
    fn almost_inside_the_memory() {
        let rng = &mut Random::new(2, "near");
        let m = memory::<f32>(20, 6, rng);
        let manifold = RestrictedStiefel::new(&m, 3).unwrap();
        let inside = m.direct_basis().subcols(0, 3).to_owned();
        let mut y = &inside + manifold.random_point(rng).unwrap() * faer::Scale(1e-3);
        manifold.retract(Retraction::Whitening, y.as_mut(), &mut manifold.scratch()).unwrap();
        let (orthonormality, overlap) = manifold.violation(y.as_ref());
        assert!(orthonormality < 2e-6 && overlap < 2e-6, "{orthonormality} {overlap}");
        let mut y = inside;
        let refused = manifold.retract(Retraction::Whitening, y.as_mut(), &mut manifold.scratch());
        assert!(matches!(refused, Err(ManifoldError::RankDeficient { .. })));
    }

    #[test]
    fn empty_and_full_memories() {
        let empty = Subspace::<f64>::empty(4);
        assert!(RestrictedStiefel::new(&empty, 4).is_ok());
        assert_eq!(RestrictedStiefel::new(&empty, 5).unwrap_err(), ManifoldError::Infeasible { dim: 4, k: 0, rank: 5 });
        let full = memory::<f64>(4, 4, &mut Random::new(1, "full"));
        assert_eq!(RestrictedStiefel::new(&full, 1).unwrap_err(), ManifoldError::Infeasible { dim: 4, k: 4, rank: 1 });
        let nothing = RestrictedStiefel::new(&full, 0).unwrap();
        assert_eq!(nothing.random_point(&mut Random::new(1, "")).unwrap().shape(), (4, 0));
    }
}
