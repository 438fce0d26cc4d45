//! What a device must be able to do for the models and methods above: one trait, written once per device.
//!
//! [`Backend`] is the list of kernels; [`cpu`] is the reference implementation, one file per kernel, and the twin of
//! the WGSL that carries the same names. Tensors are row-major stacks `[count, rows, cols]`; kernels write into buffers
//! that were allocated before training began, so a training step allocates nothing.
//!
//! Shapes that reach a kernel are invariants of the model and method code above, which checks user input when it is
//! built: a mismatch panics with both shapes, as indexing does. What can fail at run time (memory, reading back, a
//! non-finite gradient) returns a [`BackendError`].

pub mod cpu;
mod entries;
mod stored;
mod view;

pub use cpu::Cpu;
pub use entries::Entries;
pub use stored::{Packed, Stored};
pub use view::{Product, Shaped, View, ViewMut};

use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;

use crate::Real;
use crate::gpm::Subspace;
use crate::manifold::{Retraction, TangentMap};

/// What a device can refuse.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Host data and tensor differ in size.
    #[error("{op}: {got} values for a tensor of {expected}")]
    Size {
        /// The operation.
        op: &'static str,
        /// Values that the tensor holds.
        expected: usize,
        /// Values that were given.
        got: usize,
    },
    /// A NaN or an infinity where only finite values may be.
    #[error("a value that is not finite in matrix {item} of the stack")]
    NonFinite {
        /// Index in the stack.
        item: usize,
    },
    /// A geometric kernel gave up on one matrix of a stack; nothing in the stack was changed.
    #[error("matrix {item} of the stack: {source}")]
    Manifold {
        /// Index in the stack.
        item: usize,
        /// Why.
        source: crate::manifold::ManifoldError,
    },
    /// The device itself failed.
    #[error("{device}: {message}")]
    Device {
        /// The device.
        device: String,
        /// What it said.
        message: String,
    },
}

/// A factor of a product: known on the host, or one value of a tensor on the device (no readback).
#[derive(Debug)]
pub enum Scale<'a, X> {
    /// A plain number.
    Value(f64),
    /// Value `1` of tensor `0`.
    Item(&'a X, usize),
}

impl<X> Clone for Scale<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<X> Copy for Scale<'_, X> {}

/// What [`Backend::matmul`] does beside the product: `dst = scale·A·B (+ bias) (+ dst)`.
#[derive(Debug)]
pub struct Epilogue<'a, X> {
    /// Factor of the product.
    pub scale: Scale<'a, X>,
    /// A row of `dst.cols` values added to every row.
    pub bias: Option<&'a X>,
    /// Add to what `dst` holds instead of replacing it.
    pub accumulate: bool,
}

impl<X> Clone for Epilogue<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<X> Copy for Epilogue<'_, X> {}

impl<X> Default for Epilogue<'_, X> {
    fn default() -> Self {
        Self { scale: Scale::Value(1.0), bias: None, accumulate: false }
    }
}

impl<'a, X> Epilogue<'a, X> {
    /// `dst = A·B + bias`.
    pub fn bias(bias: Option<&'a X>) -> Self {
        Self { bias, ..Self::default() }
    }
    /// `dst = scale·A·B`.
    pub fn scaled(scale: Scale<'a, X>) -> Self {
        Self { scale, ..Self::default() }
    }
    /// `dst += scale·A·B`.
    pub fn add(scale: Scale<'a, X>) -> Self {
        Self { scale, accumulate: true, ..Self::default() }
    }
}

