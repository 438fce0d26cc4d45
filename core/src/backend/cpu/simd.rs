//! Run-time SIMD dispatch and the lane-wise sums that let the compiler vectorise reductions.

use crate::Real;

/// Runs `f` compiled for the widest vector instructions that this processor has.
///
/// Only what is inlined into `f` is: mark the closure and what it calls `#[inline(always)]`, and write loops, not
/// iterator chains that end in a call.
#[inline(always)]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    struct Op<F>(F);
    impl<R, F: FnOnce() -> R> pulp::WithSimd for Op<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Op(f))
}

/// Partial sums kept side by side: the order of additions is fixed, so results repeat bit for bit.
const LANES: usize = 16;

/// `Σ f(a[i], b[i], c[i])` in a fixed order.
#[inline(always)]
pub fn sum3<T: Real>(a: &[T], b: &[T], c: &[T], f: impl Fn(T, T, T) -> T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (a, b, c) = (a.chunks_exact(LANES), b.chunks_exact(LANES), c.chunks_exact(LANES));
    let mut tail = T::zero();
    for ((&x, &y), &z) in a.remainder().iter().zip(b.remainder()).zip(c.remainder()) {
        tail += f(x, y, z);
    }
    for ((xs, ys), zs) in a.zip(b).zip(c) {
        for l in 0..LANES {
            lanes[l] += f(xs[l], ys[l], zs[l]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            let upper = lanes[l + width];
            lanes[l] += upper;
        }
        width /= 2;
    }
    lanes[0] + tail
}

/// `Σ f(a[i], b[i])` in a fixed order.
#[inline(always)]
pub fn sum2<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> T {
    sum3(a, b, b, |x, y, _| f(x, y))
}

/// `Σ f(a[i])` in a fixed order.
#[inline(always)]
pub fn sum<T: Real>(a: &[T], f: impl Fn(T) -> T) -> T {
    sum3(a, a, a, |x, _, _| f(x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn sums_of_every_length_are_right() {
        for n in 0..70_usize {
            let a: Vec<f64> = (0..n).map(|i| i as f64).collect();
            assert_eq!(sum(&a, |x| x), (n * n.saturating_sub(1) / 2) as f64);
            assert_eq!(
                vectorized(
                    #[inline(always)]
                    || sum2(&a, &a, |x, y| x - y)
                ),
                0.0
            );
        }
    }
}
