//! The Stiefel manifold `{X ∈ R^{n×r} : XᵀX = I}`: tangent maps, inner products, random points, checks.

use alloc::vec::Vec;
use faer::{Mat, MatMut, MatRef};

use super::ManifoldError;
use crate::linalg::{EigenScratch, max_abs, multiply, multiply_add, random_orthonormal};
use crate::{Real, random::Random};

/// How an ambient matrix becomes a tangent vector at `X`, that is one with `XᵀΔ + ΔᵀX = 0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TangentMap {
    /// `Δ − X sym(XᵀΔ)`, the orthogonal projection: the gradient in the Euclidean metric `tr(AᵀB)`.
    #[default]
    Euclidean,
    /// `Δ − X ΔᵀX`: the gradient in the canonical metric `tr(Aᵀ(I − ½XXᵀ)B)`, which the paper's released code uses. Not a
    /// projection: it doubles the part `X skew(XᵀΔ)`.
    Canonical,
}

/// Scratch space for n×r factors, made once and used every step.
#[derive(Debug)]
pub struct StiefelScratch<T> {
    /// r×r: `XᵀΔ`, `YᵀY`.
    pub(super) gram: Mat<T>,
    /// r×r: `(YᵀY)^{−1/2}`.
    pub(super) whitener: Mat<T>,
    /// n×r: a copy of `Y`.
    pub(super) copy: Mat<T>,
    pub(super) eigen: EigenScratch<T>,
    /// Coefficients on the basis of `M`.
    pub(super) coefficients: Vec<T>,
}

impl<T: Real> StiefelScratch<T> {
    /// Space for n×r factors.
    pub fn new(n: usize, r: usize) -> Self {
        Self {
            gram: Mat::zeros(r, r),
            whitener: Mat::zeros(r, r),
            copy: Mat::zeros(n, r),
            eigen: EigenScratch::new(r),
            coefficients: Vec::new(),
        }
    }
}

/// `Δ ← ` its image in the tangent space at `x` under `map`; `x` and `delta` are n×r, and so must the scratch be. After the
/// Euclidean map `(X + Δ)ᵀ(X + Δ) = I + ΔᵀΔ`.
///
/// ```
/// use eblora_core::manifold::{StiefelScratch, TangentMap, project_tangent};
/// let x = faer::mat![[1.0], [0.0]];
/// let mut delta = faer::mat![[0.3], [0.4]];
/// project_tangent(TangentMap::Euclidean, x.as_ref(), delta.as_mut(), &mut StiefelScratch::new(2, 1));
/// assert_eq!(delta, faer::mat![[0.0], [0.4]]);
/// ```
pub fn project_tangent<T: Real>(
    map: TangentMap,
    x: MatRef<'_, T>,
    delta: MatMut<'_, T>,
    scratch: &mut StiefelScratch<T>,
) {
    let c = &mut scratch.gram;
    match map {
        TangentMap::Euclidean => {
            multiply(c.as_mut(), T::of(1.0), x.transpose(), delta.as_ref());
            for j in 0..c.ncols() {
                for i in j + 1..c.nrows() {
                    let mean = T::of(0.5) * (c[(i, j)] + c[(j, i)]);
                    (c[(i, j)], c[(j, i)]) = (mean, mean);
                }
            }
        }
        TangentMap::Canonical => multiply(c.as_mut(), T::of(1.0), delta.as_ref().transpose(), x),
    }
    multiply_add(delta, T::of(-1.0), x, c.as_ref());
}

/// The inner product of two tangent vectors `a`, `b` (n×r) at `x` in the metric that belongs to `map`: `tr(AᵀB)`, or
/// `tr(Aᵀ(I − ½XXᵀ)B)`.
///
/// ```
/// use eblora_core::manifold::{TangentMap, inner_product};
/// let (x, a) = (faer::mat![[1.0], [0.0]], faer::mat![[0.0], [2.0]]);
/// assert_eq!(inner_product(TangentMap::Canonical, x.as_ref(), a.as_ref(), a.as_ref()), 4.0);
/// ```
pub fn inner_product<T: Real>(map: TangentMap, x: MatRef<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) -> T {
    let trace = |a: MatRef<'_, T>, b: MatRef<'_, T>| {
        (0..a.ncols()).flat_map(|j| (0..a.nrows()).map(move |i| a[(i, j)] * b[(i, j)])).sum::<T>()
    };
    match map {
        TangentMap::Euclidean => trace(a, b),
        TangentMap::Canonical => {
            trace(a, b) - T::of(0.5) * trace((x.transpose() * a).as_ref(), (x.transpose() * b).as_ref())
        }
    }
}

