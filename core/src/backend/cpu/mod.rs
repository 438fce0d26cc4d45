//! The CPU: the reference implementation of [`Backend`], one file per kernel.
//!
//! Products go through faer, elementwise loops are compiled for the widest vector unit at run time, and with the
//! feature `std` large kernels share their rows between the threads of the current rayon pool. Block borders depend on
//! shapes alone and every reduction has a fixed order: one thread and many give the same bits.

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod elementwise;
mod entries_gradient;
mod geometry;
mod l2_normalize;
mod layer_norm;
mod matmul;
mod pool;
mod rms_norm;
mod rope;
mod simd;
mod stacks;
mod swiglu;
mod symmetric_eigen;
mod tensor;
mod threads;
mod weights;

pub use geometry::CpuScratch;
pub use tensor::CpuTensor;
#[cfg(feature = "std")]
pub use threads::keep_awake;
pub use weights::CpuWeights;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::marker::PhantomData;

use super::{
    Activation, AdamWStep, AttentionShape, Backend, BackendError, Entries, Epilogue, Product, RopeShape, Shaped,
    Stored, View, ViewMut,
};
use crate::Real;
use crate::gpm::Subspace;
use crate::manifold::{Retraction, TangentMap};

/// The CPU backend over `f32` (training) or `f64` (references and checks).
///
/// ```
/// use eblora_core::backend::{Backend, Cpu, Epilogue, View, ViewMut};
/// let cpu = Cpu::<f32>::new();
/// let a = cpu.upload([1, 2, 2], &[1.0, 2.0, 3.0, 4.0])?;
/// let mut y = cpu.zeros([1, 2, 2])?;
/// cpu.matmul(ViewMut::all(&mut y), View::all(&a), View::all(&a).t(), Epilogue::default());
/// assert_eq!(y.values(), [5.0, 11.0, 11.0, 25.0]);
/// # Ok::<(), eblora_core::backend::BackendError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu<T> {
    scalar: PhantomData<T>,
}

impl<T: Real> Cpu<T> {
    /// The backend. Threads are the current rayon pool's.
    pub fn new() -> Self {
        Self { scalar: PhantomData }
    }
}

type Dst<'a, T> = ViewMut<'a, CpuTensor<T>>;
type Src<'a, T> = View<'a, CpuTensor<T>>;

impl<T: Real> Backend for Cpu<T> {
    type Scalar = T;
    type Tensor = CpuTensor<T>;
    type Labels = Vec<u32>;
    type Subspaces = Vec<Subspace<T>>;
    type Scratch = CpuScratch<T>;
    type Weights = CpuWeights<T>;
    /// The values, until they are taken.
    type Ticket = Option<Vec<T>>;

    fn name(&self) -> String {
        String::from("cpu")
    }

    fn zeros(&self, shape: [usize; 3]) -> Result<CpuTensor<T>, BackendError> {
        CpuTensor::zeros(shape)
    }

    fn upload(&self, shape: [usize; 3], values: &[T]) -> Result<CpuTensor<T>, BackendError> {
        let expected = shape.iter().product();
        if values.len() != expected {
            return Err(BackendError::Size { op: "upload", expected, got: values.len() });
        }
        Ok(CpuTensor { shape, data: values.to_vec() })
    }

    fn write(&self, dst: &mut CpuTensor<T>, values: &[T]) -> Result<(), BackendError> {
        let (expected, got) = (dst.data.len(), values.len());
        let place = dst.data.get_mut(..got).ok_or(BackendError::Size { op: "write", expected, got })?;
        place.copy_from_slice(values);
        Ok(())
    }

    async fn read(&self, src: &CpuTensor<T>) -> Result<Vec<T>, BackendError> {
        Ok(src.data.clone())
    }

    fn read_later(&self, src: &CpuTensor<T>) -> Result<Option<Vec<T>>, BackendError> {
        Ok(Some(src.data.clone()))
    }

    fn try_read(&self, ticket: &mut Option<Vec<T>>) -> Result<Option<Vec<T>>, BackendError> {
        Ok(ticket.take())
    }

    fn upload_weights(&self, rows: usize, cols: usize, values: Stored<'_>) -> Result<CpuWeights<T>, BackendError> {
        CpuWeights::new(rows, cols, values)
    }

    fn labels(&self, capacity: usize) -> Result<Vec<u32>, BackendError> {
        Ok(vec![0; capacity])
    }

    fn write_labels(&self, dst: &mut Vec<u32>, labels: &[u32]) -> Result<(), BackendError> {
        let (expected, got) = (dst.len(), labels.len());
        let place = dst.get_mut(..got).ok_or(BackendError::Size { op: "write_labels", expected, got })?;
        place.copy_from_slice(labels);
        Ok(())
    }

