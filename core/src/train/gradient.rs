//! The gradient pass before a task: the mean loss gradient of every adapted weight over a sample of the data, exactly
//! or as a two-sided sketch that never forms it (design section 5).

use alloc::vec::Vec;

use crate::backend::{Backend, BackendError, Epilogue, Scale, View, ViewMut};
use crate::gpm::Gradient;
use crate::linalg::sketch::{SketchError, TwoSidedSketch, default_oversample};
use crate::model::views::{packed, packed_mut};
use crate::model::{Site, WeightGradients};

/// How a layer's gradient is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientKind {
    /// The out×in matrix itself.
    Exact,
    /// A two-sided sketch that recovers this many singular directions.
    Sketch {
        /// Directions wanted: more than the adapter's rank, since GPM takes as many as its threshold asks for.
        rank: usize,
    },
}

/// The gradient of one site while it is summed up.
enum Sum<B: Backend> {
    Exact(B::Tensor),
    Sketch { shape: usize, s_in: B::Tensor, s_out: B::Tensor },
}

/// What all layers of one shape have in common: the empty sketch with the test matrices, and those on the device.
struct SketchShape<B: Backend> {
    empty: TwoSidedSketch<B::Scalar>,
    omega: B::Tensor,
    psi: B::Tensor,
}

impl<B: Backend> SketchShape<B> {
    fn new(backend: &B, [out, inp]: [usize; 2], rank: usize, seed: u64) -> Result<Self, BackendError> {
        let empty = TwoSidedSketch::new(out, inp, rank, default_oversample(rank), seed);
        let (omega, psi) = (upload(backend, empty.omega())?, upload(backend, empty.psi())?);
        Ok(Self { empty, omega, psi })
    }

    fn extents(&self) -> [usize; 2] {
        [self.empty.outputs(), self.empty.inputs()]
    }
}

/// What is averaged over the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mean {
    /// The weight gradients, `dYᵀX` (out×in).
    Gradient,
    /// The inputs' covariances up to a factor, `XᵀX` (in×in). Padding, where a batch has it, counts as input.
    Inputs,
}

/// Sums up the weight gradients of all sites on the device, or their inputs' covariances.
pub struct GradientPass<B: Backend> {
    mean: Mean,
    shapes: Vec<SketchShape<B>>,
    sums: Vec<Sum<B>>,
    /// `dy·Ω` or `x·Ψ` of one batch.
    narrow: B::Tensor,
    weight: f64,
}

fn upload<B: Backend>(backend: &B, a: faer::MatRef<'_, B::Scalar>) -> Result<B::Tensor, BackendError> {
    let values: Vec<_> = (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)])).collect();
    backend.upload([1, a.nrows(), a.ncols()], &values)
}

