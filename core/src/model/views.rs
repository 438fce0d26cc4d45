//! Parts of buffers that were allocated for the largest batch.

use crate::backend::{Shaped, View, ViewMut};

/// The first `n` rows of a tensor.
pub(super) fn rows<X: Shaped>(tensor: &X, n: usize) -> View<'_, X> {
    View::all(tensor).top(n)
}

/// The first `n` rows of a tensor, to write to.
pub(super) fn rows_mut<X: Shaped>(tensor: &mut X, n: usize) -> ViewMut<'_, X> {
    ViewMut::all(tensor).top(n)
}

/// `tensor` as a packed rows×cols matrix, whatever larger matrix it was allocated for.
pub(crate) fn packed<X>(tensor: &X, rows: usize, cols: usize) -> View<'_, X> {
    View { tensor, offset: 0, rows, cols, stride: cols, transposed: false }
}

/// `tensor` as a packed rows×cols matrix to write to.
pub(crate) fn packed_mut<X>(tensor: &mut X, rows: usize, cols: usize) -> ViewMut<'_, X> {
    ViewMut { tensor, offset: 0, rows, cols, stride: cols }
}
