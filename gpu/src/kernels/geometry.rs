//! The manifold kernels, batched over a stack of n×r factors.

use std::rc::Rc;

use eblora_core::backend::{BackendError, Shaped};
use eblora_core::gpm::{Form, Subspace};
use eblora_core::manifold::{Retraction, TangentMap};

use super::matmul::{Batch, Finish, matmul};
use super::rows::value_groups;
use crate::device::Device;
use crate::shaders::matmul::Format;
use crate::shaders::{newton as newton_shader, retract as retract_shader, symmetrise};
use crate::tensor::GpuTensor;

/// The gradient subspaces of a stack of layers: their bases, padded with zero columns to one width, and per layer the
/// signs of `X ← β·X + σ·B·(BᵀX)`: (−1, 1) for M itself, (1, 0) for its complement.
#[derive(Debug)]
pub struct GpuSubspaces {
    bases: GpuTensor,
    signs: GpuTensor,
}

impl GpuSubspaces {
    /// Moves the subspaces to the device.
    pub fn upload(device: &Rc<Device>, subspaces: &[&Subspace<f32>]) -> Result<Self, BackendError> {
        let count = subspaces.len();
        let dim = subspaces.first().map_or(0, |m| m.dim());
        let width = subspaces.iter().map(|m| m.basis().ncols()).max().unwrap_or(0).max(1);
        let mut values = vec![0.0_f32; count * dim * width];
        let mut signs = Vec::with_capacity(2 * count);
        for (item, m) in values.chunks_exact_mut((dim * width).max(1)).zip(subspaces) {
            let basis = m.basis();
            for j in 0..basis.ncols() {
                for i in 0..dim {
                    item[i * width + j] = basis[(i, j)];
                }
            }
            signs.extend(if m.form() == Form::Direct { [-1.0, 1.0] } else { [1.0, 0.0] });
        }
        let bases = GpuTensor::upload(device, [count, dim, width], &values)?;
        Ok(Self { bases, signs: GpuTensor::upload(device, [count, 1, 2], &signs)? })
    }
}

/// Working memory for a stack of n×r factors.
#[derive(Debug)]
pub struct GpuScratch {
    device: Rc<Device>,
    shape: [usize; 3],
    /// \[count, r, r\]: `XᵀΔ`.
    gram: GpuTensor,
    /// \[count, r, r\]: eigenvectors.
    vectors: GpuTensor,
    /// \[count, k, r\]: coefficients on the bases of the subspaces, made on first use.
    coefficients: Option<GpuTensor>,
    /// \[count, n, r\]: a copy of Y where r is beyond [`MOST_RANK`].
    copy: Option<GpuTensor>,
}

/// Largest r of the one-launch retraction.
pub const MOST_RANK: usize = 64;

impl GpuScratch {
    /// Memory for a stack of this shape.
    pub fn new(device: &Rc<Device>, shape: [usize; 3]) -> Result<Self, BackendError> {
        let [count, _, r] = shape;
        let square = || GpuTensor::new(device, [count, r, r]);
        let copy = (r > MOST_RANK).then(|| GpuTensor::new(device, shape)).transpose()?;
        Ok(Self { device: Rc::clone(device), shape, gram: square()?, vectors: square()?, coefficients: None, copy })
    }
}

/// `X ← (I − M·Mᵀ)·X` for every matrix.
pub fn project_off(x: &GpuTensor, subspaces: &GpuSubspaces, scratch: &mut GpuScratch) {
    let ([count, n, r], [_, dim, k]) = (x.shape(), subspaces.bases.shape());
    assert!(n == dim && x.shape() == scratch.shape, "project_off: {:?} off subspaces of {dim}", x.shape());
    let device = Rc::clone(&scratch.device);
    if scratch.coefficients.as_ref().is_none_or(|c| c.shape() != [count, k, r]) {
        // Out of memory here shows up at the next read, as every fault of the device.
        scratch.coefficients = GpuTensor::new(&device, [count, k, r]).ok();
    }
    let Some(coefficients) = &scratch.coefficients else { return };
    let (bases, x) = (Batch::stack(&subspaces.bases, n, k), Batch::stack(x, n, r));
    let c = Batch::stack(coefficients, k, r);
    matmul(&device, Format::F32, c, [bases.t(), x], [1, count], Finish::default());
    let finish = Finish { scales: Some((&subspaces.signs, 0, 2)), accumulate: 2, ..Finish::default() };
    matmul(&device, Format::F32, x, [bases, c], [1, count], finish);
}

