//! [`Gpu`]: the [`Backend`] over a device, each method one launcher of [`crate::kernels`].

use std::rc::Rc;

use eblora_core::backend::{
    Activation, AdamWStep, AttentionShape, Backend, BackendError, Entries, Epilogue, Product, RopeShape, Scale, Shaped,
    Stored, View, ViewMut,
};
use eblora_core::gpm::Subspace;
use eblora_core::manifold::{Retraction, TangentMap};

use crate::adapter::{Restrict, Wanted, is_software, open};
use crate::device::{Counters, Device};
use crate::error::GpuError;
use crate::kernels::geometry::{self, GpuScratch, GpuSubspaces};
use crate::kernels::matmul::{Batch, Finish};
use crate::kernels::{
    activation, adamw, attention, cross_entropy, elementwise, entries_gradient, gather, l2_normalize, layer_norm,
    matmul, pool, rms_norm, rope, stacks, swiglu, symmetric_eigen,
};
use crate::read::Ticket;
use crate::shaders::all;
use crate::shaders::matmul::Format;
use crate::tensor::{GpuLabels, GpuTensor, GpuWeights};

/// A GPU as a backend.
///
/// Kernels are only recorded; they run, in one submission, when something is written to or read from the device. Faults
/// that kernels find, such as a gradient that is not finite, freeze every later update and are reported by the next
/// [`Backend::read`].
///
/// ```no_run
/// use eblora_core::backend::{Backend, Epilogue, View, ViewMut};
/// # pollster::block_on(async {
/// let gpu = eblora_gpu::Gpu::open(&eblora_gpu::Wanted::Best).await?;
/// let a = gpu.upload([1, 2, 2], &[1.0, 2.0, 3.0, 4.0])?;
/// let mut y = gpu.zeros([1, 2, 2])?;
/// gpu.matmul(ViewMut::all(&mut y), View::all(&a), View::all(&a).t(), Epilogue::default());
/// assert_eq!(gpu.read(&y).await?, [5.0, 11.0, 11.0, 25.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Gpu {
    device: Rc<Device>,
}

impl Gpu {
    /// A device of the wanted adapter.
    ///
    /// # Errors
    /// When there is no such adapter, it lacks what is needed, or its driver gives no device.
    pub async fn open(wanted: &Wanted) -> Result<Self, GpuError> {
        Self::open_restricted(wanted, Restrict::default()).await
    }

    /// As [`Gpu::open`], but doing without some of what the adapter has.
    ///
    /// ```no_run
    /// use eblora_gpu::{Gpu, Restrict, Wanted};
    /// # pollster::block_on(async {
    /// let half_a_gibibyte = Restrict { memory: Some(1 << 29), ..Restrict::default() };
    /// let gpu = Gpu::open_restricted(&Wanted::Best, half_a_gibibyte).await?;
    /// # Ok::<(), eblora_gpu::GpuError>(())
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_restricted(wanted: &Wanted, restrict: Restrict) -> Result<Self, GpuError> {
        Ok(Self { device: open(wanted, restrict).await? })
    }

    /// Has the driver compile every kernel, in all variants that this device uses.
    ///
    /// # Errors
    /// [`GpuError::Kernel`] names the first that it refuses.
    pub async fn check_kernels(&self) -> Result<(), GpuError> {
        for kernel in all().filter(|k| self.device.subgroups() || !k.subgroups) {
            self.device.try_compile(kernel).await?;
        }
        Ok(())
    }

    /// Whether kernels use subgroups.
    pub fn uses_subgroups(&self) -> bool {
        self.device.subgroups()
    }

    /// Whether the adapter computes on the CPU.
    pub fn is_software(&self) -> bool {
        is_software(self.device.info())
    }

