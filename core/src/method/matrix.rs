//! EBLoRA for one weight matrix with a loss of one's own: no model, no data, only gradients in and a weight out.
//!
//! The update of `W` (out×in) is `s·U·Vᵀ`. From the dense gradient `G = ∂L/∂W` (out×in) at `W + s·U·Vᵀ` the chain rule
//! gives `∂L/∂U = s·G·V`, `∂L/∂V = s·Gᵀ·U` and `∂L/∂s = ⟨U, G·V⟩`; [`Eblora`] does the rest.

use alloc::string::ToString;
use alloc::vec::Vec;
use faer::{Mat, MatRef};

use super::{Eblora, EbloraConfig, Method, MethodError, TaskStart};
use crate::Real;
use crate::adapter::{AdapterError, AdapterGrads, Adapters, Magnitude, SpectralAdapter};
use crate::backend::{Backend, Cpu};
use crate::gpm::{Gradient, Subspace};
use crate::model::Site;

/// How errors call the matrix.
const NAME: &str = "weight";

/// Trains one weight matrix through a sequence of tasks, given the gradients of any loss.
///
/// ```
/// use eblora_core::faer::Mat;
/// use eblora_core::method::{EbloraConfig, MatrixTrainer};
/// // L = ½‖(W − 1)·X‖² with an input X that only looks at the first column.
/// let x = Mat::from_fn(3, 1, |i, _| if i == 0 { 1.0_f64 } else { 0.0 });
/// let gradient = |w: Mat<f64>| (w - Mat::full(4, 3, 1.0)) * &x * x.transpose();
/// let config = EbloraConfig { rank: 1, magnitude_rate: 0.1, ..EbloraConfig::default() };
/// let mut trainer = MatrixTrainer::new(Mat::zeros(4, 3), config, 0);
/// trainer.begin_task(gradient(trainer.weight()).as_ref())?;
/// for _ in 0..100 {
///     let g = gradient(trainer.weight());
///     trainer.step(g.as_ref(), 1.0)?;
/// }
/// trainer.end_task()?; // merged; from now on the first column is protected
/// assert!((trainer.weight()[(0, 0)] - 1.0).abs() < 0.1);
/// assert_eq!(trainer.subspace().map(|m| m.k()), Some(1));
/// # Ok::<(), eblora_core::method::MethodError>(())
/// ```
pub struct MatrixTrainer<T: Real> {
    weight: Mat<T>,
    method: Eblora<Cpu<T>>,
    seed: u64,
    task: usize,
    training: Option<Training<T>>,
}

/// A task's update and room for its gradients.
struct Training<T: Real> {
    adapters: Adapters<Cpu<T>>,
    grads: AdapterGrads<Cpu<T>>,
}

impl<T: Real> MatrixTrainer<T> {
    /// A trainer of `weight` (out×in). The seed decides those directions of a start that the gradient leaves open.
    pub fn new(weight: Mat<T>, config: EbloraConfig, seed: u64) -> Self {
        Self { weight, method: Eblora::new(config), seed, task: 0, training: None }
    }

    /// Starts a task: an update along `gradient` (out×in, the mean gradient of the task's loss at [`weight`](Self::weight))
    /// that keeps off the directions of earlier tasks.
    ///
    /// # Errors
    /// [`MethodError::Adapter`] when the gradient has another shape than the weight or is not finite,
    /// [`MethodError::Order`] when the last task has not ended.
    pub fn begin_task(&mut self, gradient: MatRef<'_, T>) -> Result<(), MethodError> {
        if self.training.is_some() {
            return Err(MethodError::Order("a task begins before the last one has ended"));
        }
        self.check_shape(gradient)?;
        let (out, inp) = self.weight.shape();
        let site = Site { name: NAME.to_string(), depth: 0, out, inp };
        let gradients = Vec::from([Gradient::Exact(gradient.to_owned())]);
        // EBLoRA does not ask how many tasks there will be.
        let start = TaskStart {
            gradients,
            ..TaskStart::new([self.task, self.task + 1], core::slice::from_ref(&site), self.seed)
        };
        let cpu = Cpu::new();
        let adapters = self.method.begin_task(&cpu, start)?;
        let grads = adapters.grads(&cpu)?;
        self.training = Some(Training { adapters, grads });
        Ok(())
    }

