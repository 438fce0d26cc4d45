//! Where a new task's adapter starts: `U₀ = −P`, `V₀ = Q` from the truncated SVD `G(I − MMᵀ) ≈ P Σ Qᵀ`.
//!
//! `G` (out×in) is the mean loss gradient `∂L/∂W` of the task, `M` (in×k) the gradient subspace of earlier tasks. At
//! `ΔW = s·U₀V₀ᵀ` the loss changes by `dL/ds = ⟨G, U₀V₀ᵀ⟩ = −Σσ_j < 0`: the first step descends, and on an input within
//! `M` the adapter answers 0. The manifold of `V` needs in − k ≥ r and that of `U` out ≥ r; where the layer has less room
//! the rank shrinks, and where it has none there is no adapter. Neither is an error: the caller reports it.

use alloc::vec::Vec;
use core::fmt;

use faer::Mat;

use super::{AdapterError, SpectralAdapter};
use crate::{
    Real,
    gpm::{Gradient, Subspace},
    linalg::{complete, orthonormalize_against, orthonormalize_by, random_orthonormal},
    random::Random,
};

/// A starting point and what became of the wishes.
#[derive(Clone, Debug, PartialEq)]
pub struct Init<T> {
    /// The adapter; `None` when no rank is feasible and the layer is to be left out.
    pub adapter: Option<SpectralAdapter<T>>,
    /// Its rank, 0 without one.
    pub rank: usize,
    /// How many of its last directions are random, as the gradient had no more of its own.
    pub random_directions: usize,
    /// Why the rank is less than was asked for, if it is.
    pub shrunk: Option<Shrunk>,
}

/// Why a rank was made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrunk {
    /// The subspace of earlier tasks leaves only this many input directions, in − k.
    InputsTaken {
        /// The directions left.
        free: usize,
    },
    /// The layer has only this many outputs.
    FewOutputs {
        /// The outputs.
        outputs: usize,
    },
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputsTaken { free } => write!(f, "earlier tasks leave {free} input directions free"),
            Self::FewOutputs { outputs } => write!(f, "the layer has {outputs} outputs"),
        }
    }
}

/// The adapter that starts along the gradient of the new task, off the `memory` of the earlier ones.
///
/// `rank` is what is wanted, `s0` the magnitude (see [`DepthSchedule`](super::DepthSchedule)). Where `G⊥` has fewer
/// directions than the rank (a zero gradient has none) the last columns of `U` and `V` are drawn from `random`, each
/// orthonormal to the others and `V` off `M`.
///
/// ```
/// use eblora_core::{adapter::init, gpm::{Gradient, Subspace}, random::Random};
/// let g = Gradient::Exact(faer::mat![[5.0_f64, 0.0, 0.0], [0.0, 0.0, 2.0]]); // 2 outputs, 3 inputs
/// let m = Subspace::from_basis(faer::mat![[1.0], [0.0], [0.0]])?; // the first input direction is taken
/// let start = init::from_gradient(&g, &m, 1, 0.01, &mut Random::new(1, "init"))?;
/// let delta = start.adapter.expect("room for rank 1").delta();
/// assert!((delta[(1, 2)] + 0.01).abs() < 1e-15 && (delta.norm_l2() - 0.01).abs() < 1e-15); // against the 2
/// # Ok::<(), eblora_core::adapter::AdapterError>(())
/// ```
///
/// # Errors
/// [`AdapterError::Range`] for rank 0 or a magnitude that is negative or not finite; [`AdapterError::Gpm`] when gradient
/// and memory do not fit together, the gradient is not finite, or its SVD fails.
pub fn from_gradient<T: Real>(
    gradient: &Gradient<T>,
    memory: &Subspace<T>,
    rank: usize,
    s0: f64,
    random: &mut Random,
) -> Result<Init<T>, AdapterError> {
    let (out, _) = gradient.shape();
    let (rank, shrunk) = feasible(out, memory, rank, s0)?;
    let mut svd = gradient.projected_off_svd(memory, rank)?;
    let scratch = &mut Vec::new();
    // Rounding may have left components that depend on others or lie in M: the pairs before the first such one stay.
    let (u, v) = loop {
        let own = svd.s.len();
        let u = orthonormalize_against(None, svd.u.clone());
        let v = orthonormalize_by(svd.v.clone(), |y| memory.project_off(y, scratch));
        if u.ncols() == own && v.ncols() == own {
            break (u, v);
        }
        svd.truncate(own - 1);
    };
    let own = svd.s.len();
    let u = complete(None, -u, rank, random)?;
    let v = memory.complete(v, rank, random)?;
    Init::new(u, v, s0, rank - own, shrunk)
}

