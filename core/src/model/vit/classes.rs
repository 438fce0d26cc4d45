//! Classes that a frozen head does not know yet.

use alloc::format;
use alloc::vec::Vec;

use faer::{Mat, MatRef};

use crate::linalg::orthonormalize_against;
use crate::random::Random;

/// The row of a head's weight (classes×`width`, row by row) for a new class. Its direction is drawn by the class's name,
/// orthogonal to all rows as long as `width` leaves room for that: so a prototype is orthonormal to the others, and no old
/// class loses to the new one before features have moved towards it. Its length is the mean of the rows'.
///
/// ```
/// use eblora_core::model::vit::class_row;
/// let row = class_row(&[2.0, 0.0, 0.0, 0.0, 4.0, 0.0], 3, "house");
/// assert!(row[0].abs() < 1e-6 && row[1].abs() < 1e-6 && (row[2].abs() - 3.0).abs() < 1e-6);
/// assert_eq!(row, class_row(&[2.0, 0.0, 0.0, 0.0, 4.0, 0.0], 3, "house"));
/// ```
pub fn class_row(weight: &[f32], width: usize, name: &str) -> Vec<f32> {
    let rows: Vec<&[f32]> = weight.chunks_exact(width.max(1)).collect();
    let known = Mat::from_fn(width, rows.len(), |i, j| f64::from(rows[j][i]));
    let lengths: f64 = (0..rows.len()).map(|j| known.col(j).norm_l2()).sum();
    let length = if lengths > 0.0 { lengths / rows.len() as f64 } else { 1.0 };
    let basis = orthonormalize_against::<f64>(None, known);
    let drawn = Random::new(0, &format!("class/{name}")).normal_matrix::<f64>(width, 1);
    let against = |basis: Option<MatRef<'_, f64>>| orthonormalize_against(basis, drawn.clone());
    let mut direction = against((basis.ncols() < width).then_some(basis.as_ref()));
    if direction.ncols() == 0 {
        direction = against(None);
    }
    (0..width).map(|i| if direction.ncols() == 0 { 0.0 } else { (direction[(i, 0)] * length) as f32 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_all_directions_are_taken_a_row_still_has_the_others_length() {
        let taken = [0.0, 2.0, 2.0, 0.0, 1.0, 1.0];
        let row = class_row(&taken, 2, "x");
        let length = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let mean = taken.chunks(2).map(length).sum::<f64>() / 3.0;
        assert!((length(&row) - mean).abs() < 1e-6);
        assert_ne!(row, class_row(&taken, 2, "y"));
    }

    #[test]
    fn many_new_prototypes_stay_orthonormal() {
        let mut weight = alloc::vec![1.0, 0.0, 0.0, 0.0];
        for name in ["a", "b", "c"] {
            let row = class_row(&weight, 4, name);
            weight.extend(row);
        }
        let p = MatRef::from_row_major_slice(&weight, 4, 4).to_owned();
        assert!(crate::linalg::orthonormality_error(p.as_ref()) < 1e-6);
    }
}
