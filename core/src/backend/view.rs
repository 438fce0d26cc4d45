//! Strided matrix views into tensors, so that kernels read and write parts of a buffer in place.

/// Anything with a three-dimensional shape `[count, rows, cols]`: a row-major stack of `count` matrices.
pub trait Shaped {
    /// `[count, rows, cols]`.
    fn shape(&self) -> [usize; 3];
}

/// Which product of two stacks [`Backend::matmul_stack`](super::Backend::matmul_stack) takes, matrix by matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// `A·B`.
    Plain,
    /// `Aᵀ·B`.
    LeftTransposed,
    /// `A·Bᵀ`.
    RightTransposed,
}

/// A read-only rows×cols matrix inside a tensor, row-major with a row stride, or its transpose.
#[derive(Debug)]
pub struct View<'a, X> {
    /// The tensor that holds the values.
    pub tensor: &'a X,
    /// Index of the first value.
    pub offset: usize,
    /// Rows, as seen after transposition.
    pub rows: usize,
    /// Columns, as seen after transposition.
    pub cols: usize,
    /// Distance between two stored rows.
    pub stride: usize,
    /// Whether the stored matrix is cols×rows and read as its transpose.
    pub transposed: bool,
}

// Not derived: a view is copied whatever its tensor type is.
impl<X> Clone for View<'_, X> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<X> Copy for View<'_, X> {}

impl<'a, X: Shaped> View<'a, X> {
    /// The whole stack as one (count·rows)×cols matrix.
    pub fn all(tensor: &'a X) -> Self {
        let [count, rows, cols] = tensor.shape();
        Self { tensor, offset: 0, rows: count * rows, cols, stride: cols, transposed: false }
    }

    /// Matrix `item` of the stack.
    ///
    /// # Panics
    /// If the stack has no such matrix.
    pub fn item(tensor: &'a X, item: usize) -> Self {
        let [count, rows, cols] = tensor.shape();
        assert!(item < count, "view: matrix {item} of a stack of {count}");
        Self { tensor, offset: item * rows * cols, rows, cols, stride: cols, transposed: false }
    }

    /// The first `rows` rows.
    ///
    /// # Panics
    /// If there are fewer, or the view is transposed.
    pub fn top(self, rows: usize) -> Self {
        assert!(!self.transposed && rows <= self.rows, "view: {rows} rows of {}", self.rows);
        Self { rows, ..self }
    }

    /// The `rows` rows from `first` on.
    ///
    /// # Panics
    /// If there are fewer, or the view is transposed.
    pub fn rows(self, first: usize, rows: usize) -> Self {
        assert!(!self.transposed && first + rows <= self.rows, "view: {rows} rows from {first} of {}", self.rows);
        Self { rows, offset: self.offset + first * self.stride, ..self }
    }

    /// Every `step`-th of the rows, from the first: `rows` of them.
    ///
    /// # Panics
    /// If there are fewer, or the view is transposed.
    pub fn every(self, step: usize, rows: usize) -> Self {
        assert!(!self.transposed && (rows == 0 || (rows - 1) * step < self.rows), "view: every {step}th row, {rows}");
        Self { rows, stride: self.stride * step, ..self }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }
}

/// A writable rows×cols matrix inside a tensor, row-major with a row stride.
#[derive(Debug)]
pub struct ViewMut<'a, X> {
    /// The tensor that holds the values.
    pub tensor: &'a mut X,
    /// Index of the first value.
    pub offset: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Distance between two rows.
    pub stride: usize,
}

impl<'a, X: Shaped> ViewMut<'a, X> {
    /// The whole stack as one (count·rows)×cols matrix.
    pub fn all(tensor: &'a mut X) -> Self {
        let View { offset, rows, cols, stride, .. } = View::all(&*tensor);
        Self { tensor, offset, rows, cols, stride }
    }

    /// Matrix `item` of the stack.
    ///
    /// # Panics
    /// If the stack has no such matrix.
    pub fn item(tensor: &'a mut X, item: usize) -> Self {
        let View { offset, rows, cols, stride, .. } = View::item(&*tensor, item);
        Self { tensor, offset, rows, cols, stride }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, X> {
        ViewMut {
            tensor: &mut *self.tensor,
            offset: self.offset,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
        }
    }

    /// The first `rows` rows.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn top(self, rows: usize) -> Self {
        assert!(rows <= self.rows, "view: {rows} rows of {}", self.rows);
        Self { rows, ..self }
    }

    /// The `rows` rows from `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn rows(self, first: usize, rows: usize) -> Self {
        assert!(first + rows <= self.rows, "view: {rows} rows from {first} of {}", self.rows);
        Self { rows, offset: self.offset + first * self.stride, ..self }
    }

    /// Every `step`-th of the rows, from the first: `rows` of them.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn every(self, step: usize, rows: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * step < self.rows, "view: every {step}th row, {rows}");
        Self { rows, stride: self.stride * step, ..self }
    }
}