impl<B: Backend> GradientPass<B> {
    /// Zero sums for these sites; `rows` is the most rows of activations that a batch has.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(backend: &B, sites: &[Site], kind: GradientKind, rows: usize, seed: u64) -> Result<Self, BackendError> {
        Self::of(backend, Mean::Gradient, sites, kind, rows, seed)
    }

    /// The same for another mean.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn of(
        backend: &B,
        mean: Mean,
        sites: &[Site],
        kind: GradientKind,
        rows: usize,
        seed: u64,
    ) -> Result<Self, BackendError> {
        let mut sums = Vec::with_capacity(sites.len());
        let mut shapes: Vec<SketchShape<B>> = Vec::new();
        for site in sites {
            let extents @ [out, inp] = [if mean == Mean::Inputs { site.inp } else { site.out }, site.inp];
            sums.push(match kind {
                GradientKind::Exact => Sum::Exact(backend.zeros([1, out, inp])?),
                GradientKind::Sketch { rank } => {
                    let known = shapes.iter().position(|shape| shape.extents() == extents);
                    let shape = known.unwrap_or(shapes.len());
                    if known.is_none() {
                        shapes.push(SketchShape::new(backend, extents, rank, seed)?);
                    }
                    let (p, q) = (shapes[shape].empty.p(), shapes[shape].empty.q());
                    Sum::Sketch { shape, s_in: backend.zeros([1, inp, p])?, s_out: backend.zeros([1, out, q])? }
                }
            });
        }
        let width = shapes.iter().map(|shape| shape.empty.p().max(shape.empty.q())).max().unwrap_or(0);
        Ok(Self { mean, shapes, sums, narrow: backend.zeros([1, rows, width])?, weight: 1.0 })
    }

    /// Weight of the following batches: their share of the sample.
    pub fn set_weight(&mut self, weight: f64) {
        self.weight = weight;
    }

    /// Reads the sums back.
    ///
    /// # Errors
    /// When the device fails, or a sketch's factorisation does.
    pub async fn finish(self, backend: &B) -> Result<Vec<Gradient<B::Scalar>>, GradientError> {
        let mut gradients = Vec::with_capacity(self.sums.len());
        for (site, sum) in self.sums.into_iter().enumerate() {
            gradients.push(match sum {
                Sum::Exact(g) => Gradient::Exact(read(backend, &g).await?),
                Sum::Sketch { shape, s_in, s_out } => {
                    let (s_in, s_out) = (read(backend, &s_in).await?, read(backend, &s_out).await?);
                    let empty = &self.shapes[shape].empty;
                    let recovered = empty.from_parts(s_in, s_out).and_then(|sketch| sketch.decompose(sketch.q()));
                    let (svd, total_energy) = recovered.map_err(|source| GradientError::Sketch { site, source })?;
                    Gradient::Factored { u: svd.u, s: svd.s, v: svd.v, total_energy }
                }
            });
        }
        Ok(gradients)
    }
}

async fn read<B: Backend>(backend: &B, tensor: &B::Tensor) -> Result<faer::Mat<B::Scalar>, BackendError> {
    use crate::backend::Shaped;
    let [_, rows, cols] = tensor.shape();
    let values = backend.read(tensor).await?;
    Ok(faer::MatRef::from_row_major_slice(&values, rows, cols).to_owned())
}

impl<B: Backend> WeightGradients<B> for GradientPass<B> {
    fn collect(&mut self, backend: &B, site: usize, dy: View<'_, B::Tensor>, x: View<'_, B::Tensor>) {
        let add = Epilogue::add(Scale::Value(self.weight));
        let dy = if self.mean == Mean::Inputs { x } else { dy };
        match &mut self.sums[site] {
            Sum::Exact(g) => backend.matmul(ViewMut::all(g), dy.t(), x, add),
            Sum::Sketch { shape, s_in, s_out } => {
                let SketchShape { empty, omega, psi } = &self.shapes[*shape];
                let (p, q, n) = (empty.p(), empty.q(), dy.rows);
                backend.matmul(packed_mut(&mut self.narrow, n, p), dy, View::all(omega), Epilogue::default());
                backend.matmul(ViewMut::all(s_in), x.t(), packed(&self.narrow, n, p), add);
                backend.matmul(packed_mut(&mut self.narrow, n, q), x, View::all(psi), Epilogue::default());
                backend.matmul(ViewMut::all(s_out), dy.t(), packed(&self.narrow, n, q), add);
            }
        }
    }
}

/// Why the gradients could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GradientError {
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A sketch could not be factorised.
    #[error("gradient of site {site}: {source}")]
    Sketch {
        /// The site.
        site: usize,
        /// Why.
        source: SketchError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    #[test]
    fn layers_of_one_shape_share_their_test_matrices() {
        let site = |out, inp| Site { name: "layer".into(), out, inp, depth: 0 };
        let sites = [site(30, 20), site(20, 30), site(30, 20), site(30, 20)];
        let kind = GradientKind::Sketch { rank: 2 };
        let shapes = |mean| GradientPass::of(&Cpu::<f32>::new(), mean, &sites, kind, 4, 0).unwrap().shapes.len();
        assert_eq!((shapes(Mean::Gradient), shapes(Mean::Inputs)), (2, 2));
    }
}