    /// What the driver says of the adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        self.device.info()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.device.counters()
    }

    /// Resolves with the message once the device is lost; never, if it is not.
    pub async fn lost(&self) -> String {
        match self.device.lost().await {
            Ok(message) => message,
            Err(_) => core::future::pending().await,
        }
    }

    /// Submits what is queued, and returns what resolves once it has run: for front ends with an event loop, which must not
    /// queue more than the device keeps up with. (Without one, use [`Gpu::wait`].)
    pub fn submitted(&self) -> impl Future<Output = ()> + use<> {
        let done = self.device.done();
        async {
            // A device that is gone has nothing left to do.
            let _ = done.await;
        }
    }

    /// Waits until everything queued has run.
    ///
    /// # Errors
    /// When the device fails, or a kernel found a fault.
    pub async fn wait(&self) -> Result<(), BackendError> {
        let one = GpuTensor::new(&self.device, [1, 1, 1])?;
        Ticket::new(&self.device, &one)?.wait().await.map(drop)
    }

    /// Seconds that `work` takes on the device by its own clock, or `None` where it has none; waits for it.
    ///
    /// ```no_run
    /// use eblora_core::backend::Backend;
    /// # pollster::block_on(async {
    /// let gpu = eblora_gpu::Gpu::open(&eblora_gpu::Wanted::Best).await?;
    /// let mut x = gpu.zeros([1, 1000, 1000])?;
    /// if let Some(seconds) = gpu.time(|| gpu.fill(&mut x, 1.0)).await? {
    ///     println!("filled in {} µs", 1e6 * seconds);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # });
    /// ```
    ///
    /// # Errors
    /// When the device fails.
    pub async fn time(&self, work: impl FnOnce()) -> Result<Option<f64>, BackendError> {
        self.device.start_timer();
        work();
        self.device.stop_timer().await
    }

    /// Takes the device away, as a driver reset or an unplugged card would: for tests of what happens then.
    pub fn destroy(&self) {
        self.device.flush();
        self.device.raw().destroy();
    }
}

type Dst<'a> = ViewMut<'a, GpuTensor>;
type Src<'a> = View<'a, GpuTensor>;

/// The epilogue in terms of the kernel.
fn finish<'a>(epilogue: Epilogue<'a, GpuTensor>) -> Finish<'a> {
    let (alpha, scales) = match epilogue.scale {
        Scale::Value(alpha) => (alpha, None),
        Scale::Item(tensor, item) => (1.0, Some((tensor, item, 0))),
    };
    let bias = epilogue.bias.map(|bias| (bias, 0));
    Finish { alpha, scales, accumulate: u32::from(epilogue.accumulate), bias }
}

/// The kind's number in `shaders/shared/activation.wgsl`.
fn kind(activation: Activation) -> u32 {
    match activation {
        Activation::Gelu => 0,
        Activation::GeluTanh => 1,
        Activation::Silu => 2,
    }
}

impl Backend for Gpu {
    type Scalar = f32;
    type Tensor = GpuTensor;
    type Labels = GpuLabels;
    type Subspaces = GpuSubspaces;
    type Scratch = GpuScratch;
    type Weights = GpuWeights;
    type Ticket = Ticket;

    fn name(&self) -> String {
        self.device.name().to_string()
    }

    fn zeros(&self, shape: [usize; 3]) -> Result<GpuTensor, BackendError> {
        let tensor = GpuTensor::new(&self.device, shape)?;
        for shard in &tensor.shards {
            self.device.clear(&shard.buffer);
        }
        Ok(tensor)
    }

    fn upload(&self, shape: [usize; 3], values: &[f32]) -> Result<GpuTensor, BackendError> {
        GpuTensor::upload(&self.device, shape, values)
    }

    fn write(&self, dst: &mut GpuTensor, values: &[f32]) -> Result<(), BackendError> {
        let (expected, got) = (dst.len(), values.len());
        if got > expected {
            return Err(BackendError::Size { op: "write", expected, got });
        }
        dst.write(&self.device, values);
        Ok(())
    }

    async fn read(&self, src: &GpuTensor) -> Result<Vec<f32>, BackendError> {
        Ticket::new(&self.device, src)?.wait().await
    }

    fn read_later(&self, src: &GpuTensor) -> Result<Ticket, BackendError> {
        Ticket::new(&self.device, src)
    }

    fn try_read(&self, ticket: &mut Ticket) -> Result<Option<Vec<f32>>, BackendError> {
        ticket.try_take()
    }

    fn upload_weights(&self, rows: usize, cols: usize, values: Stored<'_>) -> Result<GpuWeights, BackendError> {
        GpuWeights::upload(&self.device, rows, cols, values)
    }

    fn labels(&self, capacity: usize) -> Result<GpuLabels, BackendError> {
        GpuLabels::new(&self.device, capacity)
    }

    fn write_labels(&self, dst: &mut GpuLabels, labels: &[u32]) -> Result<(), BackendError> {
        let (expected, got) = (dst.capacity, labels.len());
        if got > expected {
            return Err(BackendError::Size { op: "write_labels", expected, got });
        }
        self.device.write(&dst.buffer, 0, bytemuck::cast_slice(labels));
        Ok(())
    }

    fn trim(&self) {
        self.device.trim();
    }

