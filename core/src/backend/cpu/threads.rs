//! Work sharing: outputs are cut into blocks whose borders depend on the shapes alone, so one thread and many compute
//! the same bits. Blocks run on the rayon pool that the caller installed (feature `std`), or one after the other.

/// Below this many scalar operations a kernel is not worth waking another thread.
#[cfg(feature = "std")]
const WORTH_SHARING: usize = 60_000;

/// Rows per block so that a block is about `target` scalar operations, a multiple of `multiple`, at most `rows`.
pub fn block_rows(rows: usize, work_per_row: usize, target: usize, multiple: usize) -> usize {
    let wanted = target.div_ceil(work_per_row.max(1));
    wanted.next_multiple_of(multiple).clamp(1, rows.max(1))
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
    fn block_rows_is_bounded() {
        assert_eq!(block_rows(512, 1000, 64_000, 16), 64);
        assert_eq!(block_rows(5, 1, 64_000, 16), 5);
        assert_eq!(block_rows(0, 0, 64_000, 16), 1);
    }
}
