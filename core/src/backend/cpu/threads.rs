//! Work sharing: outputs are cut into blocks whose borders depend on the shapes alone, so one thread and many compute
//! the same bits. Blocks run on the rayon pool that the caller installed (feature `std`), or one after the other.

use faer::MatMut;

/// Below this many scalar operations a kernel is not worth waking another thread.
#[cfg(feature = "std")]
const WORTH_SHARING: usize = 60_000;

/// Runs `f` on a thread of the current rayon pool with the others kept awake: kernels of a few microseconds are over
/// before a sleeping thread has woken up. The threads spin until `f` is done; what is computed stays the same.
///
/// ```
/// let sum = eblora_core::backend::cpu::keep_awake(|| (1..=4).sum::<i32>());
/// assert_eq!(sum, 10);
/// ```
#[cfg(feature = "std")]
pub fn keep_awake<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    use core::sync::atomic::{AtomicBool, Ordering};
    /// Ends the spinning when `f` returns or panics.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let Some(own) = rayon::current_thread_index().filter(|_| rayon::current_num_threads() > 1) else { return f() };
    let done = AtomicBool::new(false);
    rayon::in_place_scope(|scope| {
        scope.spawn_broadcast(|_, thread| {
            // The thread of `f` comes by when it waits for a block that another thread took: it must go back to that.
            while thread.index() != own && !done.load(Ordering::Acquire) {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    core::hint::spin_loop();
                }
            }
        });
        let _done = Done(&done);
        f()
    })
}

/// Rows per block so that a block is about `target` scalar operations, a multiple of `multiple`, at most `rows`.
pub fn block_rows(rows: usize, work_per_row: usize, target: usize, multiple: usize) -> usize {
    let wanted = target.div_ceil(work_per_row.max(1));
    wanted.next_multiple_of(multiple).clamp(1, rows.max(1))
}

/// Into how many runs `count` pieces of work are cut that need working memory: a few for each thread, so that all have as
/// much to do, and no more than there are pieces. It decides on no bit of the results.
pub fn shares(count: usize) -> usize {
    #[cfg(feature = "std")]
    let threads = rayon::current_num_threads();
    #[cfg(not(feature = "std"))]
    let threads = 1;
    count.min(4 * threads)
}

/// Runs `f(block index, block)` over `data` cut into blocks of `len`; `work` is the total of scalar operations.
pub fn for_each_block<T: Send>(data: &mut [T], len: usize, work: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    #[cfg(feature = "std")]
    if work >= WORTH_SHARING && data.len() > len && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        data.par_chunks_mut(len).enumerate().for_each(|(i, block)| f(i, block));
        return;
    }
    let _ = work;
    for (i, block) in data.chunks_mut(len.max(1)).enumerate() {
        f(i, block);
    }
}

/// The same over two outputs, cut into equally many blocks.
pub fn for_each_block2<T: Send, U: Send>(
    (a, a_len): (&mut [T], usize),
    (b, b_len): (&mut [U], usize),
    work: usize,
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    #[cfg(feature = "std")]
    if work >= WORTH_SHARING && a.len() > a_len && rayon::current_num_threads() > 1 {
        use rayon::prelude::*;
        a.par_chunks_mut(a_len).zip(b.par_chunks_mut(b_len)).enumerate().for_each(|(i, (a, b))| f(i, a, b));
        return;
    }
    let _ = work;
    for (i, (a, b)) in a.chunks_mut(a_len.max(1)).zip(b.chunks_mut(b_len.max(1))).enumerate() {
        f(i, a, b);
    }
}