/// A uniformly random point, n×r.
///
/// # Errors
/// [`ManifoldError::Infeasible`] when r > n.
///
/// ```
/// use eblora_core::{linalg::orthonormality_error, manifold::random_point, random::Random};
/// let x = random_point::<f64>(10, 3, &mut Random::new(1, "point"))?;
/// assert!(orthonormality_error(x.as_ref()) < 1e-14);
/// # Ok::<(), eblora_core::manifold::ManifoldError>(())
/// ```
pub fn random_point<T: Real>(n: usize, r: usize, rng: &mut Random) -> Result<Mat<T>, ManifoldError> {
    if r > n {
        return Err(ManifoldError::Infeasible { dim: n, k: 0, rank: r });
    }
    Ok(random_orthonormal(n, r, rng)?)
}

/// `max |XᵀΔ + ΔᵀX|`: 0 for a tangent vector; infinite when something is not finite.
///
/// ```
/// use eblora_core::manifold::tangency_error;
/// let x = faer::mat![[1.0], [0.0]];
/// assert_eq!(tangency_error(x.as_ref(), faer::mat![[0.5], [7.0]].as_ref()), 1.0);
/// ```
pub fn tangency_error<T: Real>(x: MatRef<'_, T>, delta: MatRef<'_, T>) -> T {
    let c = x.transpose() * delta;
    max_abs((&c + c.transpose()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{gram, is_finite};
    use proptest::prelude::*;

    fn projected(map: TangentMap, x: &Mat<f64>, delta: &Mat<f64>) -> Mat<f64> {
        let mut delta = delta.clone();
        project_tangent(map, x.as_ref(), delta.as_mut(), &mut StiefelScratch::new(x.nrows(), x.ncols()));
        delta
    }

    proptest! {
        #[test]
        fn tangent_maps(seed in 0u64..1000, extra in 0usize..30, r in 1usize..9) {
            let (n, rng) = (r + extra, &mut Random::new(seed, "tangent"));
            let x = random_point::<f64>(n, r, rng).unwrap();
            let (g, d) = (rng.normal_matrix(n, r), rng.normal_matrix(n, r));
            let tangent = projected(TangentMap::Euclidean, &x, &d);
            for map in [TangentMap::Euclidean, TangentMap::Canonical] {
                let p = projected(map, &x, &g);
                prop_assert!(tangency_error(x.as_ref(), p.as_ref()) < 1e-12);
                // Each is the gradient in its own metric: ⟨P g, Δ⟩ = tr(gᵀΔ) for every tangent Δ.
                let by_metric = inner_product(map, x.as_ref(), p.as_ref(), tangent.as_ref());
                let ambient = inner_product(TangentMap::Euclidean, x.as_ref(), g.as_ref(), tangent.as_ref());
                prop_assert!((by_metric - ambient).abs() < 1e-11, "{by_metric} {ambient}");
            }
            // The Euclidean one is idempotent and gives YᵀY = I + ΔᵀΔ.
            prop_assert!(max_abs((projected(TangentMap::Euclidean, &x, &tangent) - &tangent).as_ref()) < 1e-12);
            let left = gram((&x + &tangent).as_ref()) - gram(tangent.as_ref()) - Mat::<f64>::identity(r, r);
            prop_assert!(max_abs(left.as_ref()) < 1e-12);
            // The canonical one doubles the part along X.
            let twice = projected(TangentMap::Canonical, &x, &tangent);
            let along = &x * (x.transpose() * &tangent);
            prop_assert!(max_abs((twice - &tangent - along).as_ref()) < 1e-12);
        }
    }

    #[test]
    fn a_square_orthogonal_matrix_and_one_by_one() {
        let x = random_point::<f64>(4, 4, &mut Random::new(1, "square")).unwrap();
        let tangent = projected(TangentMap::Euclidean, &x, &Random::new(2, "d").normal_matrix(4, 4));
        assert!(tangency_error(x.as_ref(), tangent.as_ref()) < 1e-14 && is_finite(tangent.as_ref()));
        assert_eq!(projected(TangentMap::Euclidean, &faer::mat![[1.0]], &faer::mat![[0.7]])[(0, 0)], 0.0);
        assert!(random_point::<f32>(2, 3, &mut Random::new(1, "")).is_err());
    }

    #[test]
    fn a_planted_normal_part_is_seen() {
        let x = random_point::<f64>(6, 2, &mut Random::new(1, "x")).unwrap();
        let tangent = projected(TangentMap::Euclidean, &x, &Random::new(2, "d").normal_matrix(6, 2));
        assert!(tangency_error(x.as_ref(), (tangent + &x * faer::Scale(1e-6)).as_ref()) > 1e-7);
    }
}