    fn upload_subspaces(&self, subspaces: &[&Subspace<T>]) -> Result<Vec<Subspace<T>>, BackendError> {
        Ok(subspaces.iter().map(|&m| m.clone()).collect())
    }

    fn scratch(&self, shape: [usize; 3]) -> Result<CpuScratch<T>, BackendError> {
        Ok(CpuScratch::new(shape))
    }

    fn matmul(&self, dst: Dst<'_, T>, a: Src<'_, T>, b: Src<'_, T>, epilogue: Epilogue<'_, CpuTensor<T>>) {
        matmul::matmul(dst, a, b, epilogue);
    }

    fn matmul_weights(
        &self,
        dst: Dst<'_, T>,
        a: Src<'_, T>,
        weights: View<'_, CpuWeights<T>>,
        epilogue: Epilogue<'_, CpuTensor<T>>,
    ) {
        weights::matmul_weights(dst, a, weights, epilogue);
    }

    fn gather(&self, dst: Dst<'_, T>, table: &CpuWeights<T>, ids: &Vec<u32>, accumulate: bool) {
        weights::gather(dst, table, ids, accumulate);
    }

    fn copy(&self, dst: Dst<'_, T>, src: Src<'_, T>) {
        elementwise::copy(dst, src);
    }

    fn fill(&self, dst: &mut CpuTensor<T>, value: f64) {
        dst.data.fill(T::of(value));
    }

    fn scale(&self, dst: &mut CpuTensor<T>, alpha: f64) {
        elementwise::scale(dst, alpha);
    }

    fn scale_add(&self, dst: &mut CpuTensor<T>, alpha: f64, src: &CpuTensor<T>, beta: f64) {
        elementwise::scale_add(dst, alpha, src, beta);
    }

    fn add_rows(&self, dst: Dst<'_, T>, table: &CpuTensor<T>) {
        elementwise::add_rows(dst, table);
    }

    fn dot(&self, dst: &mut CpuTensor<T>, index: usize, a: Src<'_, T>, b: Src<'_, T>) {
        elementwise::dot(dst, index, a, b);
    }

    fn layer_norm(
        &self,
        y: Dst<'_, T>,
        stats: &mut CpuTensor<T>,
        x: Src<'_, T>,
        gamma: &CpuTensor<T>,
        beta: &CpuTensor<T>,
        epsilon: f64,
    ) {
        layer_norm::layer_norm(y, stats, x, gamma, beta, epsilon);
    }

    fn layer_norm_backward(
        &self,
        dx: Dst<'_, T>,
        dy: Src<'_, T>,
        x: Src<'_, T>,
        stats: &CpuTensor<T>,
        gamma: &CpuTensor<T>,
    ) {
        layer_norm::layer_norm_backward(dx, dy, x, stats, gamma);
    }

    fn rms_norm(&self, y: Dst<'_, T>, stats: &mut CpuTensor<T>, x: Src<'_, T>, gamma: &CpuTensor<T>, epsilon: f64) {
        rms_norm::rms_norm(y, stats, x, gamma, epsilon);
    }

    fn rms_norm_backward(
        &self,
        dx: Dst<'_, T>,
        dy: Src<'_, T>,
        x: Src<'_, T>,
        stats: &CpuTensor<T>,
        gamma: &CpuTensor<T>,
    ) {
        rms_norm::rms_norm_backward(dx, dy, x, stats, gamma);
    }

    fn activation(&self, kind: Activation, y: Dst<'_, T>, x: Src<'_, T>) {
        activation::activation(kind, y, x);
    }

    fn activation_backward(&self, kind: Activation, dx: Dst<'_, T>, x: Src<'_, T>) {
        activation::activation_backward(kind, dx, x);
    }

    fn swiglu(&self, y: Dst<'_, T>, gate: Src<'_, T>, up: Src<'_, T>) {
        swiglu::swiglu(y, gate, up);
    }

