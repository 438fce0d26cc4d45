//! EBLoRA (arXiv 2602.00722); EBO, which is the same without the gradient memory; and EBLoRA-plus, which looks at each task
//! a second time.
//!
//! Rule: `ΔW = s·U·Vᵀ` with `UᵀU = VᵀV = I` and `MᵀV = 0`; U₀, V₀ from the gradient projected off M; U and V move by
//! projected Riemannian AdamW with the whitening retraction, s by plain AdamW (design section 2). Shapes: U out×r,
//! V in×r, M in×k. Kept between tasks: the merged weights and M. Memory: min(k, in − k)·in numbers a layer. A step changes
//! AdamW's moments of U, V and s, and its counts.
//!
//! EBLoRA-plus (ours): once a task is trained and merged, M also takes the directions of the task's gradient there, by the
//! same update with a threshold of its own. The gradient at the start tells where the loss falls, that at the end where what
//! was learnt is still sensitive: what forgets is motion along these too. One more pass over the gradient's sample a task.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use faer::MatRef;

use super::memories::Memories;
use super::memory::{Values, all_taken};
use super::{After, MemorySize, Method, MethodError, Needs, TaskStart, Violation, guard, named, step_error};
use crate::Real;
use crate::adapter::{AdapterGrads, AdapterStack, Adapters, DepthSchedule, HostFactors, Magnitude, init};
use crate::backend::Backend;
use crate::gpm::{Gradient, Subspace};
use crate::linalg::orthonormality_error;
use crate::model::Site;
use crate::optim::{AdamW, AdamWConfig, Ambient, Part, Riemannian, RiemannianConfig, StepConvention, descend};
use crate::random::Random;

/// Where U₀ and V₀ come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Init {
    /// The truncated SVD of the projected gradient (the method).
    #[default]
    Gradient,
    /// Random orthonormal factors off M (an ablation).
    Random,
}

/// Settings of [`Eblora`]. The rates by default are those that suited the demo best (`docs/search.md`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EbloraConfig {
    /// Rank r.
    pub rank: usize,
    /// Energy threshold ε of GPM; `None` keeps no memory: EBO.
    pub epsilon: Option<f64>,
    /// Energy threshold of a second update of M, by the gradient at the trained weights; `None`: there is none.
    pub trained_epsilon: Option<f64>,
    /// Most directions kept a layer.
    pub budget: Option<usize>,
    /// Step of U and V at the peak of the schedule, in `convention`.
    pub step: f64,
    /// What `step` means.
    pub convention: StepConvention,
    /// Peak learning rate of s.
    pub magnitude_rate: f64,
    /// Decoupled weight decay of s. U and V have none: it would be radial, and projected away.
    pub weight_decay: f64,
    /// s₀ by depth.
    pub depth: DepthSchedule,
    /// U₀ and V₀.
    pub init: Init,
    /// Tangent map, retraction, drift.
    pub geometry: RiemannianConfig,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for EbloraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            epsilon: Some(0.99),
            trained_epsilon: None,
            budget: None,
            step: 0.4,
            convention: StepConvention::Relative,
            magnitude_rate: 9e-3,
            weight_decay: 0.0,
            depth: DepthSchedule::default(),
            init: Init::Gradient,
            geometry: RiemannianConfig::default(),
            adamw: AdamWConfig::default(),
        }
    }
}

impl EbloraConfig {
    /// EBO by default: the same rule with M empty throughout, and the rates that suit that best.
    ///
    /// ```
    /// use eblora_core::method::EbloraConfig;
    /// let (ebo, eblora) = (EbloraConfig::ebo(), EbloraConfig::default());
    /// assert!(ebo.epsilon.is_none() && ebo.magnitude_rate < eblora.magnitude_rate);
    /// ```
    pub fn ebo() -> Self {
        Self { epsilon: None, magnitude_rate: 4e-3, ..Self::default() }
    }

    /// EBLoRA-plus by default: a second look at each task, and more directions to learn it in, as fewer are free.
    ///
    /// ```
    /// use eblora_core::method::EbloraConfig;
    /// let (eblora, plus) = (EbloraConfig::default(), EbloraConfig::plus());
    /// assert!(eblora.trained_epsilon.is_none() && plus.trained_epsilon == Some(0.97));
    /// ```
    pub fn plus() -> Self {
        Self { rank: 32, trained_epsilon: Some(0.97), step: 0.2, magnitude_rate: 6e-3, ..Self::default() }
    }
}

