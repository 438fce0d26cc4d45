//! OSF: full fine-tuning of the part of each weight that carries least, held off the part that carries most.
//!
//! Rule: `W = U_hi·S_hi·V_hiᵀ + U_lo·S_lo·V_loᵀ` by the SVD of the current weight. The k leading triplets are frozen; U_lo,
//! S_lo and V_lo are trained by AdamW, the gradient of U_lo projected off U_hi and that of V_lo off V_hi. After a task the
//! change is merged, and the next begins with a new SVD and a larger k: the share kept is `f + (1 − f)·t/T` of the
//! min(out, in) = n triplets in task t = 0 … T − 1. Shapes: U_lo out×q, V_lo in×q, S_lo q, with q = n − k.
//! The adapter is the change, `[U_lo·S_lo, −U₀·S₀]·[V_lo, V₀]ᵀ`, of rank 2q: twice as wide as what is trained, so that the
//! weight stays as it is until the merge, on any model and in any precision; a mask keeps its second half at the start's
//! values. It is exported as a LoRA of rank 2q. Kept between tasks: the merged weights alone; each is read back and
//! decomposed before each task. A step changes U_lo and S_lo (V_lo is in the adapter) and AdamW's moments. There is no
//! weight decay: what is trained is the weight itself.
//! Source: "Sculpting Subspaces: Constrained Full Fine-Tuning in LLMs for Continual Learning" (arXiv 2504.07097). Its
//! released code also sets k layer by layer by the layer's importance; here the share is the same for all, and grows
//! evenly over the tasks.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use faer::Mat;

use super::memory::{Values, all_taken};
use super::{After, Method, MethodError, Needs, TaskStart, guard, named};
use crate::Real;
use crate::adapter::{AdapterError, AdapterGrads, AdapterStack, Adapters, HostFactors};
use crate::backend::{Backend, BackendError, View, ViewMut};
use crate::gpm::Subspace;
use crate::linalg::{Svd, thin_svd};
use crate::model::Site;
use crate::optim::{AdamW, AdamWConfig, Ambient, Part, descend};

/// Settings of [`Osf`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OsfConfig {
    /// Share of the singular triplets that is frozen in the first task.
    pub share: f64,
    /// Peak learning rate.
    pub rate: f64,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for OsfConfig {
    fn default() -> Self {
        Self { share: 0.5, rate: 1e-3, adamw: AdamWConfig::default() }
    }
}

impl OsfConfig {
    /// Triplets of n that are frozen in a task (from 0) of so many; at least one is left to train.
    ///
    /// ```
    /// use eblora_core::method::OsfConfig;
    /// assert_eq!([0, 1, 2].map(|task| OsfConfig::default().frozen(96, task, 3)), [48, 64, 80]);
    /// ```
    pub fn frozen(&self, n: usize, task: usize, tasks: usize) -> usize {
        let share = self.share + (1.0 - self.share) * task as f64 / tasks.max(1) as f64;
        (libm::round(share * n as f64) as usize).min(n.saturating_sub(1))
    }
}

/// What a stack has beside its adapters. Every tensor is as wide as the adapter, 2q columns, of which the second half is
/// constant.
struct StackState<B: Backend> {
    /// `[U_lo, −U₀·S₀]`.
    u: B::Tensor,
    /// `[S_lo, 1]` and its gradient, \[count, 1, 2q\].
    s: B::Tensor,
    ds: B::Tensor,
    /// `[1, 0]`: what is trained.
    mask: B::Tensor,
    high_u: (B::Subspaces, B::Scratch),
    high_v: (B::Subspaces, B::Scratch),
    step_u: AdamW<B>,
    step_v: AdamW<B>,
    step_s: AdamW<B>,
}

/// The singular triplets of a weight, cut after the k-th.
struct Cut<T> {
    high_u: Subspace<T>,
    high_v: Subspace<T>,
    u: Mat<T>,
    s: Vec<T>,
    v: Mat<T>,
}