/// A start that ignores the gradient: random orthonormal factors, `V` off `M`. The ablation of [`from_gradient`].
///
/// ```
/// use eblora_core::{adapter::init, gpm::Subspace, random::Random};
/// let m = Subspace::<f64>::empty(2);
/// let start = init::random(8, &m, 4, 0.01, &mut Random::new(1, "init"))?;
/// assert_eq!((start.rank, start.random_directions), (2, 2)); // there are but two input directions
/// assert_eq!(start.shrunk, Some(init::Shrunk::InputsTaken { free: 2 }));
/// # Ok::<(), eblora_core::adapter::AdapterError>(())
/// ```
///
/// # Errors
/// [`AdapterError::Range`] as [`from_gradient`].
pub fn random<T: Real>(
    outputs: usize,
    memory: &Subspace<T>,
    rank: usize,
    s0: f64,
    random: &mut Random,
) -> Result<Init<T>, AdapterError> {
    let (rank, shrunk) = feasible(outputs, memory, rank, s0)?;
    let u = random_orthonormal(outputs, rank, random)?;
    let v = memory.complete(Mat::zeros(memory.dim(), 0), rank, random)?;
    Init::new(u, v, s0, rank, shrunk)
}

impl<T: Real> Init<T> {
    fn new(
        u: Mat<T>,
        v: Mat<T>,
        s0: f64,
        random_directions: usize,
        shrunk: Option<Shrunk>,
    ) -> Result<Self, AdapterError> {
        let rank = u.ncols();
        let adapter = if rank == 0 { None } else { Some(SpectralAdapter::new(u, v, T::of(s0))?) };
        Ok(Self { adapter, rank, random_directions, shrunk })
    }
}

