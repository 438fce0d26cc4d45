//! The subspace that `M` spans, stored by a basis of itself or of its complement, whichever is smaller.

use alloc::sync::Arc;
use alloc::vec::Vec;
use faer::{Mat, MatMut, MatRef};

use super::{GpmError, complement::complement_of};
use crate::linalg::{
    LinalgError, complete_by, is_finite, multiply, multiply_add, orthonormality_error, orthonormalize_by,
};
use crate::{Real, random::Random};

/// Which basis a [`Subspace`] stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `M` itself, dim×k.
    Direct,
    /// `N`, dim×(dim−k), with `N Nᵀ = I − M Mᵀ`.
    Complement,
}

/// A k-dimensional subspace of R^dim, spanned by the orthonormal columns of `M` (dim×k).
///
/// Beyond k = dim/2 the complement is stored: less memory and cheaper projections. Everything but [`basis`](Self::basis)
/// is independent of the form.
///
/// ```
/// use eblora_core::gpm::{Form, Subspace};
/// let mut m = Subspace::<f64>::empty(3);
/// assert_eq!(m.extend(faer::mat![[2.0], [0.0], [0.0]].as_ref())?, 1);
/// let mut x = faer::mat![[1.0], [2.0], [3.0]];
/// let mut scratch = Vec::new();
/// m.project_off(x.as_mut(), &mut scratch); // x ← (I − MMᵀ) x
/// assert_eq!(x, faer::mat![[0.0], [2.0], [3.0]]);
/// assert_eq!((m.dim(), m.k(), m.form(), m.memory_scalars()), (3, 1, Form::Direct, 3));
/// m.extend(faer::mat![[0.0], [5.0], [0.0]].as_ref())?;
/// assert_eq!((m.k(), m.form(), m.memory_scalars()), (2, Form::Complement, 3));
/// # Ok::<(), eblora_core::gpm::GpmError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Subspace<T> {
    form: Form,
    /// `M` or `N`, by `form`; what the CPU projects with during a task is the same, not a copy.
    basis: Arc<Mat<T>>,
    /// Never switch to the complement (a memory with a budget needs `M` itself).
    keep_direct: bool,
}

impl<T: Real> Subspace<T> {
    /// The zero-dimensional subspace of R^dim: nothing is projected out.
    pub fn empty(dim: usize) -> Self {
        Self { form: Form::Direct, basis: Arc::new(Mat::zeros(dim, 0)), keep_direct: false }
    }

    /// The span of an orthonormal `basis` (dim×k), stored in the smaller form.
    ///
    /// # Errors
    /// [`GpmError::NotOrthonormal`] when `max |MᵀM − I|` exceeds `1000 ε` (1.2e-4 in f32, 2.2e-13 in f64), which it also
    /// does with more columns than rows or non-finite entries.
    ///
    /// ```
    /// use eblora_core::gpm::Subspace;
    /// assert_eq!(Subspace::from_basis(faer::mat![[1.0_f32], [0.0]])?.k(), 1);
    /// assert!(Subspace::from_basis(faer::mat![[1.0_f32], [1.0]]).is_err());
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn from_basis(basis: Mat<T>) -> Result<Self, GpmError> {
        let mut subspace = Self::from_form(Form::Direct, basis)?;
        subspace.choose_form();
        Ok(subspace)
    }

    /// The subspace whose stored basis in the given form is `basis`, kept bit for bit: for restoring a saved one.
    ///
    /// # Errors
    /// As [`from_basis`](Self::from_basis).
    ///
    /// ```
    /// use eblora_core::gpm::{Form, Subspace};
    /// let m = Subspace::from_form(Form::Complement, faer::mat![[1.0_f32], [0.0], [0.0]])?;
    /// assert_eq!(m.k(), 2);
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn from_form(form: Form, basis: Mat<T>) -> Result<Self, GpmError> {
        let (error, tolerance) = (orthonormality_error(basis.as_ref()).f64(), 1000.0 * T::EPS.f64());
        if basis.ncols() > basis.nrows() || error > tolerance {
            return Err(GpmError::NotOrthonormal { error, tolerance });
        }
        Ok(Self { form, basis: Arc::new(basis), keep_direct: false })
    }

