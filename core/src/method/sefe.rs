//! SEFE's RegLoRA: the entries of the weights that earlier tasks changed most are kept from changing again.
//!
//! Rule: `ΔW = (α/r)·B·A` as in LoRA, with the loss plus `λ·mean over the layers of mean |(B·A)_ij|` over the masked
//! entries (i, j): of each earlier task t those 2 % of a layer's entries that are largest in |B_t·A_t|. Shapes: A r×in,
//! B out×r. Kept between tasks: the merged weights and the masks, as a sorted list of entries. Memory: up to 2 % of
//! out·in pairs of indices a task and layer, on the device in both orders; B·A is never formed there, a step looks at the
//! masked entries alone. It changes AdamW's moments. The penalty is no part of the loss reported.
//! Source: arXiv 2505.02486, its regularisation alone: how its data is put into styles of answers is the data's matter.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use faer::Mat;

use super::memory::{Value, ValueError, Values, all_taken, take_matrix};
use super::pair::{PairState, fresh};
use super::{After, Method, MethodError, Needs, TaskStart, guard};
use crate::Real;
use crate::adapter::{AdapterGrads, Adapters, HostFactors};
use crate::backend::{Backend, Entries};
use crate::model::Site;
use crate::optim::{AdamWConfig, Part};

/// Settings of [`Sefe`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SefeConfig {
    /// Rank r.
    pub rank: usize,
    /// α; the update is scaled by α/r.
    pub alpha: f64,
    /// λ.
    pub penalty: f64,
    /// Share of a layer's entries that is masked after each task.
    pub share: f64,
    /// Peak learning rate of A and B.
    pub rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Constants of AdamW.
    pub adamw: AdamWConfig,
}

impl Default for SefeConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            penalty: 2500.0,
            share: 0.02,
            rate: 1.22e-3,
            weight_decay: 0.0,
            adamw: AdamWConfig::default(),
        }
    }
}

/// Masked entries of a layer, sorted: row and column.
type Mask = Vec<(u32, u32)>;

/// The method.
pub struct Sefe<B: Backend> {
    config: SefeConfig,
    layers: Vec<String>,
    masks: Vec<Mask>,
    /// Of each stack; none in the first task.
    entries: Vec<Entries<B>>,
    states: Vec<PairState<B>>,
}

/// The entries of `B·A` (out×in) with the largest absolute values, `share` of all and at least one, sorted; of equals the
/// first.
///
/// ```
/// use eblora_core::method::largest_entries;
/// let (b, v) = (faer::mat![[1.0], [-3.0]], faer::mat![[2.0], [0.5]]); // B·A = [2 0.5; -6 -1.5]
/// assert_eq!(largest_entries(b.as_ref(), v.as_ref(), 0.5), [(0, 0), (1, 0)]);
/// ```
pub fn largest_entries<T: Real>(b: faer::MatRef<'_, T>, v: faer::MatRef<'_, T>, share: f64) -> Vec<(u32, u32)> {
    let (product, inp) = (b * v.transpose(), v.nrows());
    let size = |at: u32| product[(at as usize / inp, at as usize % inp)].abs();
    let mut order: Vec<u32> = (0..(b.nrows() * inp) as u32).collect();
    let wanted = (libm::round(share * order.len() as f64) as usize).clamp(1, order.len());
    if wanted < order.len() {
        let by_size = |a: &u32, b: &u32| size(*b).partial_cmp(&size(*a)).unwrap_or(Ordering::Equal).then(a.cmp(b));
        order.select_nth_unstable_by(wanted, by_size);
        order.truncate(wanted);
    }
    order.sort_unstable();
    order.into_iter().map(|at| (at / inp as u32, at % inp as u32)).collect()
}

fn mask_name(site: usize) -> String {
    format!("mask{site}")
}

impl<B: Backend> Sefe<B> {
    /// The method with these settings.
    pub fn new(config: SefeConfig) -> Self {
        Self { config, layers: Vec::new(), masks: Vec::new(), entries: Vec::new(), states: Vec::new() }
    }

