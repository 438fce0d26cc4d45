//! Two tasks of EBLoRA on one 12×10 weight, with the core's numerics alone. Each task wants the weight to be a target `T`:
//! its loss is `½‖W − T‖_F²`, its gradient `G = W − T`.

use eblora_core::Real;
use eblora_core::adapter::init;
use eblora_core::gpm::{self, Gradient, Subspace};
use eblora_core::manifold::{RestrictedStiefel, Retraction, StiefelScratch, TangentMap, project_tangent, retract};
use eblora_core::random::Random;
use faer::{Mat, Scale};

const OUT: usize = 12;
const IN: usize = 10;
const RANK: usize = 3;
const STEPS: usize = 20;
/// The length of a step of `U` and `V` per entry of the gradient, and that of `s`.
const RATES: (f64, f64) = (0.1, 0.3);
/// The share of a gradient's energy that the memory keeps.
const EPSILON: f64 = 0.5;

/// What the second task did.
#[derive(Debug)]
pub struct Outcome {
    /// Its loss before training, and with the adapter merged.
    pub loss: [f64; 2],
    /// The greatest `max |XᵀX − I|` over both factors and all steps.
    pub orthonormality: f64,
    /// The greatest length of a column of `MᵀV` over all steps.
    pub overlap: f64,
    /// The directions in the memory after the first task and after the second.
    pub directions: [usize; 2],
}

impl Outcome {
    /// Whether the second task was learnt on the manifold, to 40 ε (10 rows, 3 columns), and the memory grew.
    pub fn is_good<T: Real>(&self) -> bool {
        let exact = 40.0 * T::EPS.f64();
        let [first, second] = self.directions;
        let learnt = self.loss[1] < 0.8 * self.loss[0];
        learnt && self.orthonormality < exact && self.overlap < exact && 0 < first && first <= second && second < IN
    }
}

/// Runs both tasks from `seed`; nothing where the core returned an error.
pub fn run<T: Real>(seed: u64, retraction: Retraction, map: TangentMap) -> Option<Outcome> {
    let random = &mut Random::new(seed, "exercise");
    let mut weight = random.normal_matrix::<T>(OUT, IN);
    let [first, second] = [(); 2].map(|()| random.normal_matrix::<T>(OUT, IN));

    let mut memory = Subspace::<T>::empty(IN);
    gpm::update(&mut memory, &Gradient::Exact(&weight - first), EPSILON).ok()?;
    let after_first = memory.k();

    let gradient = Gradient::Exact(&weight - &second);
    let mut adapter = init::from_gradient(&gradient, &memory, RANK, 0.01, random).ok()?.adapter?;
    let manifold = RestrictedStiefel::new(&memory, adapter.rank()).ok()?;
    let (mut scratch_u, mut scratch_v) = (StiefelScratch::new(OUT, adapter.rank()), manifold.scratch());
    let loss = |weight: &Mat<T>| 0.5 * (weight - &second).squared_norm_l2().f64();
    let before = loss(&weight);
    let (mut orthonormality, mut overlap) = (0.0_f64, 0.0_f64);
    for _ in 0..STEPS {
        let error = &weight + adapter.delta() - &second;
        // The loss has the gradients s·E·V, s·Eᵀ·U and tr(Uᵀ·E·V); U and V only need their directions.
        let mut step_u = &error * &adapter.v;
        let slope = (adapter.u.transpose() * &step_u).diagonal().column_vector().sum();
        let mut step_v = error.transpose() * &adapter.u;
        project_tangent(map, adapter.u.as_ref(), step_u.as_mut(), &mut scratch_u);
        manifold.project(map, adapter.v.as_ref(), step_v.as_mut(), &mut scratch_v);
        let rate = Scale(T::of(-RATES.0) * adapter.s.signum());
        adapter.u += step_u * rate;
        adapter.v += step_v * rate;
        adapter.s -= T::of(RATES.1 / RANK as f64) * slope;
        retract(retraction, adapter.u.as_mut(), &mut scratch_u).ok()?;
        manifold.retract(retraction, adapter.v.as_mut(), &mut scratch_v).ok()?;
        orthonormality = orthonormality.max(adapter.orthonormality_error().f64());
        overlap = overlap.max(memory.overlap(adapter.v.as_ref()).f64());
    }
    adapter.merge_into(weight.as_mut()).ok()?;
    let after = loss(&weight);
    gpm::update(&mut memory, &gradient, EPSILON).ok()?;
    Some(Outcome { loss: [before, after], orthonormality, overlap, directions: [after_first, memory.k()] })
}
