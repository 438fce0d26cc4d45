//! A gradient memory of bounded size: when `M` outgrows its budget, the directions that matter least are given up.

use alloc::vec::Vec;
use faer::{Mat, MatRef};

use super::{Form, GpmError, GpmUpdate, Gradient, Subspace, update};
use crate::Real;
use crate::linalg::{orthonormalize_against, symmetric_eigen};

/// One layer's gradient memory: a [`Subspace`], and with a budget also how much energy each of its directions carries.
///
/// With a budget the basis is kept as the principal axes of the gradients seen, `Mᵀ (Σ_t G_tᵀG_t / ‖G_t‖²) M = diag(e)`
/// (every task weighs the same), and k beyond the budget is cut at the smallest `e_j`: the best subspace of that size for
/// the energy recorded. Such a memory stores `M` itself even beyond half of the space.
///
/// ```
/// use eblora_core::gpm::{Gradient, GradientMemory};
/// let mut memory = GradientMemory::<f64>::new(4, Some(1));
/// let g = Gradient::Exact(faer::mat![[2.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]);
/// let done = memory.update(&g, 1.0)?;
/// assert_eq!((done.update.added, done.dropped, memory.subspace().k()), (2, 1, 1));
/// assert!((done.energy_given_up - 0.2).abs() < 1e-12); // 1 of 4 + 1
/// # Ok::<(), eblora_core::gpm::GpmError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GradientMemory<T> {
    subspace: Subspace<T>,
    energies: Vec<f64>,
    budget: Option<usize>,
}

/// What one [`GradientMemory::update`] did.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryUpdate {
    /// The growth, before the budget was applied.
    pub update: GpmUpdate,
    /// Directions given up to the budget.
    pub dropped: usize,
    /// The share of all recorded energy that went with them; 0 when none.
    pub energy_given_up: f64,
}

impl<T: Real> GradientMemory<T> {
    /// An empty memory for `dim` inputs, of at most `budget` directions.
    pub fn new(dim: usize, budget: Option<usize>) -> Self {
        let subspace = Subspace::empty(dim);
        let subspace = if budget.is_some() { subspace.keep_direct() } else { subspace };
        Self { subspace, energies: Vec::new(), budget }
    }

    /// A memory that starts with the top right singular directions of the weight `w` (out×in) at energy `epsilon`
    /// (KeepLoRA: 0.6), so that what the pretrained weight uses is kept as well. It is the same rule as for gradients.
    ///
    /// # Errors
    /// As [`update`](super::update).
    ///
    /// ```
    /// use eblora_core::gpm::GradientMemory;
    /// let w = faer::mat![[5.0_f32, 0.0], [0.0, 1.0]];
    /// let (memory, done) = GradientMemory::from_weight(w, 0.6, None)?;
    /// assert_eq!((memory.subspace().k(), done.update.added), (1, 1));
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn from_weight(w: Mat<T>, epsilon: f64, budget: Option<usize>) -> Result<(Self, MemoryUpdate), GpmError> {
        let mut memory = Self::new(w.ncols(), budget);
        let done = memory.update(&Gradient::Exact(w), epsilon)?;
        Ok((memory, done))
    }

    /// A memory as it was saved: [`subspace`](Self::subspace), [`energies`](Self::energies) and [`budget`](Self::budget).
    ///
    /// # Errors
    /// [`GpmError::Shape`] when there is a budget and not one energy per stored direction (`M` itself has to be stored,
    /// as it was: restore it with [`Subspace::from_form`]).
    ///
    /// ```
    /// use eblora_core::gpm::{GradientMemory, Subspace};
    /// let memory = GradientMemory::from_parts(Subspace::<f32>::empty(8), vec![], Some(4))?;
    /// assert_eq!(memory.budget(), Some(4));
    /// # Ok::<(), eblora_core::gpm::GpmError>(())
    /// ```
    pub fn from_parts(subspace: Subspace<T>, energies: Vec<f64>, budget: Option<usize>) -> Result<Self, GpmError> {
        let Some(_) = budget else { return Ok(Self { subspace, energies: Vec::new(), budget }) };
        let stored = if subspace.form() == Form::Direct { subspace.k() } else { 0 };
        if energies.len() != stored {
            return Err(GpmError::Shape { what: "energies", expected: stored, got: energies.len() });
        }
        Ok(Self { subspace: subspace.keep_direct(), energies, budget })
    }

