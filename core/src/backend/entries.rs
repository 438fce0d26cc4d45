//! Chosen entries of a stack of matrices that exists only as products `U·Vᵀ`.

use alloc::vec;
use alloc::vec::Vec;

use super::{Backend, BackendError};

/// Some entries of the products `U·Vᵀ` of a stack, in device memory, in the order of their rows and of their columns, so
/// that gradients of U and of V are sums over neighbours, in one order. Nothing of the size of the product is kept.
pub struct Entries<B: Backend> {
    /// `[count, out, in]` of the products.
    pub shape: [usize; 3],
    /// How many there are.
    pub len: usize,
    /// Of each entry, in the order of rows: item·out + row.
    pub rows: B::Labels,
    /// Of each entry, in the order of rows: item·in + column.
    pub cols: B::Labels,
    /// Of each row of the stack: its first entry, and behind the last row their number.
    pub row_starts: B::Labels,
    /// The entries in the order of columns, as indices into the order of rows.
    pub by_column: B::Labels,
    /// Of each column of the stack: its first place in `by_column`, and behind the last their number.
    pub column_starts: B::Labels,
    /// Weight of the entries of each matrix, \[count, 1, 1\].
    pub weights: B::Tensor,
    /// Working memory: the weighted sign of each entry.
    pub signs: B::Tensor,
}

impl<B: Backend> Entries<B> {
    /// Moves entries to the device: of each matrix of the stack its `(row, column)` pairs, sorted and each once, and the
    /// weight of its penalty.
    ///
    /// ```
    /// use eblora_core::backend::{Backend, Cpu, Entries};
    /// let cpu = Cpu::<f64>::new();
    /// let (u, v) = (cpu.upload([1, 2, 1], &[1.0, -3.0])?, cpu.upload([1, 2, 1], &[2.0, 5.0])?);
    /// let mut corner = Entries::upload(&cpu, [1, 2, 2], &[(&[(1, 0)], 0.5)])?; // of U·Vᵀ = [2 5; -6 -15] the -6
    /// let [mut du, mut dv] = [cpu.zeros([1, 2, 1])?, cpu.zeros([1, 2, 1])?];
    /// cpu.entries_gradient([&mut du, &mut dv], &u, &v, &mut corner);
    /// assert_eq!((du.values(), dv.values()), (&[0.0, -1.0][..], &[1.5, 0.0][..]));
    /// # Ok::<(), eblora_core::backend::BackendError>(())
    /// ```
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn upload(backend: &B, shape: [usize; 3], items: &[(&[(u32, u32)], f64)]) -> Result<Self, BackendError> {
        let [count, out, inp] = shape;
        assert!(items.len() == count, "entries of {} matrices, not {count}", items.len());
        let all = items.iter().enumerate().flat_map(|(item, (entries, _))| {
            entries.iter().map(move |&(i, j)| ((item * out) as u32 + i, (item * inp) as u32 + j))
        });
        let (rows, cols): (Vec<u32>, Vec<u32>) = all.unzip();
        let mut by_column: Vec<u32> = (0..rows.len() as u32).collect();
        by_column.sort_by_key(|&entry| (cols[entry as usize], rows[entry as usize]));
        let labels = |values: &[u32]| {
            let mut labels = backend.labels(values.len().max(1))?;
            if !values.is_empty() {
                backend.write_labels(&mut labels, values)?;
            }
            Ok::<_, BackendError>(labels)
        };
        let weights: Vec<_> = items.iter().map(|(_, weight)| crate::Real::of(*weight)).collect();
        Ok(Self {
            shape,
            len: rows.len(),
            row_starts: labels(&starts(&rows, count * out))?,
            column_starts: labels(&starts(&cols, count * inp))?,
            rows: labels(&rows)?,
            cols: labels(&cols)?,
            by_column: labels(&by_column)?,
            weights: backend.upload([count, 1, 1], &weights)?,
            signs: backend.zeros([1, rows.len().max(1), 1])?,
        })
    }
}

/// Of each line its first place among the sorted lines of all entries, and their number at the end.
fn starts(lines: &[u32], count: usize) -> Vec<u32> {
    let mut starts = vec![0; count + 1];
    for &line in lines {
        starts[line as usize + 1] += 1;
    }
    for line in 0..count {
        starts[line + 1] += starts[line];
    }
    starts
}
