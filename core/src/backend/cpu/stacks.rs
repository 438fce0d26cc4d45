//! Products, column scalings and norms, matrix by matrix over a stack.

use faer::MatRef;

use super::simd::{sum, vectorized};
use super::tensor::CpuTensor;
use super::threads::for_each_block;
use crate::Real;
use crate::backend::Product;
use crate::linalg::{multiply, multiply_add};

/// `dst = scale·op(A)·op(B) (+ dst)` for every matrix.
pub fn matmul_stack<T: Real>(
    dst: &mut CpuTensor<T>,
    product: Product,
    [a, b]: [&CpuTensor<T>; 2],
    scale: f64,
    accumulate: bool,
) {
    let ([count, m, n], [a_count, a_rows, a_cols], [b_count, b_rows, b_cols]) = (dst.shape, a.shape, b.shape);
    let (left, right) = match product {
        Product::Plain => ([a_rows, a_cols], [b_rows, b_cols]),
        Product::LeftTransposed => ([a_cols, a_rows], [b_rows, b_cols]),
        Product::RightTransposed => ([a_rows, a_cols], [b_cols, b_rows]),
    };
    let fits = left == [m, right[0]] && right[1] == n && a_count == count && b_count == count;
    assert!(fits, "matmul_stack: {product:?} of {:?} and {:?} into {:?}", a.shape, b.shape, dst.shape);
    for_each_block(&mut dst.data, m * n, count * m * n * left[1], |i, dst| {
        let a = MatRef::from_row_major_slice(&a.data[i * a_rows * a_cols..][..a_rows * a_cols], a_rows, a_cols);
        let b = MatRef::from_row_major_slice(&b.data[i * b_rows * b_cols..][..b_rows * b_cols], b_rows, b_cols);
        let a = if product == Product::LeftTransposed { a.transpose() } else { a };
        let b = if product == Product::RightTransposed { b.transpose() } else { b };
        let dst = faer::MatMut::from_row_major_slice_mut(dst, m, n);
        (if accumulate { multiply_add } else { multiply })(dst, T::of(scale), a, b);
    });
}

/// The sign, 0 for 0.
pub fn sign_of<T: Real>(x: T) -> T {
    if x > T::zero() {
        T::one()
    } else if x < T::zero() {
        -T::one()
    } else {
        T::zero()
    }
}

/// `x = sign(x)`.
pub fn sign<T: Real>(x: &mut CpuTensor<T>) {
    x.data.iter_mut().for_each(|x| *x = sign_of(*x));
}

/// Multiplies column j of every matrix by its `s[j]`.
pub fn scale_columns<T: Real>(x: &mut CpuTensor<T>, s: &CpuTensor<T>) {
    let [count, rows, cols] = x.shape;
    assert!(s.shape == [count, 1, cols], "scale_columns: {:?} by {:?}", x.shape, s.shape);
    vectorized(
        #[inline(always)]
        || {
            for (x, s) in x.data.chunks_mut((rows * cols).max(1)).zip(s.data.chunks(cols.max(1))) {
                for row in x.chunks_mut(cols) {
                    row.iter_mut().zip(s).for_each(|(x, &s)| *x *= s);
                }
            }
        },
    );
}

/// `dst[j] = Σ_i a[i][j]·b[i][j]` for every matrix.
pub fn column_dots<T: Real>(dst: &mut CpuTensor<T>, a: &CpuTensor<T>, b: &CpuTensor<T>) {
    let [count, rows, cols] = a.shape;
    let fits = b.shape == a.shape && dst.shape == [count, 1, cols];
    assert!(fits, "column_dots: {:?} and {:?} into {:?}", a.shape, b.shape, dst.shape);
    dst.data.fill(T::zero());
    let item = (rows * cols).max(1);
    vectorized(
        #[inline(always)]
        || {
            for ((dst, a), b) in dst.data.chunks_mut(cols.max(1)).zip(a.data.chunks(item)).zip(b.data.chunks(item)) {
                for (a, b) in a.chunks(cols).zip(b.chunks(cols)) {
                    dst.iter_mut().zip(a.iter().zip(b)).for_each(|(d, (&a, &b))| *d += a * b);
                }
            }
        },
    );
}