impl<T: Real> Cut<T> {
    fn new(weight: &Mat<T>, k: usize) -> Result<Self, AdapterError> {
        let Svd { u, s, v } = thin_svd(weight.as_ref())?;
        let q = s.len() - k;
        let high = |x: &Mat<T>| Subspace::from_basis(x.subcols(0, k).to_owned());
        let low = |x: &Mat<T>| x.subcols(k, q).to_owned();
        Ok(Self { high_u: high(&u)?, high_v: high(&v)?, u: low(&u), s: s[k..].to_vec(), v: low(&v) })
    }

    /// `[left, right]` of two functions of row and column.
    fn wide(&self, rows: usize, left: impl Fn(usize, usize) -> T, right: impl Fn(usize, usize) -> T) -> Mat<T> {
        let q = self.s.len();
        Mat::from_fn(rows, 2 * q, |i, j| if j < q { left(i, j) } else { right(i, j - q) })
    }

    /// The change, which is 0: `[U·S, −U·S]·[V, V]ᵀ`.
    fn factors(&self, site: usize) -> HostFactors<T> {
        let scaled = |i, j| self.u[(i, j)] * self.s[j];
        let v = |i, j| self.v[(i, j)];
        let u = self.wide(self.u.nrows(), scaled, |i, j| -scaled(i, j));
        HostFactors { site, u, v: self.wide(self.v.nrows(), v, v), s: T::of(1.0) }
    }
}

/// The method.
pub struct Osf<B: Backend> {
    config: OsfConfig,
    layers: Vec<String>,
    states: Vec<StackState<B>>,
}

impl<B: Backend> Osf<B> {
    /// The method with these settings.
    pub fn new(config: OsfConfig) -> Self {
        Self { config, layers: Vec::new(), states: Vec::new() }
    }

    fn stack_state(
        &self,
        backend: &B,
        stack: &AdapterStack<B>,
        cuts: &[Cut<B::Scalar>],
    ) -> Result<StackState<B>, BackendError> {
        let ((out, inp, width), count) = (stack.extents, stack.sites.len());
        let cuts: Vec<&Cut<B::Scalar>> = stack.sites.iter().map(|&site| &cuts[site]).collect();
        let one = B::Scalar::of(1.0);
        let (mut u, mut s, mut mask) = (Vec::with_capacity(count * out * width), Vec::new(), Vec::new());
        for cut in &cuts {
            let q = cut.s.len();
            let start = cut.wide(out, |i, j| cut.u[(i, j)], |i, j| -(cut.u[(i, j)] * cut.s[j]));
            u.extend((0..out).flat_map(|i| (0..width).map(move |j| (i, j))).map(|at| start[at]));
            s.extend(cut.s.iter().copied().chain(vec![one; q]));
            mask.extend(vec![one; q].into_iter().chain(vec![B::Scalar::of(0.0); q]));
        }
        let high = |n: usize, of: fn(&Cut<B::Scalar>) -> &Subspace<B::Scalar>| {
            let subspaces: Vec<_> = cuts.iter().map(|cut| of(cut)).collect();
            Ok::<_, BackendError>((backend.upload_subspaces(&subspaces)?, backend.scratch([count, n, width])?))
        };
        let adamw = |n| AdamW::new(backend, self.config.adamw, [count, n, width]);
        Ok(StackState {
            u: backend.upload([count, out, width], &u)?,
            s: backend.upload([count, 1, width], &s)?,
            ds: backend.zeros([count, 1, width])?,
            mask: backend.upload([count, 1, width], &mask)?,
            high_u: high(out, |cut| &cut.high_u)?,
            high_v: high(inp, |cut| &cut.high_v)?,
            step_u: adamw(out)?,
            step_v: adamw(inp)?,
            step_s: adamw(1)?,
        })
    }
}

