//! How far two updates get in each other's way: principal angles, and the overlap of `ΔW_i` and `ΔW_j` on either side.
//!
//! An update acts on an input through its row space and writes into its column space, so there are two overlaps:
//!
//! | side | quantity | zero when |
//! |---|---|---|
//! | output | `‖ΔW_iᵀ ΔW_j‖_F` | the updates write into orthogonal output directions |
//! | input | `‖ΔW_i ΔW_jᵀ‖_F` | no input excites both: what `MᵀV = 0` enforces |
//!
//! (With the weight as in×out, as the paper has it, the two formulas change places.) All is computed in f64 from the
//! factors: with `R_i = Q_i T_i`, `‖ΔW_iᵀΔW_j‖_F = |s_i s_j|·‖T_i (L_iᵀL_j) T_jᵀ‖_F`, r×r only.

use alloc::{string::ToString, vec::Vec};

use faer::{Mat, MatRef};

use super::MetricError;
use crate::{Real, linalg};

/// A low-rank update `ΔW = scale·L·Rᵀ` (out×in) by its factors.
///
/// ```
/// use eblora_core::metrics::interference::Factors;
/// let (l, r) = (faer::mat![[3.0], [4.0]], faer::mat![[1.0], [0.0], [0.0]]);
/// let update = Factors::new(l.as_ref(), r.as_ref(), 2.0)?;
/// assert!((update.norm() - 10.0).abs() < 1e-12 && (update.transpose().norm() - 10.0).abs() < 1e-12);
/// # Ok::<(), eblora_core::metrics::MetricError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Factors<'a, T> {
    left: MatRef<'a, T>,
    right: MatRef<'a, T>,
    scale: T,
}

impl<'a, T: Real> Factors<'a, T> {
    /// The update `scale·L·Rᵀ`; `left` is out×r, `right` in×r (for LoRA: `B` and `Aᵀ`).
    ///
    /// # Errors
    /// [`MetricError::Shape`] when the ranks differ, `NotFinite` for NaN or infinity.
    pub fn new(left: MatRef<'a, T>, right: MatRef<'a, T>, scale: T) -> Result<Self, MetricError> {
        if left.ncols() != right.ncols() {
            return Err(MetricError::Shape { what: "factors", left: left.shape(), right: right.shape() });
        }
        for (what, factor) in [("left factor", left), ("right factor", right)] {
            finite(what, factor)?;
        }
        if !scale.is_finite() {
            return Err(MetricError::NotFinite { what: "scale", index: 0 });
        }
        Ok(Self { left, right, scale })
    }

    /// `‖ΔW‖_F`.
    pub fn norm(&self) -> f64 {
        let core = triangle(self.left) * triangle(self.right).transpose();
        core.norm_l2() * self.scale.f64().abs()
    }

    /// The transposed update `scale·R·Lᵀ` (in×out).
    pub fn transpose(self) -> Self {
        Self { left: self.right, right: self.left, scale: self.scale }
    }
}

/// Overlap on the output side, `‖ΔW_iᵀ ΔW_j‖_F`; both updates have the same number of outputs.
///
/// ```
/// use eblora_core::metrics::interference::{Factors, input_overlap, output_overlap};
/// let (x, y) = (faer::mat![[1.0], [0.0]], faer::mat![[0.0], [1.0]]);
/// let first = Factors::new(x.as_ref(), x.as_ref(), 2.0)?;
/// let second = Factors::new(x.as_ref(), y.as_ref(), 3.0)?; // same output direction, other input direction
/// assert_eq!(output_overlap(first, second)?, 6.0);
/// assert_eq!(input_overlap(first, second)?, 0.0);
/// # Ok::<(), eblora_core::metrics::MetricError>(())
/// ```
///
/// # Errors
/// [`MetricError::Shape`] when the numbers of outputs differ.
pub fn output_overlap<T: Real>(first: Factors<'_, T>, second: Factors<'_, T>) -> Result<f64, MetricError> {
    if first.left.nrows() != second.left.nrows() {
        let (left, right) = (first.left.shape(), second.left.shape());
        return Err(MetricError::Shape { what: "updates on this side", left, right });
    }
    let inner = widen(first.left).transpose() * widen(second.left);
    let core = triangle(first.right) * inner * triangle(second.right).transpose();
    Ok(core.norm_l2() * (first.scale.f64() * second.scale.f64()).abs())
}

