//! The orthogonal complement of a subspace: what is stored once `M` spans more than half of the space.

use faer::{Mat, MatRef};

use crate::Real;

/// An orthonormal basis (n×(n−k)) of everything orthogonal to the orthonormal `basis` (n×k): the last columns of its
/// full Householder `Q`. `N Nᵀ = I − M Mᵀ`.
pub(super) fn complement_of<T: Real>(basis: MatRef<'_, T>) -> Mat<T> {
    let (n, k) = basis.shape();
    if k == 0 {
        return Mat::identity(n, n);
    }
    basis.qr().compute_Q().subcols(k, n - k).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{max_abs, orthonormality_error, random_orthonormal};
    use crate::random::Random;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_two_projectors_add_up_to_one(seed in 0u64..500, n in 1usize..40, k in 0usize..40) {
            let m = random_orthonormal::<f64>(n, k.min(n), &mut Random::new(seed, "m")).unwrap();
            let c = complement_of(m.as_ref());
            prop_assert_eq!(c.shape(), (n, n - k.min(n)));
            prop_assert!(orthonormality_error(c.as_ref()) < 1e-13);
            let sum = &m * m.transpose() + &c * c.transpose() - Mat::<f64>::identity(n, n);
            prop_assert!(max_abs(sum.as_ref()) < 1e-13);
        }
    }
}
