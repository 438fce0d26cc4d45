//! A frozen weight matrix W (out×in): in the device's precision, or in 16 or fewer bits as its file stores it.
//!
//! What is merged into a W of full precision is added in place. Fewer bits can't take it up without loss: there the
//! merged tasks stay beside W as one low-rank correction, `W + U·Vᵀ`, whose factors grow by a task's rank each.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use faer::{Mat, MatRef};

use super::views::{packed, packed_mut};
use super::{ModelError, upload};
use crate::Real;
use crate::adapter::stack::Slot;
use crate::backend::{Backend, BackendError, Epilogue, Packed, Scale, Shaped, Stored, View, ViewMut};

/// The values of a matrix on the host, row-major, as a file stores them. Two are equal if they are stored alike and have
/// the same values.
#[derive(Clone, Debug)]
pub enum HostValues {
    /// Single precision.
    F32(Vec<f32>),
    /// The upper halves of single precision.
    Bf16(Vec<u16>),
    /// IEEE half precision.
    F16(Vec<u16>),
    /// Where and as they are.
    Packed(Arc<dyn Packed>),
}

impl PartialEq for HostValues {
    fn eq(&self, other: &Self) -> bool {
        match (self.plain(), other.plain()) {
            (Stored::F32(a), Stored::F32(b)) => a == b,
            (Stored::Bf16(a), Stored::Bf16(b)) | (Stored::F16(a), Stored::F16(b)) => a == b,
            (Stored::Packed(_), Stored::Packed(_)) => self.to_f32() == other.to_f32(),
            _ => false,
        }
    }
}

impl HostValues {
    /// The same, borrowed.
    pub fn stored(&self) -> Stored<'_> {
        match self {
            Self::F32(values) => Stored::F32(values),
            Self::Bf16(bits) => Stored::Bf16(bits),
            Self::F16(bits) => Stored::F16(bits),
            Self::Packed(packed) => Stored::Packed(packed),
        }
    }

    /// The same, as the plain values that they are where they are.
    pub fn plain(&self) -> Stored<'_> {
        match self {
            Self::Packed(packed) => packed.plain().unwrap_or(Stored::Packed(packed)),
            plain => plain.stored(),
        }
    }

    /// All values in single precision.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = alloc::vec![0.0; self.stored().len()];
        self.stored().unpack(0, &mut values);
        values
    }

    /// Moves a rows×cols matrix to the device as it is stored; `name` is for messages.
    pub(super) fn upload<B: Backend>(
        &self,
        backend: &B,
        rows: usize,
        cols: usize,
        name: &str,
    ) -> Result<B::Weights, ModelError> {
        self.check(rows * cols, name)?;
        Ok(backend.upload_weights(rows, cols, self.stored())?)
    }

    fn check(&self, expected: usize, name: &str) -> Result<(), ModelError> {
        let got = self.stored().len();
        if got == expected { Ok(()) } else { Err(ModelError::Weight { name: name.to_string(), expected, got }) }
    }
}

/// A frozen W.
pub enum Frozen<B: Backend> {
    /// \[1, out, in\] in the device's precision; merges are added in place.
    Full(B::Tensor),
    /// In 16 or fewer bits, with what has been merged beside it.
    Stored(B::Weights, Option<Correction<B>>),
}

/// The merged tasks of a W that keeps its stored bits: `U·Vᵀ` with the magnitudes in U.
pub struct Correction<B: Backend> {
    /// The tasks' `s·U` side by side, \[1, out, R\].
    u: B::Tensor,
    /// The tasks' V side by side, \[1, in, R\].
    v: B::Tensor,
}

impl<B: Backend> Correction<B> {
    fn rank(&self) -> usize {
        self.u.shape()[2]
    }
}

/// The `cols` columns from `first` on.
fn columns<X: Shaped>(tensor: &mut X, first: usize, cols: usize) -> ViewMut<'_, X> {
    let all = ViewMut::all(tensor);
    ViewMut { offset: first, cols, ..all }
}

impl<B: Backend> Frozen<B> {
    /// Moves W to the device: f32 in the device's precision, anything smaller as it is. `name` is for messages.
    ///
    /// # Errors
    /// When the number of values is not out·in, or the device is out of memory.
    pub fn upload(backend: &B, values: &HostValues, out: usize, inp: usize, name: &str) -> Result<Self, ModelError> {
        if let Stored::F32(plain) = values.plain() {
            return Ok(Self::Full(upload::tensor(backend, [1, out, inp], plain, name)?));
        }
        Ok(Self::Stored(values.upload(backend, out, inp, name)?, None))
    }

    /// Rank R of the correction; a scratch matrix of the products below has as many columns.
    pub fn merged_rank(&self) -> usize {
        match self {
            Self::Full(_) | Self::Stored(_, None) => 0,
            Self::Stored(_, Some(correction)) => correction.rank(),
        }
    }

