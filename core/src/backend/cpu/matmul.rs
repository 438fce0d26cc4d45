//! `dst = scale·A·B (+ bias) (+ dst)`: faer's matmul over tiles of the output.

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, MatMut, Par};

use super::tensor::{CpuTensor, row_major_mut};
use super::threads::{block_rows, for_each_tile};
use crate::Real;
use crate::backend::{Epilogue, Scale, View, ViewMut};

/// Scalar multiplications of one tile, at least: small enough to share.
const TILE_WORK: usize = 1_200_000;
/// Columns of a tile, at most: the part of B that they need is packed once and stays in the cache.
pub(super) const TILE_COLUMNS: usize = 192;
/// Rows of a tile, at least, where there are many tiles and where there are few: packing B again for each doesn't matter.
const TILE_ROWS: [usize; 2] = [256, 128];
/// Tiles that are many: enough for the threads to share.
const MANY_TILES: usize = 16;

/// Rows and columns of the tiles of an m×n product over k. It depends on nothing else, so that the threads change no bit.
fn tile_size(m: usize, n: usize, k: usize) -> (usize, usize) {
    let width = n.min(TILE_COLUMNS);
    let [high, low] = TILE_ROWS;
    let many = m.div_ceil(high) * n.div_ceil(TILE_COLUMNS) >= MANY_TILES;
    (block_rows(m, width * k, TILE_WORK, 16).max(if many { high } else { low }), width)
}

/// What an epilogue comes to, for products that come in parts.
pub(super) struct Ends<'a, T> {
    pub scale: T,
    /// The bias, where it is what the product is added to.
    before: Option<&'a [T]>,
    /// The bias, where it is added to what is there already.
    after: Option<&'a [T]>,
    /// Whether the product, or its first part, is added.
    pub accum: Accum,
}

impl<'a, T: Real> Ends<'a, T> {
    /// For `n` columns.
    pub fn of(epilogue: Epilogue<'a, CpuTensor<T>>, n: usize) -> Self {
        let Epilogue { scale, bias, accumulate } = epilogue;
        let scale = match scale {
            Scale::Value(x) => T::of(x),
            Scale::Item(tensor, i) => tensor.data[i],
        };
        let bias = bias.map(|t| &t.data[..n]);
        let accum = if accumulate || bias.is_some() { Accum::Add } else { Accum::Replace };
        Self { scale, before: bias.filter(|_| !accumulate), after: bias.filter(|_| accumulate), accum }
    }

    /// What comes before the product of a tile that begins at column `col`.
    pub fn begin(&self, tile: MatMut<'_, T>, col: usize) {
        if let Some(bias) = self.before {
            each_row(tile, |row| row.copy_from_slice(&bias[col..][..row.len()]));
        }
    }

    /// What comes after it.
    pub fn finish(&self, tile: MatMut<'_, T>, col: usize) {
        if let Some(bias) = self.after {
            each_row(tile, |row| row.iter_mut().zip(&bias[col..]).for_each(|(y, &b)| *y += b));
        }
    }
}

/// The kernel; shapes: dst m×n, a m×k, b k×n.
pub fn matmul<T: Real>(
    dst: ViewMut<'_, CpuTensor<T>>,
    a: View<'_, CpuTensor<T>>,
    b: View<'_, CpuTensor<T>>,
    epilogue: Epilogue<'_, CpuTensor<T>>,
) {
    let (m, n, k) = (dst.rows, dst.cols, a.cols);
    assert!(
        a.rows == m && b.rows == k && b.cols == n,
        "matmul: {}×{} by {}×{} into {m}×{n}",
        a.rows,
        a.cols,
        b.rows,
        b.cols
    );
    let ends = Ends::of(epilogue, n);
    let (a, b) = (a.matrix(), b.matrix());
    let (values, stride) = dst.into_rows();
    let out = row_major_mut(values, m, n, stride.max(n));
    for_each_tile(out, tile_size(m, n, k), m * n * k, &|row, col, mut tile: MatMut<'_, T>| {
        let (a, b) = (a.subrows(row, tile.nrows()), b.subcols(col, tile.ncols()));
        ends.begin(tile.as_mut(), col);
        faer_matmul(tile.as_mut(), ends.accum, a, b, ends.scale, Par::Seq);
        ends.finish(tile, col);
    });
}

/// Runs `f` over the rows of a tile of a row-major matrix.
fn each_row<T: Real>(tile: MatMut<'_, T>, f: impl Fn(&mut [T])) {
    for row in tile.row_iter_mut() {
        let row = row.try_as_row_major_mut().expect("the values of a row lie side by side in a row-major matrix");
        f(row.as_slice_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Cpu};
    use crate::random::Random;
    use alloc::vec::Vec;

    fn random(rng: &mut Random, rows: usize, cols: usize) -> CpuTensor<f32> {
        let data = (0..rows * cols).map(|_| rng.normal() as f32).collect();
        CpuTensor { shape: [1, rows, cols], data }
    }

    #[test]
    fn tiles_are_of_bounded_size() {
        assert_eq!(tile_size(512, 1536, 384), (256, 192));
        assert_eq!(tile_size(512, 384, 384), (128, 192));
        assert_eq!(tile_size(4096, 8, 384), (400, 8));
        assert_eq!(tile_size(1, 0, 0), (128, 0));
    }

    /// Whole tiles and parts of them, both ways, into the middle of a matrix whose other values must stay.
    #[test]
    fn every_tile_lands_in_its_place_with_its_bias() {
        for (m, n, k) in
            [(300, 400, 20), (257, 193, 3), (129, 7, 700), (1, 500, 40), (500, 1, 40), (3, 200, 0), (0, 200, 5)]
        {
            for accumulate in [false, true] {
                let rng = &mut Random::new(9, "tiles");
                let (a, b, bias) = (random(rng, m, k), random(rng, n, k), random(rng, 1, n));
                let (stride, offset) = (n + 5, 2 * (n + 5) + 3);
                let start = random(rng, m + 4, stride);
                let run = || {
                    let mut c = start.clone();
                    let dst = ViewMut { tensor: &mut c, offset, rows: m, cols: n, stride };
                    let epilogue = Epilogue { scale: Scale::Value(-0.5), bias: Some(&bias), accumulate };
                    Cpu::new().matmul(dst, View::all(&a), View::all(&b).t(), epilogue);
                    c.data
                };
                let got = run();
                for (at, (&got, &before)) in got.iter().zip(&start.data).enumerate() {
                    let place =
                        at.checked_sub(offset).map(|at| (at / stride, at % stride)).filter(|&(i, j)| i < m && j < n);
                    let Some((i, j)) = place else {
                        assert!(got == before, "{m}×{n}: value {at} is not ours");
                        continue;
                    };
                    let products = (0..k).map(|l| f64::from(a.data[i * k + l]) * f64::from(b.data[j * k + l]));
                    let products: Vec<f64> = products.collect();
                    let start = if accumulate { f64::from(before) } else { 0.0 };
                    let wanted = start + f64::from(bias.data[j]) - 0.5 * products.iter().sum::<f64>();
                    let size =
                        start.abs() + f64::from(bias.data[j]).abs() + products.iter().map(|p| p.abs()).sum::<f64>();
                    let bound = (k + 3) as f64 * f64::from(f32::EPSILON) * size;
                    assert!((f64::from(got) - wanted).abs() <= bound, "{m}×{n} over {k}, at {i}, {j}: {got}, {wanted}");
                }
                #[cfg(feature = "std")]
                assert_eq!(got, rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap().install(run));
            }
        }
    }
}
