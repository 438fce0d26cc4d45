//! What KeepLoRA and InfLoRA share: LoRA of which B alone is trained, with A along the leading right singular directions
//! of a matrix of the task, off the memory of earlier ones.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use faer::Mat;

use super::memories::Memories;
use super::pair::{PairState, step_all};
use super::{MethodError, guard};
use crate::Real;
use crate::adapter::{AdapterGrads, Adapters, HostFactors};
use crate::backend::Backend;
use crate::gpm::Gradient;
use crate::model::Site;
use crate::optim::AdamWConfig;
use crate::random::Random;

/// Memories, and AdamW on B.
pub(super) struct FrozenA<B: Backend> {
    pub layers: Vec<String>,
    pub memories: Memories<B::Scalar>,
    pub states: Vec<PairState<B>>,
    pub warnings: Vec<String>,
}

/// Numbers of a start.
pub(super) struct Start {
    pub rank: usize,
    /// Length of A's rows.
    pub length: f64,
    /// Factor of B·A.
    pub scale: f64,
    pub adamw: AdamWConfig,
}

impl<B: Backend> FrozenA<B> {
    pub fn new() -> Self {
        Self { layers: Vec::new(), memories: Memories::new(None), states: Vec::new(), warnings: Vec::new() }
    }

    /// Names the layers and makes their memories, before the first task.
    pub fn name(&mut self, sites: &[Site]) {
        self.layers = sites.iter().map(|s| s.name.clone()).collect();
        self.memories.begin(sites);
    }

    /// B = 0 and `A = length·Qᵀ`, Q (in×r) the r leading right singular vectors of `matrix·(I − M·Mᵀ)`, and random
    /// directions off M where it has no more of its own. The rank shrinks to the directions that M leaves.
    pub fn begin(
        &mut self,
        backend: &B,
        sites: &[Site],
        matrices: Vec<Gradient<B::Scalar>>,
        start: &Start,
        rng: &mut Random,
    ) -> Result<Adapters<B>, MethodError> {
        let mut factors = Vec::with_capacity(sites.len());
        for (index, (site, matrix)) in sites.iter().zip(&matrices).enumerate() {
            let (m, layer) = (self.memories.subspace(index), || site.name.clone());
            let rank = start.rank.min(m.dim() - m.k());
            if rank < start.rank {
                let free = m.dim() - m.k();
                self.warnings.push(format!("layer {}: earlier tasks leave {free} input directions free", site.name));
            }
            if rank == 0 {
                continue;
            }
            let q = matrix
                .projected_off_svd(m, rank)
                .map_err(|source| MethodError::Memory { layer: layer(), source })
                .and_then(|svd| {
                    let filled = m.complete(svd.v, rank, rng);
                    filled.map_err(|source| MethodError::Adapter { layer: layer(), source: source.into() })
                })?;
            let v = q * faer::Scale(B::Scalar::of(start.length));
            factors.push(HostFactors { site: index, u: Mat::zeros(site.out, rank), v, s: B::Scalar::of(start.scale) });
        }
        self.memories.note(matrices);
        let adapters = Adapters::upload(backend, &factors, sites.len(), Some(start.scale))?.freeze_v();
        self.states = PairState::all(backend, start.adamw, &adapters)?;
        Ok(adapters)
    }

    /// AdamW on B.
    pub fn step(
        &mut self,
        backend: &B,
        adapters: &mut Adapters<B>,
        grads: &mut AdapterGrads<B>,
        rate: f64,
        decay: f64,
    ) -> Result<(), MethodError> {
        guard(backend, adapters, grads, &self.layers)?;
        step_all(backend, adapters, grads, &mut self.states, rate, decay);
        Ok(())
    }

    /// The memories grow by the task's matrices.
    pub fn end(&mut self, epsilon: f64) -> Result<(), MethodError> {
        self.states.clear();
        self.memories.grow(epsilon, &self.layers)
    }
}