/// Overlap on the input side, `‖ΔW_i ΔW_jᵀ‖_F`; both updates have the same number of inputs.
///
/// # Errors
/// [`MetricError::Shape`] when the numbers of inputs differ.
pub fn input_overlap<T: Real>(first: Factors<'_, T>, second: Factors<'_, T>) -> Result<f64, MetricError> {
    output_overlap(first.transpose(), second.transpose())
}

/// The principal angles, in radians and ascending, between the spans of the columns of `a` (n×p) and `b` (n×q).
///
/// The columns need not be orthonormal. There are min(rank a, rank b) angles, with ranks by a relative tolerance of
/// max(n, p)·ε of `T`. Cosines and sines are both computed (Björck and Golub 1973), so that small angles are as
/// accurate as large ones.
///
/// ```
/// use eblora_core::metrics::interference::principal_angles;
/// let a = faer::mat![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]];
/// let b = faer::mat![[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]];
/// let angles = principal_angles(a.as_ref(), b.as_ref())?;
/// assert!(angles[0].abs() < 1e-15 && (angles[1] - core::f64::consts::FRAC_PI_4).abs() < 1e-15);
/// # Ok::<(), eblora_core::metrics::MetricError>(())
/// ```
///
/// # Errors
/// [`MetricError::Shape`] when the ambient dimensions differ, `NotFinite` for NaN or infinity, `Decomposition` when
/// an SVD fails.
pub fn principal_angles<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<Vec<f64>, MetricError> {
    if a.nrows() != b.nrows() {
        return Err(MetricError::Shape { what: "subspaces", left: a.shape(), right: b.shape() });
    }
    finite("first subspace", a)?;
    finite("second subspace", b)?;
    let (mut wide, mut narrow) = (basis(a)?, basis(b)?);
    if wide.ncols() < narrow.ncols() {
        core::mem::swap(&mut wide, &mut narrow);
    }
    if narrow.ncols() == 0 {
        return Ok(Vec::new());
    }
    let cosines = wide.transpose() * &narrow;
    let svd = linalg::thin_svd(cosines.as_ref()).map_err(failed)?;
    // What is left of the principal vectors of the smaller space outside the larger one: its norms are the sines.
    let rest = (&narrow - &wide * &cosines) * &svd.v;
    let mut angles: Vec<f64> = (0..narrow.ncols()).map(|j| libm::atan2(rest.col(j).norm_l2(), svd.s[j])).collect();
    angles.sort_by(f64::total_cmp);
    Ok(angles)
}

/// An orthonormal basis (n×rank) of the span of the columns of `a`.
fn basis<T: Real>(a: MatRef<'_, T>) -> Result<Mat<f64>, MetricError> {
    if a.nrows() == 0 || a.ncols() == 0 {
        return Ok(Mat::zeros(a.nrows(), 0));
    }
    let svd = linalg::thin_svd(widen(a).as_ref()).map_err(failed)?;
    let least = svd.s[0] * a.nrows().max(a.ncols()) as f64 * T::EPS.f64();
    let rank = svd.s.iter().take_while(|&&s| s > least).count();
    Ok(svd.u.subcols(0, rank).to_owned())
}

/// The triangular factor of `a = Q T` in f64: the same norms at a size of min(n, r)×r.
fn triangle<T: Real>(a: MatRef<'_, T>) -> Mat<f64> {
    widen(a).qr().thin_R().to_owned()
}

fn widen<T: Real>(a: MatRef<'_, T>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)].f64())
}

fn finite<T: Real>(what: &'static str, a: MatRef<'_, T>) -> Result<(), MetricError> {
    match (0..a.nrows() * a.ncols()).find(|i| !a[(i % a.nrows(), i / a.nrows())].is_finite()) {
        Some(index) => Err(MetricError::NotFinite { what, index }),
        None => Ok(()),
    }
}