    /// One step against `gradient` (out×in), taken at [`weight`](Self::weight). `factor` scales the learning rates, as
    /// [`Schedule::factor`](crate::optim::Schedule::factor) does.
    ///
    /// # Errors
    /// [`MethodError::Step`] when the gradient is not finite, [`MethodError::Adapter`] when it has another shape than the
    /// weight, [`MethodError::Order`] when no task has begun. Nothing is changed then.
    pub fn step(&mut self, gradient: MatRef<'_, T>, factor: f64) -> Result<(), MethodError> {
        self.check_shape(gradient)?;
        let adapter = self.adapter();
        let Some(Training { adapters, grads }) = &mut self.training else {
            return Err(MethodError::Order("a step comes before its task has begun"));
        };
        let (Some(adapter), Some(out)) = (adapter, grads.stacks.first_mut()) else {
            return Ok(()); // no direction is left to move in
        };
        let g = factor_gradients(&adapter, gradient);
        let cpu = Cpu::new();
        cpu.write(&mut out.u, &row_major(g.u.as_ref()))?;
        cpu.write(&mut out.v, &row_major(g.v.as_ref()))?;
        if let Some(s) = &mut out.s {
            cpu.write(s, &[g.s])?;
        }
        self.method.step(&cpu, adapters, grads, factor)
    }

    /// Ends the task: its gradient directions join the protected subspace, its update the weight.
    ///
    /// # Errors
    /// [`MethodError::Order`] when no task has begun, or the method needs [`end_task_at`](Self::end_task_at);
    /// [`MethodError::Memory`] when the subspace can't be updated.
    pub fn end_task(&mut self) -> Result<(), MethodError> {
        if self.training.is_none() {
            return Err(MethodError::Order("a task ends that has not begun"));
        }
        self.method.end_task(&Cpu::new(), &[])?;
        self.weight = self.weight();
        self.training = None;
        self.task += 1;
        Ok(())
    }

    /// As [`end_task`](Self::end_task), for [`EbloraConfig::plus`], which asks for one thing more: the mean gradient of the
    /// task's loss at [`weight`](Self::weight) as it is now (out×in).
    ///
    /// # Errors
    /// As [`end_task`](Self::end_task), and [`MethodError::Adapter`] when the gradient has another shape than the weight.
    ///
    /// ```
    /// use eblora_core::faer::mat;
    /// use eblora_core::method::{EbloraConfig, MatrixTrainer};
    /// let config = EbloraConfig { rank: 1, ..EbloraConfig::plus() };
    /// let mut trainer = MatrixTrainer::new(mat![[0.0, 0.0, 0.0], [0.0, 0.0, 0.0_f64]], config, 0);
    /// trainer.begin_task(mat![[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]].as_ref())?;
    /// trainer.end_task_at(mat![[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]].as_ref())?;
    /// assert_eq!(trainer.subspace().map(|m| m.k()), Some(2)); // both directions are protected
    /// # Ok::<(), eblora_core::method::MethodError>(())
    /// ```
    pub fn end_task_at(&mut self, gradient: MatRef<'_, T>) -> Result<(), MethodError> {
        self.check_shape(gradient)?;
        self.method.trained(Vec::from([Gradient::Exact(gradient.to_owned())]));
        self.end_task()
    }

    /// `W + s·U·Vᵀ` (out×in): the weight with the updates of all tasks, the present one's included.
    pub fn weight(&self) -> Mat<T> {
        match self.adapter() {
            Some(adapter) => &self.weight + adapter.delta(),
            None => self.weight.clone(),
        }
    }

    /// The present task's update; `None` between tasks, and where earlier tasks left no direction free.
    pub fn adapter(&self) -> Option<SpectralAdapter<T>> {
        let stack = self.training.as_ref()?.adapters.stacks.first()?;
        let (out, inp, r) = stack.extents;
        let matrix = |values, rows| MatRef::from_row_major_slice(values, rows, r).to_owned();
        let s = match &stack.s {
            Magnitude::Trained(s) => *s.values().first()?,
            Magnitude::Fixed(s) => T::of(*s),
        };
        Some(SpectralAdapter { u: matrix(stack.u.values(), out), v: matrix(stack.v.values(), inp), s })
    }