/// The largest feasible rank up to `rank`, min(rank, in − k, out), and why it is less.
fn feasible<T: Real>(
    outputs: usize,
    memory: &Subspace<T>,
    rank: usize,
    s0: f64,
) -> Result<(usize, Option<Shrunk>), AdapterError> {
    if rank == 0 {
        return Err(AdapterError::Range { what: "rank", range: "at least 1", value: 0.0 });
    }
    if !(s0 >= 0.0 && s0.is_finite()) {
        return Err(AdapterError::Range { what: "magnitude", range: "finite and at least 0", value: s0 });
    }
    let free = memory.dim() - memory.k();
    let (most, shrunk) =
        if free <= outputs { (free, Shrunk::InputsTaken { free }) } else { (outputs, Shrunk::FewOutputs { outputs }) };
    Ok((rank.min(most), (most < rank).then_some(shrunk)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::linalg::{sketch::TwoSidedSketch, thin_svd};

    /// The gradient's rows times `U₀V₀ᵀ`, summed: dL/ds at the start.
    fn slope<T: Real>(g: &Mat<T>, adapter: &SpectralAdapter<T>) -> f64 {
        let core = adapter.u.transpose() * g * &adapter.v;
        (0..adapter.rank()).map(|j| core[(j, j)].f64()).sum()
    }

    fn memory<T: Real>(inn: usize, k: usize, rng: &mut Random) -> Subspace<T> {
        Subspace::from_basis(random_orthonormal(inn, k, rng).unwrap()).unwrap()
    }

    /// A gradient of the given rank.
    fn gradient<T: Real>(out: usize, inn: usize, rank: usize, rng: &mut Random) -> Mat<T> {
        rng.normal_matrix::<T>(out, rank) * rng.normal_matrix::<T>(rank, inn)
    }

    proptest! {
        #[test]
        fn every_start_is_feasible_and_descends_in_f32(
            seed in 0u64..1000, out in 1usize..24, inn in 1usize..24, k in 0usize..24, rank in 1usize..24, own in 0usize..6,
        ) {
            let (rng, k) = (&mut Random::new(seed, "init"), k.min(inn));
            let (m, g) = (memory::<f32>(inn, k, rng), gradient::<f32>(out, inn, own, rng));
            let start = from_gradient(&Gradient::Exact(g.clone()), &m, rank, 0.01, rng).unwrap();
            let most = out.min(inn - k);
            prop_assert_eq!(start.rank, rank.min(most));
            prop_assert_eq!(start.shrunk.is_some(), rank > most);
            prop_assert_eq!(start.adapter.is_none(), most == 0);
            if let Some(adapter) = start.adapter {
                adapter.check(1e-6).unwrap();
                prop_assert!(m.overlap(adapter.v.as_ref()) <= 1e-6);
                prop_assert_eq!((adapter.rank(), adapter.s), (start.rank, 0.01));
                prop_assert_eq!(start.random_directions, start.rank - start.rank.min(own));
                if own > 0 {
                    prop_assert!(slope(&g, &adapter) < 0.0);
                }
            }
        }

        #[test]
        fn the_slope_is_minus_the_leading_singular_values(
            seed in 0u64..1000, out in 1usize..16, inn in 1usize..16, k in 0usize..12, rank in 1usize..8,
        ) {
            let (rng, k) = (&mut Random::new(seed, "slope"), k.min(inn - 1));
            let (m, g) = (memory::<f64>(inn, k, rng), rng.normal_matrix::<f64>(out, inn));
            let start = from_gradient(&Gradient::Exact(g.clone()), &m, rank, 0.5, rng).unwrap();
            let mut off = g.clone();
            m.project_off_right(off.as_mut(), &mut Vec::new());
            let best: f64 = thin_svd(off.as_ref()).unwrap().s[..start.rank].iter().sum();
            // No pair of orthonormal factors off M has a steeper slope (von Neumann's trace inequality).
            prop_assert!((slope(&g, &start.adapter.unwrap()) + best).abs() < 1e-11);
        }

        #[test]
        fn the_ablation_is_feasible_too(
            seed in 0u64..1000, out in 1usize..16, inn in 1usize..16, k in 0usize..16, rank in 1usize..16,
        ) {
            let (rng, k) = (&mut Random::new(seed, "ablation"), k.min(inn));
            let m = memory::<f32>(inn, k, rng);
            let start = random(out, &m, rank, 0.01, rng).unwrap();
            prop_assert_eq!((start.rank, start.random_directions), (rank.min(out).min(inn - k), start.rank));
            if let Some(adapter) = start.adapter {
                adapter.check(1e-6).unwrap();
                prop_assert!(m.overlap(adapter.v.as_ref()) <= 1e-6);
            }
        }
    }

    #[test]
    fn the_edges() {
        let rng = &mut Random::new(1, "edges");
        let start = |g: Mat<f64>, m: &Subspace<f64>, rank, rng: &mut Random| {
            from_gradient(&Gradient::Exact(g), m, rank, 0.01, rng).unwrap()
        };
        // 1×1
        let one = start(faer::mat![[-3.0]], &Subspace::empty(1), 1, rng);
        assert_eq!(one.adapter.unwrap().delta(), faer::mat![[0.01]]);
        // r = in, nothing in M
        let full = start(rng.normal_matrix(9, 4), &Subspace::empty(4), 4, rng);
        assert_eq!((full.rank, full.random_directions, full.shrunk), (4, 0, None));
        // M is everything
        let none = start(rng.normal_matrix(9, 4), &memory(4, 4, rng), 2, rng);
        assert_eq!((none.adapter, none.rank), (None, 0));
        assert_eq!(none.shrunk, Some(Shrunk::InputsTaken { free: 0 }));
        // few outputs
        let few = start(rng.normal_matrix(2, 9), &memory(9, 3, rng), 5, rng);
        assert_eq!((few.rank, few.shrunk), (2, Some(Shrunk::FewOutputs { outputs: 2 })));
        // no gradient, and one within M
        let m = memory::<f64>(7, 3, rng);
        for g in [Mat::zeros(5, 7), rng.normal_matrix::<f64>(5, 3) * m.direct_basis().transpose()] {
            let lost = start(g, &m, 2, rng);
            assert_eq!((lost.rank, lost.random_directions), (2, 2));
            lost.adapter.unwrap().check(1e-12).unwrap();
        }
        // more than the rank of G
        let g = gradient::<f64>(8, 7, 1, rng);
        let more = start(g.clone(), &m, 3, rng);
        assert_eq!((more.rank, more.random_directions), (3, 2));
        assert!(slope(&g, &more.adapter.unwrap()) < 0.0);
    }

    #[test]
    fn a_wide_layer_keeps_the_bounds_in_f32() {
        let rng = &mut Random::new(4, "wide");
        let (m, g) = (memory::<f32>(768, 200, rng), gradient::<f32>(256, 768, 40, rng));
        let adapter = from_gradient(&Gradient::Exact(g), &m, 16, 0.01, rng).unwrap().adapter.unwrap();
        adapter.check(1e-6).unwrap();
        assert!(m.overlap(adapter.v.as_ref()) <= 1e-6);
    }

    #[test]
    fn a_sketch_of_the_gradient_gives_the_same_start() {
        let rng = &mut Random::new(5, "sketched");
        let (m, g) = (memory::<f64>(50, 20, rng), gradient::<f64>(60, 50, 6, rng));
        let mut sketch = TwoSidedSketch::new(60, 50, 6, 2, 5);
        sketch.update_dense(g.as_ref()).unwrap();
        let (svd, total_energy) = sketch.decompose(6).unwrap();
        let sketched = Gradient::Factored { u: svd.u, s: svd.s, v: svd.v, total_energy };
        let starts = [Gradient::Exact(g), sketched].map(|g| from_gradient(&g, &m, 4, 0.01, rng).unwrap());
        let [exact, sketched] = starts.map(|start| start.adapter.unwrap());
        assert!((exact.delta() - sketched.delta()).norm_max() < 1e-12);
    }

    #[test]
    fn misuse_is_typed() {
        let (rng, m) = (&mut Random::new(6, "misuse"), Subspace::<f64>::empty(3));
        let g = Gradient::Exact(Mat::<f64>::zeros(2, 3));
        assert!(matches!(from_gradient(&g, &m, 0, 0.1, rng), Err(AdapterError::Range { what: "rank", .. })));
        for s0 in [-0.1, f64::NAN, f64::INFINITY] {
            let error = from_gradient(&g, &m, 1, s0, rng).unwrap_err();
            assert!(matches!(error, AdapterError::Range { what: "magnitude", .. }));
        }
        let other = Subspace::empty(4);
        assert!(matches!(from_gradient(&g, &other, 1, 0.1, rng), Err(AdapterError::Gpm(_))));
        let nan = Gradient::Exact(Mat::full(2, 3, f64::NAN));
        assert!(matches!(from_gradient(&nan, &m, 1, 0.1, rng), Err(AdapterError::Gpm(_))));
    }
}
