//! What a method remembers between tasks, as plain data: named matrices, numbers and counts on the host.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use faer::{Mat, MatRef};

use crate::Real;
use crate::gpm::GpmError;

/// A piece of plain data.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<T> {
    /// A row-major stack of matrices, `[count, rows, cols]`.
    Tensor {
        /// Its shape.
        shape: [usize; 3],
        /// As many values as the shape says.
        values: Vec<T>,
    },
    /// Numbers in double precision.
    Reals(Vec<f64>),
    /// A whole number.
    Count(u64),
}

/// Pieces of plain data, each under a name of its own.
pub type Values<T> = BTreeMap<String, Value<T>>;

impl<T: Real> Value<T> {
    /// One matrix.
    pub fn matrix(a: MatRef<'_, T>) -> Self {
        let values = (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)])).collect();
        Self::Tensor { shape: [1, a.nrows(), a.ncols()], values }
    }

    /// How many numbers it is.
    pub fn numbers(&self) -> usize {
        match self {
            Self::Tensor { values, .. } => values.len(),
            Self::Reals(values) => values.len(),
            Self::Count(_) => 1,
        }
    }

    /// Whether all its numbers are finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Tensor { values, .. } => values.iter().all(|x| x.is_finite()),
            Self::Reals(values) => values.iter().all(|x| x.is_finite()),
            Self::Count(_) => true,
        }
    }
}

/// Why plain data is not the state that was expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A piece is not there.
    #[error("`{name}` is missing")]
    Missing {
        /// The piece.
        name: String,
    },
    /// A piece that nobody asked for.
    #[error("`{name}` is not known")]
    Unknown {
        /// The piece.
        name: String,
    },
    /// A piece of another kind or shape.
    #[error("`{name}` is not {expected}")]
    Kind {
        /// The piece.
        name: String,
        /// What it should be.
        expected: String,
    },
    /// A gradient memory that is none.
    #[error("`{name}`: {source}")]
    Memory {
        /// The piece.
        name: String,
        /// Why.
        source: GpmError,
    },
}

/// Takes a matrix of so many rows out of `values`.
///
/// # Errors
/// When it is missing, or another kind of piece.
pub fn take_matrix<T: Real>(values: &mut Values<T>, name: &str, rows: usize) -> Result<Mat<T>, ValueError> {
    match take(values, name)? {
        Value::Tensor { shape: [1, n, cols], values } if n == rows && values.len() == rows * cols => {
            Ok(MatRef::from_row_major_slice(&values, rows, cols).to_owned())
        }
        _ => Err(ValueError::Kind { name: name.to_string(), expected: alloc::format!("a matrix of {rows} rows") }),
    }
}

/// Takes numbers in double precision out of `values`.
///
/// # Errors
/// When they are missing, or another kind of piece.
pub fn take_reals<T>(values: &mut Values<T>, name: &str) -> Result<Vec<f64>, ValueError> {
    match take(values, name)? {
        Value::Reals(reals) => Ok(reals),
        _ => Err(ValueError::Kind { name: name.to_string(), expected: "a list of numbers".to_string() }),
    }
}

fn take<T>(values: &mut Values<T>, name: &str) -> Result<Value<T>, ValueError> {
    values.remove(name).ok_or_else(|| ValueError::Missing { name: name.to_string() })
}

/// Nothing may be left once a method has taken all that it knows.
///
/// # Errors
/// Names a piece that is left.
pub fn all_taken<T>(values: &Values<T>) -> Result<(), ValueError> {
    match values.keys().next() {
        None => Ok(()),
        Some(name) => Err(ValueError::Unknown { name: name.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_come_back_and_what_is_none_is_named() {
        let a = faer::mat![[1.0_f32, 2.0, -0.0], [4.0, 5.0, 6.0]];
        let mut values = Values::new();
        values.insert("a".into(), Value::matrix(a.as_ref()));
        values.insert("e".into(), Value::Reals([0.5].into()));
        let mut same = values.clone();
        let back = take_matrix(&mut same, "a", 2).unwrap();
        assert!(back == a && back[(0, 2)].to_bits() == a[(0, 2)].to_bits());
        assert_eq!(take_matrix(&mut same, "a", 2), Err(ValueError::Missing { name: "a".into() }));
        assert_eq!(all_taken(&same), Err(ValueError::Unknown { name: "e".into() }));
        assert_eq!(take_reals(&mut same, "e"), Ok([0.5].into()));
        assert_eq!(all_taken(&same), Ok(()));
        assert!(matches!(take_matrix(&mut values.clone(), "a", 3), Err(ValueError::Kind { .. })));
        assert!(matches!(take_matrix(&mut values.clone(), "e", 1), Err(ValueError::Kind { .. })));
        assert!(matches!(take_reals(&mut values, "a"), Err(ValueError::Kind { .. })));
    }
}