    /// The masked entries of every stack on the device, weighted so that their penalties are means.
    fn upload(&self, backend: &B, adapters: &Adapters<B>) -> Result<Vec<Entries<B>>, MethodError> {
        let layers = self.masks.len() as f64;
        let entries = adapters.stacks.iter().map(|stack| {
            let (out, inp, _) = stack.extents;
            let items = stack.sites.iter().map(|&site| {
                let mask = self.masks[site].as_slice();
                (mask, self.config.penalty / (layers * mask.len().max(1) as f64))
            });
            Ok(Entries::upload(backend, [stack.sites.len(), out, inp], &items.collect::<Vec<_>>())?)
        });
        entries.collect()
    }
}

impl<B: Backend> Method<B> for Sefe<B> {
    fn name(&self) -> &'static str {
        "sefe"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn begin_task(&mut self, backend: &B, start: TaskStart<'_, B>) -> Result<Adapters<B>, MethodError> {
        self.layers = start.sites.iter().map(|s| s.name.clone()).collect();
        let SefeConfig { rank, alpha, adamw, .. } = self.config;
        let adapters = fresh(backend, "sefe", &start, rank, alpha)?;
        self.entries = if self.masks.is_empty() { Vec::new() } else { self.upload(backend, &adapters)? };
        self.states = PairState::all(backend, adamw, &adapters)?;
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
        let SefeConfig { rate, weight_decay, .. } = self.config;
        for (i, ((stack, grads), state)) in
            adapters.stacks.iter_mut().zip(&mut grads.stacks).zip(&mut self.states).enumerate()
        {
            if let Some(entries) = self.entries.get_mut(i) {
                backend.entries_gradient([&mut grads.u, &mut grads.v], &stack.u, &stack.v, entries);
            }
            state.step(backend, stack, grads, rate * factor, weight_decay);
        }
        Ok(())
    }

    fn end_task(&mut self, _: &B, learnt: &[HostFactors<B::Scalar>]) -> Result<After, MethodError> {
        self.states.clear();
        self.entries.clear();
        self.masks.resize(self.layers.len(), Mask::new());
        for f in learnt {
            let mask = &mut self.masks[f.site];
            mask.extend(largest_entries(f.u.as_ref(), f.v.as_ref(), self.config.share));
            mask.sort_unstable();
            mask.dedup();
        }
        Ok(After::Merge)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let SefeConfig { rank, alpha, penalty, share, rate, weight_decay, adamw } = self.config;
        Vec::from([
            ("rank", rank.to_string()),
            ("alpha", alpha.to_string()),
            ("penalty", penalty.to_string()),
            ("masked share", share.to_string()),
            ("lora rate", rate.to_string()),
            ("weight decay", weight_decay.to_string()),
            ("AdamW", format!("{adamw:?}")),
        ])
    }

    /// Rows and columns of each mask: whole numbers, which f32 holds exactly up to 2²⁴.
    fn remembered(&self) -> Values<B::Scalar> {
        let masks = self.masks.iter().enumerate().map(|(site, mask)| {
            let index = |i, j: usize| f64::from(if i == 0 { mask[j].0 } else { mask[j].1 });
            let indices = Mat::from_fn(2, mask.len(), |i, j| B::Scalar::of(index(i, j)));
            (mask_name(site), Value::matrix(indices.as_ref()))
        });
        masks.collect()
    }

    fn recall(&mut self, mut remembered: Values<B::Scalar>, sites: &[Site]) -> Result<(), MethodError> {
        let mut masks = Vec::new();
        // Before the end of the first task there is none.
        if !remembered.is_empty() {
            for (index, site) in sites.iter().enumerate() {
                let name = mask_name(index);
                let indices = take_matrix(&mut remembered, &name, 2)?;
                let mask: Mask = (0..indices.ncols())
                    .map(|j| (indices[(0, j)].f64() as u32, indices[(1, j)].f64() as u32))
                    .collect();
                let inside = mask.iter().all(|&(i, j)| (i as usize) < site.out && (j as usize) < site.inp);
                if !inside || !mask.is_sorted_by(|a, b| a < b) {
                    let expected = format!("a list of entries of {}×{}", site.out, site.inp);
                    return Err(ValueError::Kind { name, expected }.into());
                }
                masks.push(mask);
            }
        }
        self.masks = masks;
        Ok(all_taken(&remembered)?)
    }

    fn parts(&mut self) -> Vec<(String, Part<'_, B>)> {
        PairState::parts(&mut self.states)
    }
}