/// One step of AdamW (Loshchilov & Hutter 2019): the numbers that are equal for all entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// 1-based number of this step, for the bias corrections.
    pub step: u32,
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x·Φ(x)` (Hendrycks & Gimpel 2016).
    #[default]
    Gelu,
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    GeluTanh,
    /// `x/(1 + e^−x)`.
    Silu,
}

/// The label of a row that does not count in [`Backend::cross_entropy`].
pub const IGNORED: u32 = u32::MAX;

/// How [`Backend::rope`] turns the rows of n×(heads·dh).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RopeShape {
    /// Heads in a row.
    pub heads: usize,
    /// Tokens of a sequence: row i has position `start + i mod tokens`.
    pub tokens: usize,
    /// Position of the first token.
    pub start: usize,
    /// Turn back: the backward pass.
    pub inverse: bool,
}

/// Extents of a multi-head attention over a batch of equally long sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Queries of each.
    pub tokens: usize,
    /// Keys of each: as many as tokens, or more where earlier ones are cached.
    pub keys: usize,
    /// Heads of the queries; the width is heads × head size.
    pub heads: usize,
    /// Heads of keys and values: head h reads number `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Query i sees only keys `j ≤ i + keys − tokens`.
    pub causal: bool,
}

impl AttentionShape {
    /// Every token sees every token, each head with keys and values of its own.
    pub fn full(batch: usize, tokens: usize, heads: usize) -> Self {
        Self { batch, tokens, keys: tokens, heads, kv_heads: heads, causal: false }
    }
}

/// A device: its memory and its kernels. Shapes: `n` rows of activations, `d` features, stacks `[count, rows, cols]`.
///
/// Only [`Backend::read`] waits for the device; everything else may be queued.
pub trait Backend {
    /// Scalar of tensors and kernels.
    type Scalar: Real;
    /// A row-major stack of matrices in device memory.
    type Tensor: Shaped;
    /// A list of class labels in device memory.
    type Labels;
    /// The gradient subspaces `M` of a stack of layers in device memory.
    type Subspaces;
    /// Working memory of the geometric kernels for one stack of n×r matrices.
    type Scratch;
    /// A frozen rows×cols matrix in device memory, as stored; computed with in [`Backend::Scalar`].
    type Weights: Shaped;
    /// Values on their way back from the device.
    type Ticket;

    /// A short name for reports: `"cpu"`, or the adapter's.
    fn name(&self) -> String;

    // ---- memory ----