impl<B: Backend> Method<B> for Osf<B> {
    fn name(&self) -> &'static str {
        "osf"
    }

    fn needs(&self) -> Needs {
        Needs { weights: true, ..Needs::default() }
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        if start.weights.len() != start.sites.len() {
            return Err(MethodError::Order("OSF needs the weight of each adapted layer"));
        }
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        let cuts = start.sites.iter().zip(&start.weights).map(|(site, weight)| {
            let k = self.config.frozen(site.out.min(site.inp), start.task, start.tasks);
            Cut::new(weight, k).map_err(|source| MethodError::Adapter { layer: site.name.clone(), source })
        });
        let cuts: Vec<_> = cuts.collect::<Result<_, _>>()?;
        let factors: Vec<_> = cuts.iter().enumerate().map(|(site, cut)| cut.factors(site)).collect();
        let adapters = Adapters::upload(backend, &factors, start.sites.len(), Some(1.0))?;
        let states = adapters.stacks.iter().map(|stack| self.stack_state(backend, stack, &cuts));
        self.states = states.collect::<Result<_, _>>()?;
        Ok(adapters)
    }

    fn step(
        &mut self,
        backend: &B,
        adapters: &mut Adapters<B>,
        grads: &mut AdapterGrads<B>,
        factor: f64,
    ) -> Result<(), MethodError> {
        guard(backend, adapters, grads, &self.layers)?;
        let rate = factor * self.config.rate;
        for ((stack, grads), state) in adapters.stacks.iter_mut().zip(&mut grads.stacks).zip(&mut self.states) {
            let StackState { u, s, ds, mask, high_u, high_v, step_u, step_v, step_s } = state;
            // With Ũ = U·S: ∂L/∂S = diag(Uᵀ·∂L/∂Ũ), ∂L/∂U = ∂L/∂Ũ·S.
            backend.column_dots(ds, &grads.u, u);
            backend.scale_columns(&mut grads.u, s);
            backend.project_off(&mut grads.u, &high_u.0, &mut high_u.1);
            backend.project_off(&mut grads.v, &high_v.0, &mut high_v.1);
            for (x, grad, adamw) in
                [(&mut *u, &mut grads.u, step_u), (&mut stack.v, &mut grads.v, step_v), (&mut *s, ds, step_s)]
            {
                // A gradient of 0 leaves AdamW's moments, and so what is constant, where it is.
                backend.scale_columns(grad, mask);
                adamw.increment(backend, grad, rate);
                descend(backend, x, grad, 0.0);
            }
            backend.copy(ViewMut::all(&mut stack.u), View::all(u));
            backend.scale_columns(&mut stack.u, s);
        }
        Ok(())
    }

    fn end_task(&mut self, _: &B, _: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        self.states.clear();
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let OsfConfig { share, rate, adamw } = self.config;
        Vec::from([("frozen share", share.to_string()), ("rate", rate.to_string()), ("AdamW", format!("{adamw:?}"))])
    }

    fn remembered(&self) -> Values<B::Scalar> {
        Values::new()
    }

    fn recall(&mut self, remembered: Values<B::Scalar>, _: &[Site]) -> Result<(), MethodError> {
        Ok(all_taken(&remembered)?)
    }

    fn parts(&mut self) -> Vec<(String, Part<'_, B>)> {
        let parts = self.states.iter_mut().enumerate().flat_map(|(i, state)| {
            let StackState { u, s, step_u, step_v, step_s, .. } = state;
            let own = Vec::from([("u", Part::Tensor(u)), ("s", Part::Tensor(s))]);
            let steps = named(i, "u", step_u.parts()).chain(named(i, "v", step_v.parts()));
            named(i, "factors", own).chain(steps).chain(named(i, "s", step_s.parts()))
        });
        parts.collect()
    }

    /// The low part: half of the adapter, and S.
    fn trainable_parameters(&self, adapters: &Adapters<B>) -> usize {
        let low = |stack: &AdapterStack<B>| {
            let (out, inp, width) = stack.extents;
            stack.sites.len() * (out + inp + 1) * width / 2
        };
        adapters.stacks.iter().map(low).sum()
    }
}
