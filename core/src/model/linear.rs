//! A frozen linear layer `y = x·Wᵀ + b` with an optional adapter `s·(x·V)·Uᵀ` beside it.

use super::Wanted;
use crate::adapter::{Adapters, stack::Slot};
use crate::backend::{Backend, Epilogue, Scale, View, ViewMut};

/// A frozen weight (out×in) with an optional bias, at one of the model's sites.
pub struct Linear<B: Backend> {
    /// W, \[1, out, in\].
    pub weight: B::Tensor,
    /// b, \[1, 1, out\].
    pub bias: Option<B::Tensor>,
    /// Index among the model's sites.
    pub site: usize,
}

/// `tensor` as a packed rows×cols matrix, whatever larger matrix it was allocated for.
fn packed<X>(tensor: &X, rows: usize, cols: usize) -> View<'_, X> {
    View { tensor, offset: 0, rows, cols, stride: cols, transposed: false }
}

fn packed_mut<X>(tensor: &mut X, rows: usize, cols: usize) -> ViewMut<'_, X> {
    ViewMut { tensor, offset: 0, rows, cols, stride: cols }
}

/// The buffers of one layer's adapter: `z = x·V` (kept from the forward pass) and its gradient, n×r each.
pub(super) struct Inner<'a, X> {
    pub z: &'a mut X,
    pub dz: &'a mut X,
}

impl<B: Backend> Linear<B> {
    /// `y = x·Wᵀ + b + s·(x·V)·Uᵀ`, or `y += …`; x is n×in, y is n×out, z (n×r) keeps `x·V`.
    pub(super) fn forward(
        &self,
        backend: &B,
        y: ViewMut<'_, B::Tensor>,
        x: View<'_, B::Tensor>,
        accumulate: bool,
        adapters: Option<&Adapters<B>>,
        z: &mut B::Tensor,
    ) {
        let ViewMut { tensor, offset, rows, cols, stride } = y;
        let weight = View::all(&self.weight).t();
        let epilogue = Epilogue { scale: Scale::Value(1.0), bias: self.bias.as_ref(), accumulate };
        backend.matmul(ViewMut { tensor: &mut *tensor, offset, rows, cols, stride }, x, weight, epilogue);
        if let Some(slot) = adapters.and_then(|a| a.slot(self.site)) {
            let (u, v) = factors(&slot);
            backend.matmul(packed_mut(z, rows, slot.rank), x, v, Epilogue::default());
            let y = ViewMut { tensor, offset, rows, cols, stride };
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
                if let Some(slot) = adapters.slot(self.site) {
                    let (u, v) = factors(&slot);
                    let grads = &mut grads.stacks[slot.stack_index];
                    backend.matmul(packed_mut(inner.dz, rows, slot.rank), dy, u, Epilogue::default());
                    let (z, dz) = (packed(&*inner.z, rows, slot.rank), packed(&*inner.dz, rows, slot.rank));
                    if let Some(s) = &mut grads.s {
                        backend.dot(s, slot.item, z, dz);
                    }
                    let scaled = Epilogue::scaled(slot.scale());
                    backend.matmul(ViewMut::item(&mut grads.u, slot.item), dy.t(), z, scaled);
                    let scaled = Epilogue::scaled(slot.scale());
                    backend.matmul(ViewMut::item(&mut grads.v, slot.item), x.t(), dz, scaled);
                    adapter = Some((dz, v, slot.scale()));
                }
            }
            Wanted::Weights(sink) => sink.collect(backend, self.site, dy, x),
        }
        let Some((ViewMut { tensor, offset, rows, cols, stride }, accumulate)) = dx else { return };
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        let out = ViewMut { tensor: &mut *tensor, offset, rows, cols, stride };
        backend.matmul(out, dy, View::all(&self.weight), epilogue);
        if let Some((dz, v, scale)) = adapter {
            backend.matmul(ViewMut { tensor, offset, rows, cols, stride }, dz, v.t(), Epilogue::add(scale));
        }
    }

    /// `W += s·U·Vᵀ` where the site has an adapter.
    pub(super) fn merge(&mut self, backend: &B, adapters: &Adapters<B>) {
        if let Some(slot) = adapters.slot(self.site) {
            let (u, v) = factors(&slot);
            backend.matmul(ViewMut::all(&mut self.weight), u, v.t(), Epilogue::add(slot.scale()));
        }
    }
}

/// U (out×r) and V (in×r) of an adapter.
fn factors<'a, B: Backend>(slot: &Slot<'a, B>) -> (View<'a, B::Tensor>, View<'a, B::Tensor>) {
    (View::item(&slot.stack.u, slot.item), View::item(&slot.stack.v, slot.item))
}