    /// A stack of zeros.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn zeros(&self, shape: [usize; 3]) -> Result<Self::Tensor, BackendError>;
    /// A stack with these values, row-major.
    ///
    /// # Errors
    /// When the number of values is not `count·rows·cols`, or the device is out of memory.
    fn upload(&self, shape: [usize; 3], values: &[Self::Scalar]) -> Result<Self::Tensor, BackendError>;
    /// Overwrites the first `values.len()` values of `dst`.
    ///
    /// # Errors
    /// When there are more values than places.
    fn write(&self, dst: &mut Self::Tensor, values: &[Self::Scalar]) -> Result<(), BackendError>;
    /// The values, row-major, once everything queued before has run.
    fn read(&self, src: &Self::Tensor) -> impl Future<Output = Result<Vec<Self::Scalar>, BackendError>>;
    /// Asks for the values as they are at this point of the stream, without waiting for them.
    ///
    /// # Errors
    /// When the device failed.
    fn read_later(&self, src: &Self::Tensor) -> Result<Self::Ticket, BackendError>;
    /// The values asked for, once they have arrived; only the first such answer holds them.
    ///
    /// # Errors
    /// When the device failed.
    fn try_read(&self, ticket: &mut Self::Ticket) -> Result<Option<Vec<Self::Scalar>>, BackendError>;
    /// Puts frozen weights into device memory as they are stored.
    ///
    /// # Errors
    /// When the number of values is not `rows·cols`, or the device is out of memory.
    fn upload_weights(&self, rows: usize, cols: usize, values: Stored<'_>) -> Result<Self::Weights, BackendError>;
    /// Room for `capacity` labels.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn labels(&self, capacity: usize) -> Result<Self::Labels, BackendError>;
    /// Overwrites the first labels.
    ///
    /// # Errors
    /// When there are more labels than places.
    fn write_labels(&self, dst: &mut Self::Labels, labels: &[u32]) -> Result<(), BackendError>;
    /// Puts the subspaces of a stack of layers into device memory.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn upload_subspaces(&self, subspaces: &[&Subspace<Self::Scalar>]) -> Result<Self::Subspaces, BackendError>;
    /// Gives memory that was dropped and kept for others of its size back to the system; nothing where none is kept.
    fn trim(&self) {}
    /// Working memory for the geometry of a stack of this shape.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn scratch(&self, shape: [usize; 3]) -> Result<Self::Scratch, BackendError>;

    // ---- dense kernels ----

    /// `dst = scale·A·B (+ bias) (+ dst)`; A is m×k, B is k×n, either may be a transpose.
    fn matmul(
        &self,
        dst: ViewMut<'_, Self::Tensor>,
        a: View<'_, Self::Tensor>,
        b: View<'_, Self::Tensor>,
        epilogue: Epilogue<'_, Self::Tensor>,
    );
    /// [`Backend::matmul`] with frozen weights as B; `View::all(&weights).t()` is their transpose.
    fn matmul_weights(
        &self,
        dst: ViewMut<'_, Self::Tensor>,
        a: View<'_, Self::Tensor>,
        weights: View<'_, Self::Weights>,
        epilogue: Epilogue<'_, Self::Tensor>,
    );
    /// Row i of `dst` becomes row `ids[i]` of the table, or that is added to it. An id beyond the table gives zeros.
    fn gather(&self, dst: ViewMut<'_, Self::Tensor>, table: &Self::Weights, ids: &Self::Labels, accumulate: bool);
    /// `dst = src`.
    fn copy(&self, dst: ViewMut<'_, Self::Tensor>, src: View<'_, Self::Tensor>);
    /// Sets every value.
    fn fill(&self, dst: &mut Self::Tensor, value: f64);
    /// `dst = alpha·dst`, over the whole tensor.
    fn scale(&self, dst: &mut Self::Tensor, alpha: f64);
    /// `dst = alpha·dst + beta·src`, over whole tensors of one shape.
    fn scale_add(&self, dst: &mut Self::Tensor, alpha: f64, src: &Self::Tensor, beta: f64);
    /// Adds row `i mod period` of `table` (period×d) to row `i` of `dst`: position embeddings.
    fn add_rows(&self, dst: ViewMut<'_, Self::Tensor>, table: &Self::Tensor);
    /// `dst[index] = Σ a∘b` over two matrices of one shape.
    fn dot(&self, dst: &mut Self::Tensor, index: usize, a: View<'_, Self::Tensor>, b: View<'_, Self::Tensor>);
    /// Layer norm of each row: `y = γ∘(x − mean)/√(var + ε) + β`; `stats` (n×2) keeps mean and 1/√(var + ε).
    fn layer_norm(
        &self,
        y: ViewMut<'_, Self::Tensor>,
        stats: &mut Self::Tensor,
        x: View<'_, Self::Tensor>,
        gamma: &Self::Tensor,
        beta: &Self::Tensor,
        epsilon: f64,
    );
    /// Adds the input gradient of [`Backend::layer_norm`] to `dx`.
    fn layer_norm_backward(
        &self,
        dx: ViewMut<'_, Self::Tensor>,
        dy: View<'_, Self::Tensor>,
        x: View<'_, Self::Tensor>,
        stats: &Self::Tensor,
        gamma: &Self::Tensor,
    );
    /// RMS norm of each row: `y = γ∘x/√(mean(x²) + ε)`; `stats` (n×1) keeps the inverse root.
    fn rms_norm(
        &self,
        y: ViewMut<'_, Self::Tensor>,
        stats: &mut Self::Tensor,
        x: View<'_, Self::Tensor>,
        gamma: &Self::Tensor,
        epsilon: f64,
    );
    /// Adds the input gradient of [`Backend::rms_norm`] to `dx`.
    fn rms_norm_backward(
        &self,
        dx: ViewMut<'_, Self::Tensor>,
        dy: View<'_, Self::Tensor>,
        x: View<'_, Self::Tensor>,
        stats: &Self::Tensor,
        gamma: &Self::Tensor,
    );
    /// `y = f(x)`.
    fn activation(&self, kind: Activation, y: ViewMut<'_, Self::Tensor>, x: View<'_, Self::Tensor>);
    /// `dx = dx∘f'(x)`, in place.
    fn activation_backward(&self, kind: Activation, dx: ViewMut<'_, Self::Tensor>, x: View<'_, Self::Tensor>);
    /// `y = silu(gate)∘up`.
    fn swiglu(&self, y: ViewMut<'_, Self::Tensor>, gate: View<'_, Self::Tensor>, up: View<'_, Self::Tensor>);
    /// Gradients of [`Backend::swiglu`] into `[d_gate, d_up]`.
    fn swiglu_backward(
        &self,
        grads: [ViewMut<'_, Self::Tensor>; 2],
        dy: View<'_, Self::Tensor>,
        gate: View<'_, Self::Tensor>,
        up: View<'_, Self::Tensor>,
    );
    /// Rotary position embedding in place (Su et al. 2021), halves of a head paired as in Hugging Face's Llama; `table`
    /// (positions×dh) holds the cosines and then the sines of dh/2 angles.
    fn rope(&self, x: ViewMut<'_, Self::Tensor>, table: &Self::Tensor, shape: RopeShape);
    /// Multi-head attention `o = softmax(q·kᵀ/√dh)·v` per head; `probabilities` (\[batch·heads, tokens, keys\]) is kept
    /// for the backward pass. Keys from `lengths[sequence]` on are not seen; a query that sees nothing gives zeros.
    #[allow(clippy::too_many_arguments)] // the operands of the formula
    fn attention(
        &self,
        o: ViewMut<'_, Self::Tensor>,
        probabilities: &mut Self::Tensor,
        q: View<'_, Self::Tensor>,
        k: View<'_, Self::Tensor>,
        v: View<'_, Self::Tensor>,
        lengths: Option<&Self::Labels>,
        shape: AttentionShape,
    );
    /// Gradients of [`Backend::attention`] into `[dq, dk, dv]`; `scratch` has the shape of `probabilities`.
    #[allow(clippy::too_many_arguments)] // the operands of the formula
    fn attention_backward(
        &self,
        grads: [ViewMut<'_, Self::Tensor>; 3],
        d_o: View<'_, Self::Tensor>,
        probabilities: &Self::Tensor,
        scratch: &mut Self::Tensor,
        q: View<'_, Self::Tensor>,
        k: View<'_, Self::Tensor>,
        v: View<'_, Self::Tensor>,
        shape: AttentionShape,
    );
    /// Mean over the first `lengths[i]` rows, or all, of each run of `tokens`; zeros where that is none.
    fn mean_pool(
        &self,
        y: ViewMut<'_, Self::Tensor>,
        x: View<'_, Self::Tensor>,
        tokens: usize,
        lengths: Option<&Self::Labels>,
    );
    /// Gradient of [`Backend::mean_pool`]: every counted row of `dx` gets its run's `dy / count`, the others 0.
    fn mean_pool_backward(
        &self,
        dx: ViewMut<'_, Self::Tensor>,
        dy: View<'_, Self::Tensor>,
        tokens: usize,
        lengths: Option<&Self::Labels>,
    );
    /// `y = x/‖x‖` per row (zero rows stay zero); `norms` (n×1) keeps `‖x‖`.
    fn l2_normalize(&self, y: ViewMut<'_, Self::Tensor>, norms: &mut Self::Tensor, x: View<'_, Self::Tensor>);
    /// `dx = (dy − y·⟨y, dy⟩)/‖x‖` per row.
    fn l2_normalize_backward(
        &self,
        dx: ViewMut<'_, Self::Tensor>,
        dy: View<'_, Self::Tensor>,
        y: View<'_, Self::Tensor>,
        norms: &Self::Tensor,
    );
    /// Mean softmax cross-entropy of the rows of `logits` whose label is not [`IGNORED`] into `loss[index]`, its gradient
    /// into `d_logits`; both 0 where none counts.
    fn cross_entropy(
        &self,
        loss: &mut Self::Tensor,
        index: usize,
        d_logits: ViewMut<'_, Self::Tensor>,
        logits: View<'_, Self::Tensor>,
        labels: &Self::Labels,
    );

    // ---- optimiser and geometry, batched over a stack ----

    /// Replaces the gradient by the AdamW increment `Δ = −rate·m̂/(√v̂ + ε)` and updates the moments.
    fn adamw(&self, grad: &mut Self::Tensor, m: &mut Self::Tensor, v: &mut Self::Tensor, step: AdamWStep);
    /// The eigendecompositions `A = V·Λ·Vᵀ` of a stack of symmetric r×r matrices, of which only the lower triangles are
    /// read: `values` (\[count, r, 1\]) descending, and the columns of `vectors` (\[count, r, r\]) in that order.
    ///
    /// # Errors
    /// [`BackendError::NonFinite`] names a matrix that holds a NaN or an infinity; a device may tell at the next read.
    fn symmetric_eigen(
        &self,
        values: &mut Self::Tensor,
        vectors: &mut Self::Tensor,
        a: &Self::Tensor,
    ) -> Result<(), BackendError>;
    /// `X ← (I − M·Mᵀ)·X` for every matrix of the stack.
    fn project_off(&self, x: &mut Self::Tensor, subspaces: &Self::Subspaces, scratch: &mut Self::Scratch);
    /// Projects every `delta` to the tangent space of the Stiefel manifold at its `x`.
    fn project_tangent(&self, map: TangentMap, x: &Self::Tensor, delta: &mut Self::Tensor, scratch: &mut Self::Scratch);
    /// Puts every matrix of the stack back on the manifold.
    ///
    /// # Errors
    /// [`BackendError::Manifold`] names the matrix that can't be retracted.
    fn retract(
        &self,
        retraction: Retraction,
        y: &mut Self::Tensor,
        scratch: &mut Self::Scratch,
    ) -> Result<(), BackendError>;
    /// `dst = scale·op(A)·op(B) (+ dst)` for every matrix of the stacks.
    fn matmul_stack(
        &self,
        dst: &mut Self::Tensor,
        product: Product,
        factors: [&Self::Tensor; 2],
        scale: f64,
        accumulate: bool,
    );
    /// `x = sign(x)`, and 0 for 0.
    fn sign(&self, x: &mut Self::Tensor);
    /// Multiplies column j of every matrix by its `s[j]`; `s` is \[count, 1, cols\].
    fn scale_columns(&self, x: &mut Self::Tensor, s: &Self::Tensor);
    /// `dst[j] = Σ_i a[i][j]·b[i][j]` for every matrix; `dst` is \[count, 1, cols\].
    fn column_dots(&self, dst: &mut Self::Tensor, a: &Self::Tensor, b: &Self::Tensor);
    /// Adds the gradient of `weight·‖X‖_F` of every matrix, `weight·X/‖X‖_F`, or 0 for X = 0.
    fn norm_gradient(&self, grad: &mut Self::Tensor, x: &Self::Tensor, weight: f64);
    /// Adds the gradients of `Σ weight·|(U·Vᵀ)_ij|` over the entries to `[dU, dV]`, sign(0) being 0.
    fn entries_gradient(
        &self,
        grads: [&mut Self::Tensor; 2],
        u: &Self::Tensor,
        v: &Self::Tensor,
        entries: &mut Entries<Self>,
    ) where
        Self: Sized;
    /// Refuses a stack with a value that is not finite.
    ///
    /// A device that can't look without waiting may note the fault instead, skip every later update, and report it at
    /// the next [`Backend::read`].
    ///
    /// # Errors
    /// [`BackendError::NonFinite`] names the first such matrix.
    fn guard_finite(&self, stack: &Self::Tensor) -> Result<(), BackendError>;
}
