//! The gradients of a penalty on chosen entries of `U·Vᵀ`.

use super::simd::sum2;
use super::stacks::sign_of;
use super::tensor::CpuTensor;
use super::threads::for_each_block;
use super::{Cpu, Entries};
use crate::Real;

/// Adds the gradients of `Σ weight·|(U·Vᵀ)_ij|` over the entries: `dU_i += Σ_j σ_ij·V_j`, `dV_j += Σ_i σ_ij·U_i` with
/// σ the weighted signs. U is \[count, out, r\], V \[count, in, r\].
pub fn entries_gradient<T: Real>(
    [du, dv]: [&mut CpuTensor<T>; 2],
    u: &CpuTensor<T>,
    v: &CpuTensor<T>,
    entries: &mut Entries<Cpu<T>>,
) {
    let ([count, out, inp], r) = (entries.shape, u.shape[2]);
    let fits = u.shape == [count, out, r] && v.shape == [count, inp, r] && du.shape == u.shape && dv.shape == v.shape;
    assert!(fits, "entries_gradient: {:?} and {:?} for entries of {:?}", u.shape, v.shape, entries.shape);
    let Entries { len, rows, cols, row_starts, by_column, column_starts, weights, signs, .. } = entries;
    let (rows, cols, weights): (&[u32], &[u32], &[T]) = (rows, cols, &weights.data);
    let work = 2 * *len * r;
    const PART: usize = 4096;
    for_each_block(&mut signs.data[..*len], PART, work, |part, signs| {
        for (at, sign) in signs.iter_mut().enumerate() {
            let (i, j) = (rows[part * PART + at] as usize, cols[part * PART + at] as usize);
            let product = sum2(&u.data[i * r..][..r], &v.data[j * r..][..r], |a, b| a * b);
            *sign = weights[i / out] * sign_of(product);
        }
    });
    let signs = &signs.data;
    for_each_block(&mut du.data, r, work, |i, du| {
        for entry in row_starts[i] as usize..row_starts[i + 1] as usize {
            let v = &v.data[cols[entry] as usize * r..][..r];
            du.iter_mut().zip(v).for_each(|(d, &v)| *d += signs[entry] * v);
        }
    });
    for_each_block(&mut dv.data, r, work, |j, dv| {
        for &entry in &by_column[column_starts[j] as usize..column_starts[j + 1] as usize] {
            let u = &u.data[rows[entry as usize] as usize * r..][..r];
            dv.iter_mut().zip(u).for_each(|(d, &u)| *d += signs[entry as usize] * u);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::random::Random;

    #[test]
    fn it_is_the_gradient_by_finite_differences() {
        let (cpu, rng) = (Cpu::<f64>::new(), &mut Random::new(1, "entries"));
        let (out, inp, r) = (4, 5, 2);
        let mut tensor = |n: usize| cpu.upload([2, n, r], &rng.normals::<f64>(2 * n * r)).unwrap();
        let (u, v) = (tensor(out), tensor(inp));
        let chosen: [&[(u32, u32)]; 2] = [&[(0, 1), (0, 4), (3, 1)], &[(2, 2), (3, 0), (3, 2)]];
        let weights = [0.5, 2.0];
        let mut entries =
            Entries::upload(&cpu, [2, out, inp], &[(chosen[0], weights[0]), (chosen[1], weights[1])]).unwrap();
        let loss = |u: &[f64], v: &[f64]| {
            let mut loss = 0.0;
            for item in 0..2 {
                for &(i, j) in chosen[item] {
                    let (i, j) = (item * out + i as usize, item * inp + j as usize);
                    let product: f64 = (0..r).map(|k| u[i * r + k] * v[j * r + k]).sum();
                    loss += weights[item] * product.abs();
                }
            }
            loss
        };
        let (mut du, mut dv) = (cpu.zeros([2, out, r]).unwrap(), cpu.zeros([2, inp, r]).unwrap());
        cpu.entries_gradient([&mut du, &mut dv], &u, &v, &mut entries);
        let moved = |values: &[f64], at: usize, by: f64| {
            let mut values = values.to_vec();
            values[at] += by;
            values
        };
        let (u, v) = (u.values(), v.values());
        for at in 0..u.len() {
            let slope = (loss(&moved(u, at, 1e-6), v) - loss(&moved(u, at, -1e-6), v)) / 2e-6;
            assert!((du.values()[at] - slope).abs() < 1e-8);
        }
        for at in 0..v.len() {
            let slope = (loss(u, &moved(v, at, 1e-6)) - loss(u, &moved(v, at, -1e-6))) / 2e-6;
            assert!((dv.values()[at] - slope).abs() < 1e-8);
        }
    }
}