/// Runs `f(first row, first column, tile)` over a matrix cut into tiles of these rows and columns; `work` is the total of
/// scalar operations.
pub fn for_each_tile<T: Send + Sync>(
    matrix: MatMut<'_, T>,
    (height, width): (usize, usize),
    work: usize,
    f: &(impl Fn(usize, usize, MatMut<'_, T>) + Sync + Send),
) {
    #[cfg(feature = "std")]
    let share = work >= WORTH_SHARING && rayon::current_num_threads() > 1;
    #[cfg(not(feature = "std"))]
    let share = false;
    let _ = work;
    tiles(matrix, (0, 0), (height.max(1), width.max(1)), share, f);
}

/// Halves the columns until one tile's are left, then the rows: what shares columns of B comes one after the other.
fn tiles<T: Send + Sync>(
    matrix: MatMut<'_, T>,
    (row, col): (usize, usize),
    (height, width): (usize, usize),
    share: bool,
    f: &(impl Fn(usize, usize, MatMut<'_, T>) + Sync + Send),
) {
    let (down, across) = (matrix.nrows().div_ceil(height), matrix.ncols().div_ceil(width));
    let size = (height, width);
    if across > 1 {
        let middle = across / 2 * width;
        let (left, right) = matrix.split_at_col_mut(middle);
        both(share, || tiles(left, (row, col), size, share, f), || tiles(right, (row, col + middle), size, share, f));
    } else if down > 1 {
        let middle = down / 2 * height;
        let (top, bottom) = matrix.split_at_row_mut(middle);
        both(share, || tiles(top, (row, col), size, share, f), || tiles(bottom, (row + middle, col), size, share, f));
    } else {
        f(row, col, matrix);
    }
}

/// Runs both, on two threads where they are to `share` the work.
fn both(share: bool, left: impl FnOnce() + Send, right: impl FnOnce() + Send) {
    #[cfg(feature = "std")]
    if share {
        rayon::join(left, right);
        return;
    }
    let _ = share;
    left();
    right();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_everything_once() {
        let mut data = alloc::vec![0_u32; 103];
        for_each_block(&mut data, 10, usize::MAX, |i, block| {
            for x in block {
                *x += 1 + i as u32;
            }
        });
        assert!(data.iter().enumerate().all(|(i, &x)| x == 1 + (i / 10) as u32));
    }

    #[test]
    fn tiles_cover_everything_once() {
        let sizes = [
            ((2, 10), (2, 3)),
            ((7, 3), (3, 3)),
            ((1, 1), (8, 8)),
            ((5, 0), (2, 4)),
            ((0, 5), (2, 4)),
            ((4, 17), (1, 1)),
        ];
        for ((rows, cols), (height, width)) in sizes {
            let mut m = faer::Mat::<f64>::zeros(rows, cols);
            for_each_tile(m.as_mut(), (height, width), usize::MAX, &|row, col, mut tile: MatMut<'_, f64>| {
                assert!(row.is_multiple_of(height) && col.is_multiple_of(width));
                assert!(tile.nrows() <= height && tile.ncols() <= width);
                let (height, width) = tile.shape();
                for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
                    tile[(i, j)] += (1 + 100 * (row + i) + col + j) as f64;
                }
            });
            assert!((0..rows).all(|i| (0..cols).all(|j| m[(i, j)] == (1 + 100 * i + j) as f64)));
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn threads_kept_awake_share_the_work_and_let_go_of_it() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        // Two in a row: the first ends its threads' waiting, or the second would never be served.
        for _ in 0..2 {
            pool.install(|| {
                keep_awake(|| {
                    for_each_block(&mut [0_u8; 64], 1, usize::MAX, |_, _| {
                        seen.lock().unwrap().insert(rayon::current_thread_index());
                        std::thread::sleep(core::time::Duration::from_millis(1));
                    });
                });
            });
        }
        assert_eq!(seen.lock().unwrap().len(), 3);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.install(|| keep_awake(|| -> usize { panic!("in the middle") }))
        }));
        assert!(caught.is_err());
        assert_eq!(pool.install(|| keep_awake(|| 7)), 7);
        assert_eq!(keep_awake(|| 8), 8); // outside of any pool
    }

    #[test]
    fn block_rows_is_bounded() {
        assert_eq!(block_rows(512, 1000, 64_000, 16), 64);
        assert_eq!(block_rows(5, 1, 64_000, 16), 5);
        assert_eq!(block_rows(0, 0, 64_000, 16), 1);
    }
}
