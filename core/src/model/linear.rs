//! A frozen linear layer `y = x·Wᵀ + b` with an optional adapter `s·(x·V)·Uᵀ` beside it.

use super::Wanted;
use super::frozen::Frozen;
use super::views::{packed, packed_mut};
use crate::adapter::{Adapters, stack::Slot};
use crate::backend::{Backend, BackendError, Epilogue, Shaped, View, ViewMut};

/// A frozen weight (out×in) with an optional bias, perhaps at one of the model's sites.
pub struct Linear<B: Backend> {
    /// W, out×in.
    pub weight: Frozen<B>,
    /// b, \[1, 1, out\].
    pub bias: Option<B::Tensor>,
    /// Index among the model's sites; `None`: it can't carry an adapter.
    pub site: Option<usize>,
}

/// The buffers of one layer's adapter: `z = x·V` (kept from the forward pass) and its gradient, n×r each, or wide enough
/// for the [`Frozen::merged_rank`] where that is more.
pub(super) struct Inner<'a, X> {
    pub z: &'a mut X,
    pub dz: &'a mut X,
}

impl<B: Backend> Linear<B> {
    /// This layer's adapter among these.
    fn slot<'a>(&self, adapters: Option<&'a Adapters<B>>) -> Option<Slot<'a, B>> {
        adapters?.slot(self.site?)
    }

    /// Columns that this layer's z and dz need.
    pub(super) fn inner_width(&self, adapters: Option<&Adapters<B>>) -> usize {
        let rank = self.slot(adapters).map_or(0, |slot| slot.rank);
        rank.max(self.weight.merged_rank())
    }

    /// `y = x·Wᵀ + b + s·(x·V)·Uᵀ`, or `y += …`; x is n×in, y is n×out, z (n×r) keeps `x·V`.
    pub(super) fn forward(
        &self,
        backend: &B,
        mut y: ViewMut<'_, B::Tensor>,
        x: View<'_, B::Tensor>,
        accumulate: bool,
        adapters: Option<&Adapters<B>>,
        z: &mut B::Tensor,
    ) {
        let epilogue = Epilogue { accumulate, ..Epilogue::bias(self.bias.as_ref()) };
        let rows = y.rows;
        // z is scratch until the adapter, last, leaves its product there.
        self.weight.product(backend, y.reborrow(), x, epilogue, z);
        if let Some(slot) = self.slot(adapters) {
            let (u, v) = factors(&slot);
            backend.matmul(packed_mut(z, rows, slot.rank), x, v, Epilogue::default());
            backend.matmul(y, packed(z, rows, slot.rank), u.t(), Epilogue::add(slot.scale()));
        }
    }

    /// Gradients of the layer's own adapter (or the factors of ∂L/∂W), and of its input where `dx` is given:
    /// `dz = dy·U`, `ds = ⟨z, dz⟩`, `dU = s·dyᵀ·z`, `dV = s·xᵀ·dz`, `dx (+)= dy·W + s·dz·Vᵀ`.
    pub(super) fn backward(
        &self,
        backend: &B,
        dx: Option<(ViewMut<'_, B::Tensor>, bool)>,
        dy: View<'_, B::Tensor>,
        x: View<'_, B::Tensor>,
        wanted: &mut Wanted<'_, B>,
        inner: Inner<'_, B::Tensor>,
    ) {
        let rows = dy.rows;
        let mut adapter = None;
        match wanted {
            Wanted::Adapters(adapters, grads) => {
                if let Some(slot) = self.slot(Some(adapters)) {
                    let (u, v) = factors(&slot);
                    let grads = &mut grads.stacks[slot.stack_index];
                    backend.matmul(packed_mut(inner.dz, rows, slot.rank), dy, u, Epilogue::default());
                    let (z, dz) = (packed(&*inner.z, rows, slot.rank), packed(&*inner.dz, rows, slot.rank));
                    if let Some(s) = &mut grads.s {
                        backend.dot(s, slot.item, z, dz);
                    }
                    let scaled = Epilogue::scaled(slot.scale());
                    backend.matmul(ViewMut::item(&mut grads.u, slot.item), dy.t(), z, scaled);
                    if !slot.stack.v_frozen {
                        let scaled = Epilogue::scaled(slot.scale());
                        backend.matmul(ViewMut::item(&mut grads.v, slot.item), x.t(), dz, scaled);
                    }
                    adapter = Some((slot.rank, v, slot.scale()));
                }
            }
            Wanted::Weights(sink) => {
                if let Some(site) = self.site {
                    sink.collect(backend, site, dy, x);
                }
            }
        }
        let Some((mut dx, accumulate)) = dx else { return };
        self.weight.product_back(backend, dx.reborrow(), dy, accumulate);
        if let Some((rank, v, scale)) = adapter {
            backend.matmul(dx.reborrow(), packed(&*inner.dz, rows, rank), v.t(), Epilogue::add(scale));
        }
        // dz is free as scratch now.
        self.weight.correct_back(backend, dx, dy, inner.dz);
    }

    /// Whether it is at this site.
    pub(super) fn is_at(&self, site: usize) -> bool {
        self.site == Some(site)
    }

    /// `W += s·U·Vᵀ` where the site has an adapter.
    ///
    /// # Errors
    /// When W keeps its stored bits, and the device has no room for the correction beside them.
    pub(super) fn merge(&mut self, backend: &B, adapters: &Adapters<B>) -> Result<(), BackendError> {
        match self.slot(Some(adapters)) {
            Some(slot) => self.weight.merge(backend, &slot),
            None => Ok(()),
        }
    }
}