/// Adds `weight·X/‖X‖_F` of every matrix, 0 for X = 0.
pub fn norm_gradient<T: Real>(grad: &mut CpuTensor<T>, x: &CpuTensor<T>, weight: f64) {
    let [_, rows, cols] = x.shape;
    assert!(grad.shape == x.shape, "norm_gradient: {:?} and {:?}", grad.shape, x.shape);
    let item = (rows * cols).max(1);
    for (grad, x) in grad.data.chunks_mut(item).zip(x.data.chunks(item)) {
        let norm = vectorized(
            #[inline(always)]
            || sum(x, |x| x * x),
        )
        .sqrt();
        let factor = if norm > T::zero() { T::of(weight) / norm } else { T::zero() };
        grad.iter_mut().zip(x).for_each(|(g, &x)| *g += factor * x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Cpu};
    use crate::random::Random;
    use alloc::vec::Vec;

    fn tensor(seed: u64, shape: [usize; 3]) -> CpuTensor<f64> {
        let values: Vec<f64> = Random::new(seed, "stacks").normals(shape.iter().product());
        Cpu::new().upload(shape, &values).unwrap()
    }

    #[test]
    fn products_are_those_of_each_matrix() {
        let cpu = Cpu::<f64>::new();
        let cases = [
            (Product::Plain, [3, 4, 5], [3, 5, 2]),
            (Product::LeftTransposed, [3, 5, 4], [3, 5, 2]),
            (Product::RightTransposed, [3, 4, 5], [3, 2, 5]),
        ];
        for (product, a, b) in cases {
            let (a, b, start) = (tensor(1, a), tensor(2, b), tensor(3, [3, 4, 2]));
            for accumulate in [false, true] {
                let mut got = start.clone();
                cpu.matmul_stack(&mut got, product, [&a, &b], 0.5, accumulate);
                for (at, got) in got.values().iter().enumerate() {
                    let (item, i, j) = (at / 8, at % 8 / 2, at % 2);
                    let x = |k| {
                        if product == Product::LeftTransposed { (item * 5 + k) * 4 + i } else { (item * 4 + i) * 5 + k }
                    };
                    let y = |k| {
                        if product == Product::RightTransposed {
                            (item * 2 + j) * 5 + k
                        } else {
                            (item * 5 + k) * 2 + j
                        }
                    };
                    let sum: f64 = (0..5).map(|k| a.values()[x(k)] * b.values()[y(k)]).sum();
                    let before = if accumulate { start.values()[at] } else { 0.0 };
                    assert!((got - before - 0.5 * sum).abs() < 1e-14);
                }
            }
        }
    }

    /// `Σ s_j Σ_i x_ij²/2` has the gradients that the two column kernels give.
    #[test]
    fn column_kernels_and_norms_are_gradients() {
        let cpu = Cpu::<f64>::new();
        let (x, s) = (tensor(4, [2, 3, 2]), tensor(5, [2, 1, 2]));
        let loss = |x: &CpuTensor<f64>| {
            let columns = x.values().iter().enumerate().map(|(at, x)| s.values()[at / 6 * 2 + at % 2] * x * x / 2.0);
            let norms = x.values().chunks(6).map(|x| 0.3 * x.iter().map(|x| x * x).sum::<f64>().sqrt());
            columns.sum::<f64>() + norms.sum::<f64>()
        };
        let mut grad = x.clone();
        cpu.scale_columns(&mut grad, &s);
        cpu.norm_gradient(&mut grad, &x, 0.3);
        for at in 0..12 {
            let moved = |by: f64| {
                let mut moved = x.clone();
                moved.values_mut()[at] += by;
                loss(&moved)
            };
            assert!((grad.values()[at] - (moved(1e-6) - moved(-1e-6)) / 2e-6).abs() < 1e-9);
        }
        let mut dots = tensor(6, [2, 1, 2]);
        cpu.column_dots(&mut dots, &x, &grad);
        let first: f64 = (0..3).map(|i| x.values()[2 * i] * grad.values()[2 * i]).sum();
        assert!((dots.values()[0] - first).abs() < 1e-14);
        let mut zero = cpu.zeros([1, 2, 2]).unwrap();
        cpu.norm_gradient(&mut zero, &cpu.zeros([1, 2, 2]).unwrap(), 1.0);
        assert_eq!(zero.values(), [0.0; 4]);
        let mut signs = cpu.upload([1, 1, 3], &[-2.0, 0.0, 5.0]).unwrap();
        cpu.sign(&mut signs);
        assert_eq!(signs.values(), [-1.0, 0.0, 1.0]);
    }
}
