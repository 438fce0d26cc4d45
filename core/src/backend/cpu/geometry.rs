//! The manifold kernels, batched: each matrix of a stack goes through the pure functions of [`crate::manifold`] and
//! [`crate::gpm`] with working memory of its own, so that a stack is shared between threads and nothing is allocated.

use alloc::vec::Vec;
use faer::{MatMut, MatRef};

use super::tensor::CpuTensor;
use super::threads::for_each_block2;
use crate::Real;
use crate::backend::BackendError;
use crate::gpm::Subspace;
use crate::manifold::{
    ManifoldError, Retraction, StiefelScratch, TangentMap, project_tangent as tangent, retract as back,
};

/// Working memory for a stack of n×r factors: one set per matrix.
pub struct CpuScratch<T> {
    items: Vec<Item<T>>,
}

struct Item<T> {
    stiefel: StiefelScratch<T>,
    /// M's coefficients of the factor, grown on first use.
    coefficients: Vec<T>,
    failed: Option<ManifoldError>,
}

impl<T: Real> CpuScratch<T> {
    pub(super) fn new([count, n, r]: [usize; 3]) -> Self {
        let item = |_| Item { stiefel: StiefelScratch::new(n, r), coefficients: Vec::new(), failed: None };
        Self { items: (0..count).map(item).collect() }
    }
}

/// Runs `f` on every matrix of the stack with its working memory.
fn each<T: Real>(
    x: &mut CpuTensor<T>,
    scratch: &mut CpuScratch<T>,
    f: impl Fn(usize, MatMut<'_, T>, &mut Item<T>) + Sync + Send,
) {
    let [count, n, r] = x.shape;
    assert!(scratch.items.len() == count, "scratch for {} matrices, not {count}", scratch.items.len());
    // Each matrix is worth a few products of n×r by r×r.
    let work = count * n * r * r * 8;
    for_each_block2((&mut x.data, n * r), (&mut scratch.items, 1), work, |i, x, item| {
        f(i, MatMut::from_row_major_slice_mut(x, n, r), &mut item[0]);
    });
}

/// `X ← (I − M·Mᵀ)·X` for every matrix.
pub fn project_off<T: Real>(x: &mut CpuTensor<T>, subspaces: &[Subspace<T>], scratch: &mut CpuScratch<T>) {
    each(x, scratch, |i, x, item| subspaces[i].project_off(x, &mut item.coefficients));
}

/// Projects every delta to the tangent space at its x.
pub fn project_tangent<T: Real>(
    map: TangentMap,
    x: &CpuTensor<T>,
    delta: &mut CpuTensor<T>,
    scratch: &mut CpuScratch<T>,
) {
    let [_, n, r] = x.shape;
    each(delta, scratch, |i, delta, item| {
        let x = MatRef::from_row_major_slice(&x.data[i * n * r..][..n * r], n, r);
        tangent(map, x, delta, &mut item.stiefel);
    });
}

/// Retracts every matrix; a matrix that can't be retracted stays as it was.
pub fn retract<T: Real>(
    retraction: Retraction,
    y: &mut CpuTensor<T>,
    scratch: &mut CpuScratch<T>,
) -> Result<(), BackendError> {
    each(y, scratch, |_, y, item| item.failed = back(retraction, y, &mut item.stiefel).err());
    let failed = scratch.items.iter_mut().enumerate().find_map(|(item, i)| Some((item, i.failed.take()?)));
    failed.map_or(Ok(()), |(item, source)| Err(BackendError::Manifold { item, source }))
}