    /// The subspace held.
    pub fn subspace(&self) -> &Subspace<T> {
        &self.subspace
    }

    /// With a budget: the energy `Σ_t ‖G_t m_j‖² / ‖G_t‖²` of each direction, descending; without one, empty.
    pub fn energies(&self) -> &[f64] {
        &self.energies
    }

    /// The largest k allowed.
    pub fn budget(&self) -> Option<usize> {
        self.budget
    }

    /// [`update`](super::update) by a task's gradient, then compression to the budget.
    ///
    /// # Errors
    /// As [`update`](super::update); the memory is then unchanged.
    pub fn update(&mut self, gradient: &Gradient<T>, epsilon: f64) -> Result<MemoryUpdate, GpmError> {
        let Some(budget) = self.budget else {
            let done = update(&mut self.subspace, gradient, epsilon)?;
            return Ok(MemoryUpdate { update: done, dropped: 0, energy_given_up: 0.0 });
        };
        let mut subspace = self.subspace.clone();
        let done = update(&mut subspace, gradient, epsilon)?;
        let mut energies = self.energies.clone();
        energies.resize(done.k, 0.0);
        let (basis, energies) = principal_axes(subspace.basis(), &energies, gradient, done.total_energy)?;
        let kept = done.k.min(budget);
        let sum = |energies: &[f64]| energies.iter().sum::<f64>();
        let (all, lost) = (sum(&energies), sum(&energies[kept..]));
        self.subspace = Subspace::from_form(Form::Direct, basis.subcols(0, kept).to_owned())?.keep_direct();
        self.energies = energies[..kept].to_vec();
        let energy_given_up = if all > 0.0 { lost / all } else { 0.0 };
        Ok(MemoryUpdate { dropped: done.k - kept, update: done, energy_given_up })
    }
}

