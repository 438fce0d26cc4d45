//! GELU, exact or by tanh, SiLU, and their derivatives.

use super::simd::vectorized;
use super::tensor::{CpuTensor, same};
use super::threads::{block_rows, for_each_block};
use crate::Real;
use crate::backend::{Activation, View, ViewMut};

const BLOCK_ROWS_WORK: usize = 16_384;

fn each_row<T: Real>(
    op: &str,
    dst: ViewMut<'_, CpuTensor<T>>,
    x: View<'_, CpuTensor<T>>,
    f: impl Fn(T, T) -> T + Sync + Send,
) {
    same(op, (dst.rows, dst.cols), (x.rows, x.cols));
    let cols = x.cols;
    let work = x.rows * cols * 16;
    let per_block = block_rows(x.rows, cols, BLOCK_ROWS_WORK, 1);
    let (rows, stride) = dst.into_rows();
    for_each_block(rows, per_block * stride, work, |b, block| {
        vectorized(
            #[inline(always)]
            || {
                for (i, row) in block.chunks_mut(stride).enumerate() {
                    let x = x.row(b * per_block + i);
                    row[..cols].iter_mut().zip(x).for_each(|(y, &x)| *y = f(*y, x));
                }
            },
        );
    });
}

/// `u = √(2/π)·(x + c·x³)`, `tanh u`, and `du/dx`.
#[inline(always)]
fn tanh_parts<T: Real>(x: T) -> (T, T) {
    let (root, cubic, one, two) = (T::of(0.797_884_560_802_865_4), T::of(0.044_715), T::one(), T::of(2.0));
    let u = root * (x + cubic * x * x * x);
    let tanh = one - two / (one + (two * u).exp_kernel());
    (tanh, root * (one + T::of(3.0) * cubic * x * x))
}

/// `1/(1 + e^−x)`.
#[inline(always)]
pub(super) fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (-x).exp_kernel())
}

/// `y = f(x)`.
pub fn activation<T: Real>(kind: Activation, y: ViewMut<'_, CpuTensor<T>>, x: View<'_, CpuTensor<T>>) {
    let half = T::of(0.5);
    match kind {
        Activation::Gelu => each_row(
            "activation",
            y,
            x,
            #[inline(always)]
            |_, x| x * x.normal_kernel().0,
        ),
        Activation::GeluTanh => each_row(
            "activation",
            y,
            x,
            #[inline(always)]
            |_, x| half * x * (T::one() + tanh_parts(x).0),
        ),
        Activation::Silu => each_row(
            "activation",
            y,
            x,
            #[inline(always)]
            |_, x| x * sigmoid(x),
        ),
    }
}

/// `dx = dx∘f'(x)`: `Φ(x) + x·φ(x)`, `(1 + t)/2 + x·(1 − t²)·u'/2`, or `σ + x·σ·(1 − σ)`.
pub fn activation_backward<T: Real>(kind: Activation, dx: ViewMut<'_, CpuTensor<T>>, x: View<'_, CpuTensor<T>>) {
    let half = T::of(0.5);
    match kind {
        Activation::Gelu => each_row(
            "activation_backward",
            dx,
            x,
            #[inline(always)]
            |dy, x| {
                let (cdf, pdf) = x.normal_kernel();
                dy * (cdf + x * pdf)
            },
        ),
        Activation::GeluTanh => each_row(
            "activation_backward",
            dx,
            x,
            #[inline(always)]
            |dy, x| {
                let (t, slope) = tanh_parts(x);
                dy * half * (T::one() + t + x * (T::one() - t * t) * slope)
            },
        ),
        Activation::Silu => each_row(
            "activation_backward",
            dx,
            x,
            #[inline(always)]
            |dy, x| {
                let s = sigmoid(x);
                dy * s * (T::one() + x * (T::one() - s))
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Cpu};
    use alloc::vec::Vec;

    #[test]
    fn derivatives_are_those_of_the_values() {
        let cpu = Cpu::<f64>::new();
        let xs: Vec<f64> = (-40..=40).map(|i| f64::from(i) / 8.0).collect();
        let at = |kind, shift: f64| {
            let x = cpu.upload([1, 1, 81], &xs.iter().map(|x| x + shift).collect::<Vec<_>>()).unwrap();
            let mut y = cpu.zeros([1, 1, 81]).unwrap();
            activation(kind, ViewMut::all(&mut y), View::all(&x));
            y.data
        };
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
            let x = cpu.upload([1, 1, 81], &xs).unwrap();
            let mut dx = cpu.upload([1, 1, 81], &[1.0; 81]).unwrap();
            activation_backward(kind, ViewMut::all(&mut dx), View::all(&x));
            let (up, down) = (at(kind, 1e-5), at(kind, -1e-5));
            for i in 0..81 {
                let slope = (up[i] - down[i]) / 2e-5;
                assert!((dx.data[i] - slope).abs() < 1e-9, "{kind:?} at {}: {} and {slope}", xs[i], dx.data[i]);
            }
        }
        let apart = at(Activation::Gelu, 0.0)
            .iter()
            .zip(at(Activation::GeluTanh, 0.0))
            .fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(apart > 1e-5 && apart < 1e-3, "the approximation is {apart} off");
    }
}