/// Optimiser state of one stack.
struct StackState<B: Backend> {
    u: Riemannian<B, AdamW<B>>,
    v: Riemannian<B, AdamW<B>>,
    s: AdamW<B>,
    /// M of each layer of the stack; none where all are empty.
    subspaces: Option<B::Subspaces>,
}

/// The method.
pub struct Eblora<B: Backend> {
    config: EbloraConfig,
    layers: Vec<String>,
    memories: Memories<B::Scalar>,
    /// Gradients at the trained weights.
    trained: Vec<Gradient<B::Scalar>>,
    states: Vec<StackState<B>>,
    warnings: Vec<String>,
}

impl<B: Backend> Eblora<B> {
    /// The method with these settings.
    pub fn new(config: EbloraConfig) -> Self {
        Self {
            config,
            layers: Vec::new(),
            memories: Memories::new(config.budget),
            trained: Vec::new(),
            states: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// M of a site.
    pub fn subspace(&self, site: usize) -> Option<&Subspace<B::Scalar>> {
        self.memories.get(site)
    }

    /// U₀, V₀ and s₀ of every layer that has room for one.
    fn initial_factors(&mut self, start: &TaskStart<'_, B>) -> Result<Vec<HostFactors<B::Scalar>>, MethodError> {
        let mut rng = Random::new(start.seed, &format!("eblora/init/{}", start.task));
        let mut factors = Vec::with_capacity(start.sites.len());
        for (index, (site, gradient)) in start.sites.iter().zip(&start.gradients).enumerate() {
            let failed = |source| MethodError::Adapter { layer: site.name.clone(), source };
            let s0 = self.config.depth.at(site.depth, start.blocks).map_err(failed)?;
            let (subspace, rank) = (self.memories.subspace(index), self.config.rank);
            let made = match self.config.init {
                Init::Gradient => init::from_gradient(gradient, subspace, rank, s0, &mut rng),
                Init::Random => init::random(site.out, subspace, rank, s0, &mut rng),
            };
            let made = made.map_err(failed)?;
            if let Some(reason) = made.shrunk {
                self.warnings.push(format!("layer {}: {reason}", site.name));
            }
            if let Some(adapter) = made.adapter {
                factors.push(HostFactors { site: index, u: adapter.u, v: adapter.v, s: adapter.s });
            }
        }
        Ok(factors)
    }

    fn stack_state(&self, backend: &B, stack: &AdapterStack<B>) -> Result<StackState<B>, MethodError> {
        let ((out, inp, r), count) = (stack.extents, stack.sites.len());
        let riemannian = |n| {
            let adamw = AdamW::new(backend, self.config.adamw, [count, n, r])?;
            Riemannian::new(backend, self.config.geometry, adamw, [count, n, r])
        };
        Ok(StackState {
            u: riemannian(out)?,
            v: riemannian(inp)?,
            s: AdamW::new(backend, self.config.adamw, [count, 1, 1])?,
            subspaces: self.memories.upload(backend, &stack.sites)?,
        })
    }
}

impl<B: Backend> Method<B> for Eblora<B> {
    fn name(&self) -> &'static str {
        match (self.config.epsilon, self.config.trained_epsilon) {
            (None, _) => "ebo",
            (Some(_), None) => "eblora",
            (Some(_), Some(_)) => "eblora-plus",
        }
    }

    fn needs(&self) -> Needs {
        let gradients = self.config.epsilon.is_some() || self.config.init == Init::Gradient;
        let trained = self.config.epsilon.is_some() && self.config.trained_epsilon.is_some();
        Needs { gradients, trained, ..Needs::default() }
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        if start.gradients.len() != start.sites.len() {
            return Err(MethodError::Order("EBLoRA needs a gradient for each adapted layer"));
        }
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        self.memories.begin(start.sites);
        let factors = self.initial_factors(&start)?;
        self.memories.note(start.gradients); // which are now halved
        let adapters = Adapters::upload(backend, &factors, start.sites.len(), None)?;
        self.states = adapters.stacks.iter().map(|s| self.stack_state(backend, s)).collect::<Result<_, _>>()?;
        self.trained.clear(); // of a task that was not ended
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
        let EbloraConfig { convention, step, magnitude_rate, weight_decay, .. } = self.config;
        for ((stack, grads), state) in adapters.stacks.iter_mut().zip(&mut grads.stacks).zip(&mut self.states) {
            let (out, inp, r) = stack.extents;
            let named = |factor, e| step_error(&self.layers, &stack.sites, factor, e);
            let rate = factor * convention.rate(step, out, r);
            state.u.step(backend, &mut stack.u, &mut grads.u, None, rate).map_err(|e| named("U", e))?;
            let rate = factor * convention.rate(step, inp, r);
            let m = state.subspaces.as_ref();
            state.v.step(backend, &mut stack.v, &mut grads.v, m, rate).map_err(|e| named("V", e))?;
            if let (Magnitude::Trained(s), Some(grad)) = (&mut stack.s, &mut grads.s) {
                let rate = factor * magnitude_rate;
                state.s.increment(backend, grad, rate);
                descend(backend, s, grad, rate * weight_decay);
            }
        }
        Ok(())
    }

    fn trained(&mut self, gradients: Vec<Gradient<B::Scalar>>) {
        self.trained = gradients;
    }

    fn end_task(&mut self, _: &B, _: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        let trained = core::mem::take(&mut self.trained);
        if self.needs().trained && trained.len() != self.layers.len() {
            return Err(MethodError::Order(
                "EBLoRA-plus needs the gradient of each adapted layer at the trained weights",
            ));
        }
        self.states.clear();
        if let Some(epsilon) = self.config.epsilon {
            self.memories.grow(epsilon, &self.layers)?;
            if let Some(epsilon) = self.config.trained_epsilon {
                self.memories.update(&trained, epsilon, &self.layers)?;
            }
        }
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let EbloraConfig {
            rank,
            epsilon,
            trained_epsilon,
            budget,
            step,
            convention,
            magnitude_rate,
            weight_decay,
            depth,
            init,
            geometry,
            adamw,
        } = self.config;
        let or_none = |number: Option<String>| number.unwrap_or_else(|| "none".to_string());
        let mut settings = Vec::from([
            ("rank", rank.to_string()),
            ("epsilon", or_none(epsilon.map(|e| e.to_string()))),
            ("budget", or_none(budget.map(|b| b.to_string()))),
            ("step", format!("{step} ({convention:?})")),
            ("s rate", magnitude_rate.to_string()),
            ("weight decay", weight_decay.to_string()),
            ("s by depth", format!("{} to {}", depth.min(), depth.max())),
            ("init", format!("{init:?}")),
            ("geometry", format!("{geometry:?}")),
            ("AdamW", format!("{adamw:?}")),
        ]);
        settings.extend(trained_epsilon.map(|e| ("epsilon at the trained weights", e.to_string())));
        settings
    }

    fn remembered(&self) -> Values<B::Scalar> {
        self.memories.remembered()
    }

    fn recall(&mut self, mut remembered: Values<B::Scalar>, sites: &[Site]) -> Result<(), MethodError> {
        self.memories.recall(&mut remembered, sites)?;
        Ok(all_taken(&remembered)?)
    }

    fn parts(&mut self) -> Vec<(String, Part<'_, B>)> {
        let states = self.states.iter_mut().enumerate();
        let parts = states.flat_map(|(i, state)| {
            let (u, v, s) = (state.u.parts(), state.v.parts(), state.s.parts());
            named(i, "u", u).chain(named(i, "v", v)).chain(named(i, "s", s))
        });
        parts.collect()
    }

    fn memory(&self) -> Vec<MemorySize> {
        self.memories.sizes()
    }

    fn violation(&self, factors: &[HostFactors<B::Scalar>]) -> Option<Violation> {
        let mut worst = self.memories.violation(factors);
        for f in factors {
            let off = |x: MatRef<'_, B::Scalar>| orthonormality_error(x).f64();
            worst.orthonormality = worst.orthonormality.max(off(f.u.as_ref())).max(off(f.v.as_ref()));
        }
        Some(worst)
    }

    fn warnings(&mut self) -> Vec<String> {
        core::mem::take(&mut self.warnings)
    }
}