    fn upload_subspaces(&self, subspaces: &[&Subspace<f32>]) -> Result<GpuSubspaces, BackendError> {
        GpuSubspaces::upload(&self.device, subspaces)
    }

    fn scratch(&self, shape: [usize; 3]) -> Result<GpuScratch, BackendError> {
        GpuScratch::new(&self.device, shape)
    }

    fn matmul(&self, dst: Dst<'_>, a: Src<'_>, b: Src<'_>, epilogue: Epilogue<'_, GpuTensor>) {
        let factors = [Batch::view(a), Batch::view(b)];
        matmul::matmul(&self.device, Format::F32, Batch::target(&dst), factors, [1, 1], finish(epilogue));
    }

    fn matmul_weights(
        &self,
        dst: Dst<'_>,
        a: Src<'_>,
        weights: View<'_, GpuWeights>,
        epilogue: Epilogue<'_, GpuTensor>,
    ) {
        let factors = [Batch::view(a), Batch::weights(weights)];
        let format = weights.tensor.format;
        matmul::matmul(&self.device, format, Batch::target(&dst), factors, [1, 1], finish(epilogue));
    }

    fn gather(&self, dst: Dst<'_>, table: &GpuWeights, ids: &GpuLabels, accumulate: bool) {
        gather::gather(&self.device, dst, table, ids, accumulate);
    }

    fn copy(&self, dst: Dst<'_>, src: Src<'_>) {
        elementwise::copy(&self.device, dst, src);
    }

    fn fill(&self, dst: &mut GpuTensor, value: f64) {
        elementwise::fill(&self.device, dst, value);
    }

    fn scale(&self, dst: &mut GpuTensor, alpha: f64) {
        elementwise::scale(&self.device, dst, alpha);
    }

    fn scale_add(&self, dst: &mut GpuTensor, alpha: f64, src: &GpuTensor, beta: f64) {
        elementwise::scale_add(&self.device, dst, alpha, src, beta);
    }

    fn add_rows(&self, dst: Dst<'_>, table: &GpuTensor) {
        elementwise::add_rows(&self.device, dst, table);
    }

    fn dot(&self, dst: &mut GpuTensor, index: usize, a: Src<'_>, b: Src<'_>) {
        elementwise::dot(&self.device, dst, index, a, b);
    }

    fn layer_norm(
        &self,
        y: Dst<'_>,
        stats: &mut GpuTensor,
        x: Src<'_>,
        gamma: &GpuTensor,
        beta: &GpuTensor,
        epsilon: f64,
    ) {
        layer_norm::layer_norm(&self.device, y, stats, x, [gamma, beta], epsilon);
    }

    fn layer_norm_backward(&self, dx: Dst<'_>, dy: Src<'_>, x: Src<'_>, stats: &GpuTensor, gamma: &GpuTensor) {
        layer_norm::layer_norm_backward(&self.device, dx, dy, x, stats, gamma);
    }

    fn rms_norm(&self, y: Dst<'_>, stats: &mut GpuTensor, x: Src<'_>, gamma: &GpuTensor, epsilon: f64) {
        rms_norm::rms_norm(&self.device, y, stats, x, gamma, epsilon);
    }

    fn rms_norm_backward(&self, dx: Dst<'_>, dy: Src<'_>, x: Src<'_>, stats: &GpuTensor, gamma: &GpuTensor) {
        rms_norm::rms_norm_backward(&self.device, dx, dy, x, stats, gamma);
    }

    fn activation(&self, activation: Activation, y: Dst<'_>, x: Src<'_>) {
        activation::activation(&self.device, kind(activation), y, x);
    }

    fn activation_backward(&self, activation: Activation, dx: Dst<'_>, x: Src<'_>) {
        activation::activation_backward(&self.device, kind(activation), dx, x);
    }

    fn swiglu(&self, y: Dst<'_>, gate: Src<'_>, up: Src<'_>) {
        swiglu::swiglu(&self.device, y, gate, up);
    }