    fn swiglu_backward(&self, grads: [Dst<'_, T>; 2], dy: Src<'_, T>, gate: Src<'_, T>, up: Src<'_, T>) {
        swiglu::swiglu_backward(grads, dy, gate, up);
    }

    fn rope(&self, x: Dst<'_, T>, table: &CpuTensor<T>, shape: RopeShape) {
        rope::rope(x, table, shape);
    }

    fn attention(
        &self,
        o: Dst<'_, T>,
        probabilities: &mut CpuTensor<T>,
        q: Src<'_, T>,
        k: Src<'_, T>,
        v: Src<'_, T>,
        lengths: Option<&Vec<u32>>,
        shape: AttentionShape,
    ) {
        attention::attention(o, probabilities, q, k, v, lengths.map(Vec::as_slice), shape);
    }

    fn attention_backward(
        &self,
        grads: [Dst<'_, T>; 3],
        d_o: Src<'_, T>,
        probabilities: &CpuTensor<T>,
        scratch: &mut CpuTensor<T>,
        q: Src<'_, T>,
        k: Src<'_, T>,
        v: Src<'_, T>,
        shape: AttentionShape,
    ) {
        attention::attention_backward(grads, d_o, probabilities, scratch, q, k, v, shape);
    }

    fn mean_pool(&self, y: Dst<'_, T>, x: Src<'_, T>, tokens: usize, lengths: Option<&Vec<u32>>) {
        pool::mean_pool(y, x, tokens, lengths.map(Vec::as_slice));
    }

    fn mean_pool_backward(&self, dx: Dst<'_, T>, dy: Src<'_, T>, tokens: usize, lengths: Option<&Vec<u32>>) {
        pool::mean_pool_backward(dx, dy, tokens, lengths.map(Vec::as_slice));
    }

    fn l2_normalize(&self, y: Dst<'_, T>, norms: &mut CpuTensor<T>, x: Src<'_, T>) {
        l2_normalize::l2_normalize(y, norms, x);
    }

    fn l2_normalize_backward(&self, dx: Dst<'_, T>, dy: Src<'_, T>, y: Src<'_, T>, norms: &CpuTensor<T>) {
        l2_normalize::l2_normalize_backward(dx, dy, y, norms);
    }

    fn cross_entropy(
        &self,
        loss: &mut CpuTensor<T>,
        index: usize,
        d_logits: Dst<'_, T>,
        logits: Src<'_, T>,
        labels: &Vec<u32>,
    ) {
        cross_entropy::cross_entropy(loss, index, d_logits, logits, labels);
    }

    fn adamw(&self, grad: &mut CpuTensor<T>, m: &mut CpuTensor<T>, v: &mut CpuTensor<T>, step: AdamWStep) {
        adamw::adamw(grad, m, v, step);
    }

    fn symmetric_eigen(
        &self,
        values: &mut CpuTensor<T>,
        vectors: &mut CpuTensor<T>,
        a: &CpuTensor<T>,
    ) -> Result<(), BackendError> {
        symmetric_eigen::symmetric_eigen(values, vectors, a)
    }

    fn project_off(&self, x: &mut CpuTensor<T>, subspaces: &Vec<Subspace<T>>, scratch: &mut CpuScratch<T>) {
        geometry::project_off(x, subspaces, scratch);
    }

    fn project_tangent(
        &self,
        map: TangentMap,
        x: &CpuTensor<T>,
        delta: &mut CpuTensor<T>,
        scratch: &mut CpuScratch<T>,
    ) {
        geometry::project_tangent(map, x, delta, scratch);
    }

    fn retract(
        &self,
        retraction: Retraction,
        y: &mut CpuTensor<T>,
        scratch: &mut CpuScratch<T>,
    ) -> Result<(), BackendError> {
        geometry::retract(retraction, y, scratch)
    }

    fn matmul_stack(
        &self,
        dst: &mut CpuTensor<T>,
        product: Product,
        factors: [&CpuTensor<T>; 2],
        scale: f64,
        accumulate: bool,
    ) {
        stacks::matmul_stack(dst, product, factors, scale, accumulate);
    }

    fn sign(&self, x: &mut CpuTensor<T>) {
        stacks::sign(x);
    }

    fn scale_columns(&self, x: &mut CpuTensor<T>, s: &CpuTensor<T>) {
        stacks::scale_columns(x, s);
    }

    fn column_dots(&self, dst: &mut CpuTensor<T>, a: &CpuTensor<T>, b: &CpuTensor<T>) {
        stacks::column_dots(dst, a, b);
    }

    fn norm_gradient(&self, grad: &mut CpuTensor<T>, x: &CpuTensor<T>, weight: f64) {
        stacks::norm_gradient(grad, x, weight);
    }

    fn entries_gradient(
        &self,
        grads: [&mut CpuTensor<T>; 2],
        u: &CpuTensor<T>,
        v: &CpuTensor<T>,
        entries: &mut Entries<Self>,
    ) {
        entries_gradient::entries_gradient(grads, u, v, entries);
    }

    fn guard_finite(&self, stack: &CpuTensor<T>) -> Result<(), BackendError> {
        let [_, rows, cols] = stack.shape();
        elementwise::first_non_finite(&stack.data)
            .map_or(Ok(()), |at| Err(BackendError::NonFinite { item: at / (rows * cols) }))
    }
}