/// The basis of the same span in which `diag(energies) + (GM)ᵀGM / ‖G‖²` is diagonal, and that diagonal, descending.
fn principal_axes<T: Real>(
    basis: MatRef<'_, T>,
    energies: &[f64],
    gradient: &Gradient<T>,
    total_energy: f64,
) -> Result<(Mat<T>, Vec<f64>), GpmError> {
    if total_energy == 0.0 || basis.ncols() == 0 {
        return Ok((basis.to_owned(), energies.to_vec()));
    }
    let mut covariance = gradient.gram_on(basis);
    for j in 0..basis.ncols() {
        for i in 0..basis.ncols() {
            covariance[(i, j)] = T::of(covariance[(i, j)].f64() / total_energy);
        }
        covariance[(j, j)] += T::of(energies[j]);
    }
    let eigen = symmetric_eigen(covariance.as_ref())?;
    let rotated = orthonormalize_against(None, basis * &eigen.vectors);
    Ok((rotated, eigen.values.iter().map(|e| e.f64().max(0.0)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{max_abs, orthonormality_error};
    use crate::random::Random;
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_budget_is_respected_and_the_loss_reported(seed in 0u64..500, dim in 2usize..24, budget in 0usize..24) {
            let rng = &mut Random::new(seed, "budget");
            let (mut memory, mut free) = (GradientMemory::<f64>::new(dim, Some(budget)), GradientMemory::new(dim, None));
            for _ in 0..4 {
                let g = rng.normal_matrix::<f64>(6, 3) * rng.normal_matrix::<f64>(3, dim);
                let before = memory.subspace().k();
                let done = memory.update(&Gradient::Exact(g.clone()), 0.95).unwrap();
                free.update(&Gradient::Exact(g), 0.95).unwrap();
                prop_assert_eq!(memory.subspace().k(), before + done.update.added - done.dropped);
                prop_assert!(memory.subspace().k() <= budget && memory.energies().len() == memory.subspace().k());
                prop_assert!((0.0..=1.0).contains(&done.energy_given_up));
                prop_assert_eq!(done.dropped == 0, done.energy_given_up == 0.0);
                prop_assert!(orthonormality_error(memory.subspace().basis()) < 1e-12);
                prop_assert!(memory.energies().is_sorted_by(|a, b| a >= b));
                if budget >= dim {
                    let apart = memory.subspace().projector() - free.subspace().projector();
                    prop_assert!(max_abs(apart.as_ref()) < 1e-10, "an ample budget changes nothing");
                }
            }
        }
    }

    #[test]
    fn the_most_used_directions_stay() {
        let mut memory = GradientMemory::<f32>::new(6, Some(2));
        // Task 1 uses e0, e1; task 2 uses e1, e2; e1 must stay, and e0 carries more than e2.
        for (axes, weights) in [([0, 1], [2.0, 1.5]), ([1, 2], [1.0, 0.5])] {
            let g = Mat::from_fn(2, 6, |i, j| if axes[i] == j { weights[i] } else { 0.0 });
            memory.update(&Gradient::Exact(g), 1.0).unwrap();
        }
        let axis = |j: usize| Mat::from_fn(6, 1, |i, _| if i == j { 1.0_f32 } else { 0.0 });
        let held = [0, 1, 2].map(|j| memory.subspace().overlap(axis(j).as_ref()));
        assert!(held[0] > 0.99 && held[1] > 0.99 && held[2] < 0.01, "{held:?}");
    }

    #[test]
    fn each_energy_belongs_to_its_direction_even_beyond_half_of_the_space() {
        let g = Random::new(1, "g").normal_matrix::<f64>(9, 6);
        let mut memory = GradientMemory::new(6, Some(5));
        memory.update(&Gradient::Exact(g.clone()), 1.0).unwrap();
        assert_eq!((memory.subspace().k(), memory.subspace().form()), (5, Form::Direct));
        let used = &g * memory.subspace().basis();
        for (j, energy) in memory.energies().iter().enumerate() {
            assert!((used.col(j).squared_norm_l2() / g.squared_norm_l2() - energy).abs() < 1e-12);
        }
        let saved = Subspace::from_form(Form::Direct, memory.subspace().basis().to_owned()).unwrap();
        let restored = GradientMemory::from_parts(saved, memory.energies().to_vec(), Some(5)).unwrap();
        assert_eq!(restored.subspace().basis(), memory.subspace().basis());
    }

    #[test]
    fn zero_budget_zero_gradient_and_errors() {
        let mut memory = GradientMemory::<f32>::new(3, Some(0));
        let done = memory.update(&Gradient::Exact(Mat::full(2, 3, 1.0)), 0.9).unwrap();
        assert_eq!((memory.subspace().k(), done.dropped, done.energy_given_up), (0, 1, 1.0));
        assert_eq!(memory.update(&Gradient::Exact(Mat::zeros(2, 3)), 0.9).unwrap().dropped, 0);
        assert!(memory.update(&Gradient::Exact(Mat::zeros(2, 4)), 0.9).is_err());
        let subspace = Subspace::from_form(Form::Direct, Mat::<f32>::identity(3, 2)).unwrap();
        assert!(GradientMemory::from_parts(subspace.clone(), vec![1.0], Some(2)).is_err());
        assert_eq!(GradientMemory::from_parts(subspace, vec![2.0, 1.0], Some(2)).unwrap().energies(), [2.0, 1.0]);
    }
}