    /// M: the input directions that earlier tasks protect; `None` before the first task.
    pub fn subspace(&self) -> Option<&Subspace<T>> {
        self.method.subspace(0)
    }

    fn check_shape(&self, gradient: MatRef<'_, T>) -> Result<(), MethodError> {
        let (expected, got) = (self.weight.shape(), gradient.shape());
        if expected == got {
            return Ok(());
        }
        let source = AdapterError::Shape { what: "gradient", expected, got };
        Err(MethodError::Adapter { layer: NAME.to_string(), source })
    }
}

/// `∂L/∂U = s·G·V`, `∂L/∂V = s·Gᵀ·U`, `∂L/∂s = ⟨U, G·V⟩`, in the places of U, V and s.
fn factor_gradients<T: Real>(adapter: &SpectralAdapter<T>, gradient: MatRef<'_, T>) -> SpectralAdapter<T> {
    let SpectralAdapter { u, v, s } = adapter;
    let gv = gradient * v;
    let inner = (0..gv.ncols()).flat_map(|j| (0..gv.nrows()).map(move |i| (i, j)));
    let ds = inner.fold(0.0, |sum, at| sum + u[at].f64() * gv[at].f64());
    SpectralAdapter { u: gv * faer::Scale(*s), v: gradient.transpose() * u * faer::Scale(*s), s: T::of(ds) }
}