fn failed(error: linalg::LinalgError) -> MetricError {
    MetricError::Decomposition(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    fn factors(seed: u64, out: usize, inn: usize, r: usize) -> (Mat<f64>, Mat<f64>) {
        let mut random = Random::new(seed, "interference");
        (random.normal_matrix(out, r), random.normal_matrix(inn, r))
    }

    proptest! {
        #[test]
        fn overlaps_are_those_of_the_products(
            seed in 0u64..1000, out in 1usize..12, inn in 1usize..12, r in 1usize..6, q in 1usize..6,
        ) {
            let ((l1, r1), (l2, r2)) = (factors(seed, out, inn, r), factors(seed + 1000, out, inn, q));
            let first = Factors::new(l1.as_ref(), r1.as_ref(), 0.5).unwrap();
            let second = Factors::new(l2.as_ref(), r2.as_ref(), -2.0).unwrap();
            let (dense1, dense2) = (&l1 * r1.transpose() * 0.5, &l2 * r2.transpose() * -2.0);
            let near = |x: f64, y: f64| (x - y).abs() <= 1e-12 * (1.0 + dense1.norm_l2() * dense2.norm_l2());
            prop_assert!(near(output_overlap(first, second).unwrap(), (dense1.transpose() * &dense2).norm_l2()));
            prop_assert!(near(input_overlap(first, second).unwrap(), (&dense1 * dense2.transpose()).norm_l2()));
            prop_assert!(near(first.norm(), dense1.norm_l2()));
        }

        #[test]
        fn planted_angles_are_found(small in 1e-12f64..1e-6, large in 0.1f64..1.5, seed in 0u64..100) {
            // b₁ turned by `small` from a₁, b₂ by `large` from a₂; then both bases mixed.
            let a = Mat::<f64>::identity(5, 2);
            let mut b = Mat::<f64>::zeros(5, 2);
            (b[(0, 0)], b[(2, 0)]) = (libm::cos(small), libm::sin(small));
            (b[(1, 1)], b[(3, 1)]) = (libm::cos(large), libm::sin(large));
            let mix = Random::new(seed, "mix").normal_matrix::<f64>(2, 2) + Mat::<f64>::identity(2, 2) * 4.0;
            let angles = principal_angles((&a * &mix).as_ref(), b.as_ref()).unwrap();
            prop_assert!((angles[0] - small).abs() < 1e-14, "{} {small}", angles[0]);
            prop_assert!((angles[1] - large).abs() < 1e-14);
        }

        #[test]
        fn a_space_has_no_angle_to_itself(seed in 0u64..100, n in 2usize..20, p in 1usize..6) {
            let (a, mix) = (Random::new(seed, "a").normal_matrix::<f32>(n, p), Random::new(seed, "m"));
            let mut mix = mix;
            let b = &a * (mix.normal_matrix::<f32>(p, p) * 0.1 + Mat::<f32>::identity(p, p) * 3.0);
            for angle in principal_angles(a.as_ref(), b.as_ref()).unwrap() {
                prop_assert!(angle < 2e-3, "{angle}"); // f32 input, condition of `a` up to some 10³
            }
        }
    }

    #[test]
    fn the_count_is_the_smaller_rank() {
        let a = faer::mat![[1.0, 2.0], [0.0, 0.0], [0.0, 0.0_f64]]; // rank 1
        let b = Mat::<f64>::identity(3, 3);
        assert_eq!(principal_angles(a.as_ref(), b.as_ref()).unwrap(), [0.0]);
        assert_eq!(principal_angles(Mat::<f64>::zeros(3, 2).as_ref(), b.as_ref()).unwrap(), [0.0; 0]);
        assert_eq!(principal_angles(Mat::<f64>::zeros(3, 0).as_ref(), b.as_ref()).unwrap(), [0.0; 0]);
    }

    #[test]
    fn misfits_are_typed() {
        let (a, b) = (Mat::<f64>::identity(3, 1), Mat::<f64>::identity(4, 2));
        assert!(matches!(principal_angles(a.as_ref(), b.as_ref()), Err(MetricError::Shape { .. })));
        assert!(matches!(Factors::new(a.as_ref(), b.as_ref(), 1.0), Err(MetricError::Shape { .. })));
        let nan = faer::mat![[0.0, 1.0], [0.0, f64::NAN]];
        let error = Factors::new(nan.as_ref(), b.as_ref(), 1.0).unwrap_err();
        assert_eq!(error, MetricError::NotFinite { what: "left factor", index: 3 });
    }
}
