//! The manifold kernels, batched: each matrix of a stack goes through the pure functions of [`crate::manifold`] and
//! [`crate::gpm`] with working memory that it shares with its neighbours, so that threads share a stack and nothing is allocated.

use alloc::vec::Vec;
use faer::{MatMut, MatRef};

use super::tensor::CpuTensor;
use super::threads::{for_each_block2, shares};
use crate::Real;
use crate::backend::BackendError;
use crate::gpm::Subspace;
use crate::manifold::{
    ManifoldError, Retraction, StiefelScratch, TangentMap, project_tangent as tangent, retract as back,
};

/// Working memory for a stack of n×r factors: one set for each run of matrices that a thread takes.
pub struct CpuScratch<T> {
    shape: [usize; 3],
    items: Vec<Item<T>>,
}

struct Item<T> {
    stiefel: StiefelScratch<T>,
    /// M's coefficients of the factor, grown on first use.
    coefficients: Vec<T>,
    /// The first of its matrices that failed.
    failed: Option<(usize, ManifoldError)>,
}

impl<T: Real> CpuScratch<T> {
    pub(super) fn new([count, n, r]: [usize; 3]) -> Self {
        let item = |_| Item { stiefel: StiefelScratch::new(n, r), coefficients: Vec::new(), failed: None };
        Self { shape: [count, n, r], items: (0..shares(count)).map(item).collect() }
    }
}

/// Runs `f` on every matrix of the stack with its working memory.
fn each<T: Real>(
    x: &mut CpuTensor<T>,
    scratch: &mut CpuScratch<T>,
    f: impl Fn(usize, MatMut<'_, T>, &mut Item<T>) + Sync + Send,
) {
    let [count, n, r] = x.shape;
    assert!(scratch.shape == x.shape, "scratch for {:?}, not {:?}", scratch.shape, x.shape);
    if x.data.is_empty() {
        return;
    }
    // Each matrix is worth a few products of n×r by r×r.
    let (work, run) = (count * n * r * r * 8, count.div_ceil(scratch.items.len()));
    for_each_block2((&mut x.data, run * n * r), (&mut scratch.items, 1), work, |i, run_of_x, item| {
        for (j, x) in run_of_x.chunks_mut(n * r).enumerate() {
            f(i * run + j, MatMut::from_row_major_slice_mut(x, n, r), &mut item[0]);
        }
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
    each(y, scratch, |i, y, item| {
        if let Err(source) = back(retraction, y, &mut item.stiefel) {
            item.failed.get_or_insert((i, source));
        }
    });
    // All are cleared, and the first is told.
    let failed = scratch.items.iter_mut().fold(None, |first, item| first.or(item.failed.take()));
    failed.map_or(Ok(()), |(item, source)| Err(BackendError::Manifold { item, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_matrices_the_first_that_fails_is_told_and_the_others_are_done() {
        let shape = [100, 3, 1];
        let (mut y, mut scratch) = (CpuTensor { shape, data: alloc::vec![2.0_f32; 300] }, CpuScratch::new(shape));
        for item in [70, 33, 34] {
            y.data[3 * item..3 * (item + 1)].fill(0.0);
        }
        let failed = retract(Retraction::Whitening, &mut y, &mut scratch);
        assert!(matches!(failed, Err(BackendError::Manifold { item: 33, .. })), "{failed:?}");
        for (item, matrix) in y.data.chunks(3).enumerate() {
            let expected = if [33, 34, 70].contains(&item) { 0.0 } else { 3.0_f32.sqrt().recip() };
            assert!(matrix.iter().all(|x| (x - expected).abs() < 1e-6), "{item}: {matrix:?}");
        }
        y.data.fill(1.0);
        retract(Retraction::Whitening, &mut y, &mut scratch).unwrap(); // the failure is forgotten
    }

    #[test]
    fn nothing_is_done_with_nothing() {
        for shape in [[0, 3, 1], [4, 3, 0]] {
            let (mut y, mut scratch) = (CpuTensor { shape, data: Vec::<f64>::new() }, CpuScratch::new(shape));
            retract(Retraction::Whitening, &mut y, &mut scratch).unwrap();
        }
    }
}