    /// `y = x·Wᵀ`, beside what the epilogue adds (its scale is 1); x is n×in, `scratch` holds n×R.
    pub(super) fn product(
        &self,
        backend: &B,
        mut y: ViewMut<'_, B::Tensor>,
        x: View<'_, B::Tensor>,
        epilogue: Epilogue<'_, B::Tensor>,
        scratch: &mut B::Tensor,
    ) {
        match self {
            Self::Full(weight) => backend.matmul(y, x, View::all(weight).t(), epilogue),
            Self::Stored(bits, correction) => {
                backend.matmul_weights(y.reborrow(), x, View::all(bits).t(), epilogue);
                if let Some(Correction { u, v }) = correction {
                    add_product(backend, y, x, [v, u], scratch);
                }
            }
        }
    }

    /// `dx (+)= dy·W` without the correction; dy is n×out.
    pub(super) fn product_back(
        &self,
        backend: &B,
        dx: ViewMut<'_, B::Tensor>,
        dy: View<'_, B::Tensor>,
        accumulate: bool,
    ) {
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        match self {
            Self::Full(weight) => backend.matmul(dx, dy, View::all(weight), epilogue),
            Self::Stored(bits, _) => backend.matmul_weights(dx, dy, View::all(bits), epilogue),
        }
    }

    /// Adds the correction's part, `dx += (dy·U)·Vᵀ`; `scratch` holds n×R.
    pub(super) fn correct_back(
        &self,
        backend: &B,
        dx: ViewMut<'_, B::Tensor>,
        dy: View<'_, B::Tensor>,
        scratch: &mut B::Tensor,
    ) {
        if let Self::Stored(_, Some(Correction { u, v })) = self {
            add_product(backend, dx, dy, [u, v], scratch);
        }
    }

    /// W with everything merged so far, out×in, read back.
    pub(super) async fn read(&self, backend: &B) -> Result<Mat<B::Scalar>, BackendError> {
        match self {
            Self::Full(weight) => {
                let [_, out, inp] = weight.shape();
                Ok(MatRef::from_row_major_slice(&backend.read(weight).await?, out, inp).to_owned())
            }
            Self::Stored(bits, _) => {
                // The product with the identity unpacks the bits where they are: I·Wᵀ is in×out.
                let [_, out, inp] = bits.shape();
                let mut scratch = backend.zeros([1, inp, self.merged_rank().max(1)])?;
                let (identity, mut product) = (identity(backend, inp)?, backend.zeros([1, inp, out])?);
                let x = View::all(&identity);
                self.product(backend, ViewMut::all(&mut product), x, Epilogue::default(), &mut scratch);
                let values = backend.read(&product).await?;
                Ok(MatRef::from_row_major_slice(&values, inp, out).transpose().to_owned())
            }
        }
    }

    /// `W += s·U·Vᵀ`.
    pub(super) fn merge(&mut self, backend: &B, slot: &Slot<'_, B>) -> Result<(), BackendError> {
        let (u, v) = (View::item(&slot.stack.u, slot.item), View::item(&slot.stack.v, slot.item));
        match self {
            Self::Full(weight) => backend.matmul(ViewMut::all(weight), u, v.t(), Epilogue::add(slot.scale())),
            Self::Stored(_, correction) => {
                let before = correction.as_ref().map_or(0, Correction::rank);
                let (out, inp, rank) = (u.rows, v.rows, slot.rank);
                let mut wider = Correction {
                    u: backend.zeros([1, out, before + rank])?,
                    v: backend.zeros([1, inp, before + rank])?,
                };
                if let Some(old) = correction {
                    backend.copy(columns(&mut wider.u, 0, before), View::all(&old.u));
                    backend.copy(columns(&mut wider.v, 0, before), View::all(&old.v));
                }
                // s may be on the device: the product with the identity takes it from there.
                let identity = identity(backend, rank)?;
                let scaled = Epilogue::scaled(slot.scale());
                backend.matmul(columns(&mut wider.u, before, rank), u, View::all(&identity), scaled);
                backend.copy(columns(&mut wider.v, before, rank), v);
                *correction = Some(wider);
            }
        }
        Ok(())
    }
}

/// I, n×n.
fn identity<B: Backend>(backend: &B, n: usize) -> Result<B::Tensor, BackendError> {
    let at = |i: usize| B::Scalar::of(if i.is_multiple_of(n + 1) { 1.0 } else { 0.0 });
    backend.upload([1, n, n], &(0..n * n).map(at).collect::<Vec<_>>())
}

/// `y += (x·A)·Bᵀ`, the inner product in `scratch`.
fn add_product<B: Backend>(
    backend: &B,
    y: ViewMut<'_, B::Tensor>,
    x: View<'_, B::Tensor>,
    [a, b]: [&B::Tensor; 2],
    scratch: &mut B::Tensor,
) {
    let (rows, rank) = (x.rows, a.shape()[2]);
    backend.matmul(packed_mut(scratch, rows, rank), x, View::all(a), Epilogue::default());
    backend.matmul(y, packed(scratch, rows, rank), View::all(b).t(), Epilogue::add(Scale::Value(1.0)));
}