fn row_major<T: Real>(a: MatRef<'_, T>) -> Vec<T> {
    (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{frobenius_sq, max_abs, orthonormality_error};
    use crate::random::Random;

    const OUT: usize = 12;
    const IN: usize = 10;

    /// ½‖(W − W*)·X‖² with the inputs X of one task, and its gradient `(W − W*)·X·Xᵀ`.
    struct Regression {
        target: Mat<f64>,
        x: Mat<f64>,
    }

    impl Regression {
        fn new(seed: u64) -> Self {
            let rng = &mut Random::new(seed, "regression");
            Self { target: rng.normal_matrix(OUT, IN), x: rng.normal_matrix(IN, 3) }
        }

        fn loss(&self, w: &Mat<f64>) -> f64 {
            0.5 * frobenius_sq(((w - &self.target) * &self.x).as_ref())
        }

        fn gradient(&self, w: &Mat<f64>) -> Mat<f64> {
            (w - &self.target) * &self.x * self.x.transpose()
        }
    }

    fn trainer(rank: usize) -> MatrixTrainer<f64> {
        let config = EbloraConfig { rank, epsilon: Some(1.0), magnitude_rate: 0.05, ..EbloraConfig::default() };
        MatrixTrainer::new(Random::new(1, "weight").normal_matrix(OUT, IN), config, 0)
    }

    fn train(trainer: &mut MatrixTrainer<f64>, task: &Regression, steps: usize) -> f64 {
        trainer.begin_task(task.gradient(&trainer.weight()).as_ref()).unwrap();
        for i in 0..steps {
            let g = task.gradient(&trainer.weight());
            trainer.step(g.as_ref(), 1.0 - i as f64 / steps as f64).unwrap();
            let (adapter, m) = (trainer.adapter().unwrap(), trainer.subspace().unwrap());
            assert!(orthonormality_error(adapter.u.as_ref()) < 1e-13);
            assert!(orthonormality_error(adapter.v.as_ref()) < 1e-13);
            assert!(m.overlap(adapter.v.as_ref()) < 1e-13);
        }
        trainer.end_task().unwrap();
        task.loss(&trainer.weight())
    }

    #[test]
    fn factor_gradients_are_those_of_finite_differences() {
        let (task, h) = (Regression::new(2), 1e-6);
        let mut trainer = trainer(3);
        trainer.begin_task(task.gradient(&trainer.weight()).as_ref()).unwrap();
        let base = trainer.weight.clone();
        // A magnitude of order 1, so that no gradient is lost in rounding.
        let adapter = SpectralAdapter { s: 0.7, ..trainer.adapter().unwrap() };
        let loss = |a: &SpectralAdapter<f64>| task.loss(&(&base + a.delta()));
        let g = factor_gradients(&adapter, task.gradient(&(&base + adapter.delta())).as_ref());
        let slope = |change: &dyn Fn(&mut SpectralAdapter<f64>, f64)| {
            let at = |h| {
                let mut moved = adapter.clone();
                change(&mut moved, h);
                loss(&moved)
            };
            (at(h) - at(-h)) / (2.0 * h)
        };
        // The loss is quartic and of order 100: central differences are good to 1e-7 of it.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} {b}");
        close(slope(&|a, h| a.s += h), g.s);
        for j in 0..3 {
            (0..OUT).for_each(|i| close(slope(&|a, h| a.u[(i, j)] += h), g.u[(i, j)]));
            (0..IN).for_each(|i| close(slope(&|a, h| a.v[(i, j)] += h), g.v[(i, j)]));
        }
    }

    #[test]
    fn a_second_task_is_learnt_and_does_not_move_the_first() {
        let (first, second, mut trainer) = (Regression::new(3), Regression::new(4), trainer(3));
        let before = [&first, &second].map(|task| task.loss(&trainer.weight()));
        let learnt = train(&mut trainer, &first, 300);
        assert!(learnt < 0.3 * before[0], "{learnt} of {before:?}");
        let after_first = trainer.weight();
        let also_learnt = train(&mut trainer, &second, 300);
        assert!(also_learnt < 0.6 * before[1], "{also_learnt} of {before:?}");
        // M holds all of the first gradient (ε = 1), hence all of X: outputs on it stay as they were.
        let moved = (trainer.weight() - after_first) * &first.x;
        assert!(max_abs(moved.as_ref()) < 1e-12, "{moved:?}");
        assert_eq!(trainer.subspace().unwrap().k(), 6);
    }

    #[test]
    fn a_full_subspace_leaves_the_weight_alone() {
        let mut trainer = trainer(2);
        let g = Random::new(5, "g").normal_matrix::<f64>(OUT, IN);
        trainer.begin_task(g.as_ref()).unwrap();
        trainer.end_task().unwrap();
        let before = trainer.weight();
        trainer.begin_task(g.as_ref()).unwrap();
        trainer.step(g.as_ref(), 1.0).unwrap();
        assert_eq!((trainer.weight(), trainer.adapter()), (before, None));
    }

    #[test]
    fn misuse_is_a_typed_error_and_changes_nothing() {
        let mut trainer = trainer(2);
        let g = Random::new(6, "g").normal_matrix::<f64>(OUT, IN);
        let wrong = Mat::<f64>::zeros(IN, OUT);
        assert!(matches!(trainer.step(g.as_ref(), 1.0), Err(MethodError::Order(_))));
        assert!(matches!(trainer.end_task(), Err(MethodError::Order(_))));
        let message = trainer.begin_task(wrong.as_ref()).unwrap_err().to_string();
        assert_eq!(message, "layer weight: gradient: expected a 12x10 matrix, got 10x12");
        assert!(trainer.begin_task(Mat::full(OUT, IN, f64::NAN).as_ref()).is_err());
        trainer.begin_task(g.as_ref()).unwrap();
        assert!(matches!(trainer.begin_task(g.as_ref()), Err(MethodError::Order(_))));
        // A last gradient that came at the wrong time is not that of the next task.
        let mut plus = MatrixTrainer::new(Mat::zeros(OUT, IN), EbloraConfig { rank: 2, ..EbloraConfig::plus() }, 0);
        assert!(matches!(plus.end_task_at(g.as_ref()), Err(MethodError::Order(_))));
        plus.begin_task(g.as_ref()).unwrap();
        assert!(matches!(plus.end_task(), Err(MethodError::Order(_))));
        plus.end_task_at(g.as_ref()).unwrap();
        let before = trainer.weight();
        let mut nan = g.clone();
        nan[(3, 3)] = f64::NAN;
        assert!(matches!(trainer.step(nan.as_ref(), 1.0), Err(MethodError::Step { .. })));
        assert!(matches!(trainer.step(wrong.as_ref(), 1.0), Err(MethodError::Adapter { .. })));
        assert_eq!(trainer.weight(), before);
        trainer.step(g.as_ref(), 1.0).unwrap();
        assert_ne!(trainer.weight(), before);
    }
}