    fn swiglu_backward(&self, grads: [Dst<'_>; 2], dy: Src<'_>, gate: Src<'_>, up: Src<'_>) {
        swiglu::swiglu_backward(&self.device, grads, dy, gate, up);
    }

    fn rope(&self, x: Dst<'_>, table: &GpuTensor, shape: RopeShape) {
        rope::rope(&self.device, x, table, shape);
    }

    fn attention(
        &self,
        o: Dst<'_>,
        probabilities: &mut GpuTensor,
        q: Src<'_>,
        k: Src<'_>,
        v: Src<'_>,
        lengths: Option<&GpuLabels>,
        shape: AttentionShape,
    ) {
        attention::attention(&self.device, o, probabilities, [q, k, v], lengths, shape);
    }

    fn attention_backward(
        &self,
        grads: [Dst<'_>; 3],
        d_o: Src<'_>,
        probabilities: &GpuTensor,
        scratch: &mut GpuTensor,
        q: Src<'_>,
        k: Src<'_>,
        v: Src<'_>,
        shape: AttentionShape,
    ) {
        let kept = [probabilities, &*scratch];
        attention::attention_backward(&self.device, grads, d_o, kept, [q, k, v], shape);
    }

    fn mean_pool(&self, y: Dst<'_>, x: Src<'_>, tokens: usize, lengths: Option<&GpuLabels>) {
        pool::mean_pool(&self.device, y, x, tokens, lengths);
    }

    fn mean_pool_backward(&self, dx: Dst<'_>, dy: Src<'_>, tokens: usize, lengths: Option<&GpuLabels>) {
        pool::mean_pool_backward(&self.device, dx, dy, tokens, lengths);
    }

    fn l2_normalize(&self, y: Dst<'_>, norms: &mut GpuTensor, x: Src<'_>) {
        l2_normalize::l2_normalize(&self.device, y, norms, x);
    }

    fn l2_normalize_backward(&self, dx: Dst<'_>, dy: Src<'_>, y: Src<'_>, norms: &GpuTensor) {
        l2_normalize::l2_normalize_backward(&self.device, dx, dy, y, norms);
    }

    fn cross_entropy(
        &self,
        loss: &mut GpuTensor,
        index: usize,
        d_logits: Dst<'_>,
        logits: Src<'_>,
        labels: &GpuLabels,
    ) {
        cross_entropy::cross_entropy(&self.device, loss, index, d_logits, logits, labels);
    }

    fn adamw(&self, grad: &mut GpuTensor, m: &mut GpuTensor, v: &mut GpuTensor, step: AdamWStep) {
        adamw::adamw(&self.device, grad, m, v, step);
    }

    fn symmetric_eigen(
        &self,
        values: &mut GpuTensor,
        vectors: &mut GpuTensor,
        a: &GpuTensor,
    ) -> Result<(), BackendError> {
        let work = GpuTensor::new(&self.device, symmetric_eigen::work_shape(a.shape()))?;
        symmetric_eigen::symmetric_eigen(&self.device, values, [vectors, &work], a)
    }

    fn project_off(&self, x: &mut GpuTensor, subspaces: &GpuSubspaces, scratch: &mut GpuScratch) {
        geometry::project_off(x, subspaces, scratch);
    }

    fn project_tangent(&self, map: TangentMap, x: &GpuTensor, delta: &mut GpuTensor, scratch: &mut GpuScratch) {
        geometry::project_tangent(map, x, delta, scratch);
    }

    fn retract(&self, retraction: Retraction, y: &mut GpuTensor, scratch: &mut GpuScratch) -> Result<(), BackendError> {
        geometry::retract(retraction, y, scratch)
    }

    fn matmul_stack(
        &self,
        dst: &mut GpuTensor,
        product: Product,
        factors: [&GpuTensor; 2],
        scale: f64,
        accumulate: bool,
    ) {
        stacks::matmul_stack(&self.device, dst, product, factors, scale, accumulate);
    }

    fn sign(&self, x: &mut GpuTensor) {
        stacks::sign(&self.device, x);
    }

    fn scale_columns(&self, x: &mut GpuTensor, s: &GpuTensor) {
        stacks::scale_columns(&self.device, x, s);
    }

    fn column_dots(&self, dst: &mut GpuTensor, a: &GpuTensor, b: &GpuTensor) {
        stacks::column_dots(&self.device, dst, a, b);
    }

    fn norm_gradient(&self, grad: &mut GpuTensor, x: &GpuTensor, weight: f64) {
        stacks::norm_gradient(&self.device, grad, x, weight);
    }

    fn entries_gradient(&self, grads: [&mut GpuTensor; 2], u: &GpuTensor, v: &GpuTensor, entries: &mut Entries<Self>) {
        let [du, dv] = grads;
        entries_gradient::entries_gradient(&self.device, [du, dv], u, v, entries);
    }

    fn guard_finite(&self, stack: &GpuTensor) -> Result<(), BackendError> {
        self.device.check()?;
        elementwise::guard_finite(&self.device, stack);
        Ok(())
    }
}