    /// Stores `M` itself whatever its size.
    pub(super) fn keep_direct(mut self) -> Self {
        if self.form == Form::Complement {
            self.basis = Arc::new(self.direct_basis());
            self.form = Form::Direct;
        }
        self.keep_direct = true;
        self
    }

    /// The dimension of the space around: the layer's input width.
    pub fn dim(&self) -> usize {
        self.basis.nrows()
    }

    /// The number of directions held.
    pub fn k(&self) -> usize {
        match self.form {
            Form::Direct => self.basis.ncols(),
            Form::Complement => self.dim() - self.basis.ncols(),
        }
    }

    /// Which basis is stored.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The stored basis: `M` (dim×k) or `N` (dim×(dim−k)), see [`form`](Self::form).
    pub fn basis(&self) -> MatRef<'_, T> {
        (*self.basis).as_ref()
    }

    /// `M` (dim×k); computed from the complement when that is stored.
    ///
    /// ```
    /// use eblora_core::gpm::{Form, Subspace};
    /// let m = Subspace::from_form(Form::Complement, faer::mat![[0.0_f32], [1.0]])?;
    /// assert_eq!(m.direct_basis()[(0, 0)].abs(), 1.0);
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn direct_basis(&self) -> Mat<T> {
        match self.form {
            Form::Direct => (*self.basis).clone(),
            Form::Complement => complement_of(self.basis()),
        }
    }

    /// Scalars stored: dim·min(k, dim−k).
    pub fn memory_scalars(&self) -> usize {
        self.basis.nrows() * self.basis.ncols()
    }

    /// `x ← (I − MMᵀ) x` for `x` of dim×c. `scratch` grows to (stored columns)·c scalars once, then nothing is allocated.
    /// Panics when `x` has other than dim rows.
    pub fn project_off(&self, x: MatMut<'_, T>, scratch: &mut Vec<T>) {
        let (stored, c, mut x) = (self.basis.ncols(), x.ncols(), x);
        assert_eq!(x.nrows(), self.dim(), "project_off: rows of x");
        if self.k() == 0 {
            return;
        }
        scratch.resize(scratch.len().max(stored * c), T::of(0.0));
        let mut coefficients = MatMut::from_column_major_slice_mut(&mut scratch[..stored * c], stored, c);
        multiply(coefficients.as_mut(), T::of(1.0), self.basis().transpose(), x.as_ref());
        match self.form {
            Form::Direct => multiply_add(x.as_mut(), T::of(-1.0), self.basis(), coefficients.as_ref()),
            Form::Complement => multiply(x.as_mut(), T::of(1.0), self.basis(), coefficients.as_ref()),
        }
    }

    /// `g ← g (I − MMᵀ)` for `g` of out×dim; scratch as [`project_off`](Self::project_off).
    ///
    /// ```
    /// use eblora_core::gpm::Subspace;
    /// let m = Subspace::from_basis(faer::mat![[1.0_f32], [0.0]])?;
    /// let mut g = faer::mat![[3.0, 4.0]];
    /// m.project_off_right(g.as_mut(), &mut Vec::new());
    /// assert_eq!(g, faer::mat![[0.0, 4.0]]);
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn project_off_right(&self, g: MatMut<'_, T>, scratch: &mut Vec<T>) {
        self.project_off(g.transpose_mut(), scratch);
    }

    /// The orthogonal projector `MMᵀ` onto the subspace, dim×dim (for checks).
    ///
    /// ```
    /// use eblora_core::gpm::Subspace;
    /// let m = Subspace::from_basis(faer::mat![[1.0_f32], [0.0]])?;
    /// assert_eq!(m.projector(), faer::mat![[1.0, 0.0], [0.0, 0.0]]);
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn projector(&self) -> Mat<T> {
        let onto = self.basis() * self.basis().transpose();
        match self.form {
            Form::Direct => onto,
            Form::Complement => Mat::<T>::identity(self.dim(), self.dim()) - onto,
        }
    }

    /// The greatest length of a column of `MᵀX` for `x` of dim×c: 0 when `X` is orthogonal to the subspace, an upper bound
    /// of `max |MᵀX|`, and the same in either form.
    ///
    /// ```
    /// use eblora_core::gpm::Subspace;
    /// let m = Subspace::from_basis(faer::mat![[1.0_f32], [0.0]])?;
    /// assert_eq!(m.overlap(faer::mat![[0.5, 0.0], [3.0, 1.0]].as_ref()), 0.5);
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn overlap(&self, x: MatRef<'_, T>) -> T {
        let inside = match self.form {
            Form::Direct => self.basis().transpose() * x,
            Form::Complement => x - self.basis() * (self.basis().transpose() * x),
        };
        (0..inside.ncols()).map(|j| inside.col(j).norm_l2()).fold(T::of(0.0), |a, b| if b > a { b } else { a })
    }

    /// Adds the span of `directions` (dim×c, any columns). They are orthogonalised against `M` twice; what `M` already
    /// holds is dropped. Returns how many were added; k never exceeds dim.
    ///
    /// # Errors
    /// [`GpmError::Shape`] and [`GpmError::NonFinite`]; the subspace is then unchanged.
    pub fn extend(&mut self, directions: MatRef<'_, T>) -> Result<usize, GpmError> {
        let (dim, before) = (self.dim(), self.k());
        if directions.nrows() != dim {
            return Err(GpmError::Shape { what: "rows of the directions", expected: dim, got: directions.nrows() });
        }
        if !is_finite(directions) {
            return Err(GpmError::NonFinite);
        }
        let scratch = &mut Vec::new();
        let mut fresh = orthonormalize_by(directions.to_owned(), |y| self.project_off(y, scratch));
        fresh.truncate(dim, fresh.ncols().min(dim - before));
        if fresh.ncols() == 0 {
            return Ok(0);
        }
        match self.form {
            Form::Direct => {
                Arc::make_mut(&mut self.basis).resize_with(dim, before + fresh.ncols(), |i, j| fresh[(i, j - before)]);
                self.choose_form();
            }
            Form::Complement => {
                // `fresh = N C`: keep the part of N's span that is orthogonal to C.
                let keep = complement_of((self.basis().transpose() * &fresh).as_ref());
                let rest = self.basis() * &keep;
                self.basis = Arc::new(orthonormalize_by(rest, |y| {
                    let coefficients = fresh.transpose() * y.as_ref();
                    multiply_add(y, T::of(-1.0), fresh.as_ref(), coefficients.as_ref());
                }));
            }
        }
        Ok(self.k() - before)
    }

    /// Fills an orthonormal `q` (dim×c, off `M`) up to `columns` columns with random directions orthogonal to it and to `M`.
    ///
    /// # Errors
    /// [`LinalgError::Shape`] when columns > dim − k.
    ///
    /// ```
    /// use eblora_core::{gpm::Subspace, random::Random};
    /// let m = Subspace::from_basis(faer::mat![[1.0_f64], [0.0], [0.0]])?;
    /// let q = m.complete(faer::Mat::zeros(3, 0), 2, &mut Random::new(1, "fill"))?;
    /// assert!(q.ncols() == 2 && m.overlap(q.as_ref()) < 1e-14);
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn complete(&self, q: Mat<T>, columns: usize, rng: &mut Random) -> Result<Mat<T>, LinalgError> {
        let scratch = &mut Vec::new();
        complete_by(q, columns, self.dim() - self.k(), rng, |y| self.project_off(y, scratch))
    }

    fn choose_form(&mut self) {
        if self.form == Form::Direct && !self.keep_direct && 2 * self.basis.ncols() > self.dim() {
            self.basis = Arc::new(complement_of(self.basis()));
            self.form = Form::Complement;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::max_abs;
    use proptest::prelude::*;

    fn grown<T: Real>(seed: u64, dim: usize, steps: &[usize]) -> Vec<Subspace<T>> {
        let (mut m, rng) = (Subspace::<T>::empty(dim), &mut Random::new(seed, "grow"));
        let mut all = alloc::vec![m.clone()];
        for &c in steps {
            let before = m.k();
            let added = m.extend(rng.normal_matrix::<T>(dim, c).as_ref()).unwrap();
            assert_eq!((m.k(), added), (before + added, c.min(dim - before)));
            all.push(m.clone());
        }
        all
    }

    fn invariants<T: Real>(seed: u64, dim: usize, steps: &[usize], tolerance: f64) {
        let rng = &mut Random::new(seed, "x");
        let mut last = Mat::<T>::zeros(dim, 0);
        for m in grown::<T>(seed, dim, steps) {
            let direct = m.direct_basis();
            assert!(orthonormality_error(m.basis()).f64() <= tolerance);
            assert!(orthonormality_error(direct.as_ref()).f64() <= tolerance && direct.ncols() == m.k());
            assert_eq!(m.form() == Form::Complement, 2 * m.k() > dim);
            assert_eq!(m.memory_scalars(), dim * m.k().min(dim - m.k()));
            // What was held stays held.
            let mut held = last.clone();
            m.project_off(held.as_mut(), &mut Vec::new());
            assert!(max_abs(held.as_ref()).f64() <= tolerance);
            // Both forms project alike, and the projector says the same.
            let x = rng.normal_matrix::<T>(dim, 3);
            let (mut a, mut b, mut right) = (x.clone(), x.clone(), x.transpose().to_owned());
            m.project_off(a.as_mut(), &mut Vec::new());
            m.clone().keep_direct().project_off(b.as_mut(), &mut Vec::new());
            m.project_off_right(right.as_mut(), &mut Vec::new());
            let by_projector = &x - m.projector() * &x;
            for other in [&b, &by_projector, &right.transpose().to_owned()] {
                assert!(max_abs((&a - other).as_ref()).f64() <= 10.0 * tolerance);
            }
            assert!(m.overlap(a.as_ref()).f64() <= 10.0 * tolerance);
            last = direct;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn growing_keeps_every_invariant(seed in 0u64..1000, dim in 1usize..40,
                                         steps in proptest::collection::vec(0usize..9, 0..8)) {
            invariants::<f32>(seed, dim, &steps, 1e-5);
            invariants::<f64>(seed, dim, &steps, 1e-12);
        }
    }

    #[test]
    fn the_full_space_leaves_nothing() {
        let mut m = grown::<f32>(1, 6, &[4, 2]).pop().unwrap();
        assert_eq!((m.k(), m.basis().shape(), m.memory_scalars()), (6, (6, 0), 0));
        let mut x = Mat::<f32>::full(6, 2, 1.0);
        assert!(m.overlap(x.as_ref()) > 2.4);
        m.project_off(x.as_mut(), &mut Vec::new());
        assert_eq!(x, Mat::<f32>::zeros(6, 2));
        assert_eq!(m.extend(Mat::<f32>::full(6, 2, 1.0).as_ref()).unwrap(), 0);
    }

    #[test]
    fn what_is_held_is_not_added_again() {
        for k in [2, 7] {
            let mut m = grown::<f64>(2, 10, &[k]).pop().unwrap();
            let held = m.direct_basis();
            assert_eq!(m.extend(held.as_ref()).unwrap(), 0);
        }
    }

    #[test]
    fn errors_leave_it_unchanged() {
        let mut m = grown::<f64>(3, 5, &[2]).pop().unwrap();
        assert!(matches!(m.extend(Mat::<f64>::zeros(4, 1).as_ref()), Err(GpmError::Shape { expected: 5, got: 4, .. })));
        assert_eq!(m.extend(Mat::full(5, 1, f64::NAN).as_ref()), Err(GpmError::NonFinite));
        assert_eq!(m.k(), 2);
        assert!(matches!(Subspace::from_basis(Mat::<f32>::zeros(2, 3)), Err(GpmError::NotOrthonormal { .. })));
        assert!(Subspace::from_basis(Mat::full(2, 1, f32::NAN)).is_err());
    }
}