/// Makes a scratch matrix anew where it has fewer columns.
pub(super) fn fit_columns<B: Backend>(
    backend: &B,
    tensor: &mut B::Tensor,
    rows: usize,
    cols: usize,
) -> Result<(), BackendError> {
    if tensor.shape()[2] < cols {
        *tensor = backend.zeros([1, rows, cols])?;
    }
    Ok(())
}

/// Makes room in each of these layers' z for its adapter, and for the correction of tasks merged since; tells how many columns
/// the widest has.
pub(super) fn fit_inner<'a, B: Backend + 'a>(
    backend: &B,
    z: &mut [B::Tensor],
    rows: usize,
    linears: impl Iterator<Item = &'a Linear<B>>,
    adapters: Option<&Adapters<B>>,
) -> Result<usize, BackendError> {
    let mut widest = 0;
    for (z, linear) in z.iter_mut().zip(linears) {
        let width = linear.inner_width(adapters);
        widest = widest.max(width);
        fit_columns(backend, z, rows, width)?;
    }
    Ok(widest)
}

/// U (out×r) and V (in×r) of an adapter.
fn factors<'a, B: Backend>(slot: &Slot<'a, B>) -> (View<'a, B::Tensor>, View<'a, B::Tensor>) {
    (View::item(&slot.stack.u, slot.item), View::item(&slot.stack.v, slot.item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Real;
    use crate::adapter::HostFactors;
    use crate::backend::Cpu;
    use crate::linalg::random_orthonormal;
    use crate::model::HostValues;
    use crate::random::Random;
    use alloc::vec;
    use alloc::vec::Vec;

    const OUT: usize = 7;
    const INP: usize = 5;
    const ROWS: usize = 4;

    /// Numbers in −1 … 1 that bf16 and f16 hold exactly, and their bf16 bits.
    fn exact(count: usize) -> (Vec<f32>, Vec<u16>) {
        let values: Vec<f32> = (0..count).map(|i| ((i * 37 + 11) % 128) as f32 / 64.0 - 1.0).collect();
        let bits = values.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
        (values, bits)
    }

    fn linear<T: Real>(cpu: &Cpu<T>, values: &HostValues) -> Linear<Cpu<T>> {
        let bias: Vec<T> = (0..OUT).map(|i| T::of(i as f64 / 8.0)).collect();
        let weight = Frozen::upload(cpu, values, OUT, INP, "w").unwrap();
        Linear { weight, bias: Some(cpu.upload([1, 1, OUT], &bias).unwrap()), site: Some(0) }
    }

    fn adapters<T: Real>(cpu: &Cpu<T>, rank: usize, task: u64) -> Adapters<Cpu<T>> {
        let mut rng = Random::new(task, "linear");
        let (u, v) =
            (random_orthonormal(OUT, rank, &mut rng).unwrap(), random_orthonormal(INP, rank, &mut rng).unwrap());
        Adapters::upload(cpu, &[HostFactors { site: 0, u, v, s: T::of(0.5 + task as f64) }], 1, None).unwrap()
    }

    /// Output, input gradient and adapter gradients of a layer into which two tasks were merged, with a third beside it.
    fn pass<T: Real>(values: &HostValues) -> Vec<Vec<T>> {
        let cpu = Cpu::<T>::new();
        let mut linear = linear(&cpu, values);
        for (task, rank) in [(0, 2), (1, 3)] {
            linear.merge(&cpu, &adapters(&cpu, rank, task)).unwrap();
        }
        let third = adapters(&cpu, 2, 2);
        let width = linear.inner_width(Some(&third));
        assert_eq!(width, if matches!(values, HostValues::F32(_)) { 2 } else { 5 });
        let some =
            |count: usize, by: usize| (0..count).map(|i| T::of((i * by % 23) as f64 / 10.0 - 1.0)).collect::<Vec<T>>();
        let x = cpu.upload([1, ROWS, INP], &some(ROWS * INP, 7)).unwrap();
        let dy = cpu.upload([1, ROWS, OUT], &some(ROWS * OUT, 5)).unwrap();
        let [mut y, mut dx] = [OUT, INP].map(|cols| cpu.upload([1, ROWS, cols], &some(ROWS * cols, 3)).unwrap());
        let [mut z, mut dz] = [(); 2].map(|()| cpu.zeros([1, ROWS, width]).unwrap());
        linear.forward(&cpu, ViewMut::all(&mut y), View::all(&x), true, Some(&third), &mut z);
        let mut grads = third.grads(&cpu).unwrap();
        let wanted = &mut Wanted::Adapters(&third, &mut grads);
        let inner = Inner { z: &mut z, dz: &mut dz };
        linear.backward(&cpu, Some((ViewMut::all(&mut dx), true)), View::all(&dy), View::all(&x), wanted, inner);
        let of = |t: &crate::backend::cpu::CpuTensor<T>| t.values().to_vec();
        let stack = &grads.stacks[0];
        vec![of(&y), of(&dx), of(&stack.u), of(&stack.v), of(stack.s.as_ref().unwrap())]
    }

    /// A sum of 17 products of numbers up to about 4, in two orders: 17·4·ε, and as much for what comes before it.
    fn both_paths_agree<T: Real>() {
        let (values, bits) = exact(OUT * INP);
        let bound = 2.0 * 17.0 * 4.0 * T::EPS.f64();
        let f16 = HostValues::F16(values.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect());
        let full = pass::<T>(&HostValues::F32(values));
        for stored in [HostValues::Bf16(bits), f16] {
            for (full, stored) in full.iter().zip(&pass::<T>(&stored)) {
                assert_eq!(full.len(), stored.len());
                for (a, b) in full.iter().zip(stored) {
                    assert!((a.f64() - b.f64()).abs() <= bound, "{a} merged in place, {b} beside the stored bits");
                }
            }
        }
    }

    #[test]
    fn merges_beside_stored_bits_do_what_merges_in_place_do() {
        both_paths_agree::<f64>();
        both_paths_agree::<f32>();
    }

    #[test]
    fn merges_in_place_add_the_update() {
        let (values, _) = exact(OUT * INP);
        let cpu = Cpu::<f64>::new();
        let (mut linear, update) = (linear(&cpu, &HostValues::F32(values.clone())), adapters(&cpu, 2, 3));
        linear.merge(&cpu, &update).unwrap();
        let delta = pollster::block_on(update.read(&cpu)).unwrap().remove(0).spectral();
        let Frozen::Full(weight) = &linear.weight else { panic!("f32 weights stay full") };
        for (i, (&got, &was)) in weight.values().iter().zip(&values).enumerate() {
            let (row, col) = (i / INP, i % INP);
            let sum: f64 = (0..2).map(|k| delta.u[(row, k)] * delta.v[(col, k)]).sum();
            assert!((got - f64::from(was) - delta.s * sum).abs() < 1e-14);
        }
    }

    #[test]
    fn a_matrix_of_another_size_is_named() {
        let cpu = Cpu::<f32>::new();
        for values in [HostValues::F32(vec![0.0; 3]), HostValues::Bf16(vec![0; 3])] {
            let Err(error) = Frozen::upload(&cpu, &values, 2, 2, "w") else { panic!("3 values are no 2×2") };
            assert_eq!(alloc::format!("{error}"), "w: 3 values where the configuration needs 4");
        }
    }
}