/// Projects every delta to the tangent space at its x.
pub fn project_tangent(map: TangentMap, x: &GpuTensor, delta: &GpuTensor, scratch: &GpuScratch) {
    let [count, n, r] = x.shape();
    assert!(delta.shape() == x.shape() && x.shape() == scratch.shape, "project_tangent: {:?}", x.shape());
    let device = &scratch.device;
    let (x, delta) = (Batch::stack(x, n, r), Batch::stack(delta, n, r));
    let c = Batch::stack(&scratch.gram, r, r);
    match map {
        TangentMap::Euclidean => {
            matmul(device, Format::F32, c, [x.t(), delta], [1, count], Finish::default());
            let len = count * r * r;
            let params = symmetrise::Params { len: len as u32, r: r as u32 };
            let buffers = symmetrise::Buffers { c: &scratch.gram.shards[0].buffer };
            symmetrise::launch(device, buffers, params, value_groups(len));
        }
        TangentMap::Canonical => matmul(device, Format::F32, c, [delta.t(), x], [1, count], Finish::default()),
    }
    let finish = Finish { alpha: -1.0, accumulate: 1, ..Finish::default() };
    matmul(device, Format::F32, delta, [x, c], [1, count], finish);
}

/// Puts every matrix back on the manifold; a fault is noted on the device.
pub fn retract(retraction: Retraction, y: &GpuTensor, scratch: &GpuScratch) -> Result<(), BackendError> {
    use retract_shader::{Buffers, Params, Way, launch};
    let [_, n, r] = y.shape();
    assert!(y.shape() == scratch.shape, "retract: {:?} with scratch for {:?}", y.shape(), scratch.shape);
    if r > n {
        let source = eblora_core::manifold::ManifoldError::Infeasible { dim: n, k: 0, rank: r };
        return Err(BackendError::Manifold { item: 0, source });
    }
    if r == 0 {
        return Ok(());
    }
    if r > MOST_RANK {
        newton(y, scratch);
        return Ok(());
    }
    // Whitening and polar are two ways to one point.
    let way = if retraction == Retraction::Qr { Way::Qr } else { Way::Whitening };
    for shard in &y.shards {
        let first = shard.first / (n * r);
        let params = Params { n: n as u32, r: r as u32, first: first as u32, vectors: (first * r * r) as u32 };
        let buffers =
            Buffers { y: &shard.buffer, vectors: &scratch.vectors.shards[0].buffer, fault: &scratch.device.fault };
        launch(&scratch.device, way, buffers, params, [(shard.len / (n * r)) as u32, 1, 1]);
    }
    Ok(())
}

/// Steps of Newton–Schulz: enough for a condition number of about 10³, far beyond what training meets.
const NEWTON_STEPS: u32 = 24;

/// The polar factor for r beyond [`MOST_RANK`], by products alone.
fn newton(y: &GpuTensor, scratch: &GpuScratch) {
    let ([count, n, r], device) = (y.shape(), &scratch.device);
    let Some(copy) = &scratch.copy else { return };
    let (y, copy, g) = (Batch::stack(y, n, r), Batch::stack(copy, n, r), Batch::stack(&scratch.gram, r, r));
    let product = |d, factors| matmul(device, Format::F32, d, factors, [1, count], Finish::default());
    let buffers = newton_shader::Buffers { g: &scratch.gram.shards[0].buffer, fault: &device.fault };
    let step = |step| {
        let params = newton_shader::Params { r: r as u32, step };
        newton_shader::launch(device, buffers, params, [count as u32, 1, 1]);
    };
    for pair in 0..NEWTON_STEPS / 2 {
        product(g, [y.t(), y]);
        step(u32::from(pair > 0));
        product(copy, [y, g]);
        product(g, [copy.t(), copy]);
        step(1);
        product(y, [copy, g]);
    }
    product(g, [y.t(), y]);
    step(2);
}
