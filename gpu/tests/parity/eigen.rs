//! The batched symmetric eigen-solve by what it must keep: residual and orthogonality, on every kind of spectrum.

use eblora_core::backend::{Backend, BackendError};
use eblora_core::faer::Mat;
use eblora_core::linalg::random_orthonormal;
use eblora_core::random::Random;

use super::compare::assert_close;
use super::{Pair, read, upload, with_device};

const RANKS: [usize; 10] = [1, 2, 3, 7, 8, 16, 31, 32, 63, 64];

type Spectrum = fn(usize, usize) -> f64;

const SPECTRA: [(&str, Spectrum); 6] = [
    ("random", |j, r| ((j * 7919 + 13) % (3 * r)) as f64 / r as f64 - 1.0),
    ("graded", |j, r| 10.0_f64.powf(-6.0 * j as f64 / r as f64)),
    ("clustered", |j, r| if j < r / 2 { 1.0 } else { 1.0 + 1e-6 }),
    ("deficient", |j, r| if j < r / 2 { 2.0 } else { 0.0 }),
    ("zero", |_, _| 0.0),
    ("huge", |j, _| 1e15 * (1 + j) as f64),
];

/// `Q·Λ·Qᵀ`, symmetric to the bit.
fn matrix(r: usize, seed: u64, spectrum: Spectrum) -> Vec<f32> {
    let q: Mat<f64> = random_orthonormal(r, r, &mut Random::new(seed, "eigen")).unwrap();
    let entry = |i: usize, j: usize| (0..r).map(|k| q[(i, k)] * spectrum(k, r) * q[(j, k)]).sum::<f64>() as f32;
    (0..r * r).map(|at| if at / r >= at % r { entry(at / r, at % r) } else { entry(at % r, at / r) }).collect()
}

async fn solve<B: Backend>(b: &B, count: usize, r: usize, a: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let a = upload(b, [count, r, r], a);
    let (mut values, mut vectors) = (b.zeros([count, r, 1]).unwrap(), b.zeros([count, r, r]).unwrap());
    b.symmetric_eigen(&mut values, &mut vectors, &a).unwrap();
    (read(b, &values).await, read(b, &vectors).await)
}

async fn check(pair: &Pair, r: usize) {
    let stack: Vec<f32> = SPECTRA.iter().enumerate().flat_map(|(i, s)| matrix(r, i as u64, s.1)).collect();
    let (values, vectors) = solve(&pair.gpu, SPECTRA.len(), r, &stack).await;
    let (want, _) = solve(&pair.cpu, SPECTRA.len(), r, &stack).await;
    for (item, (name, _)) in SPECTRA.iter().enumerate() {
        let (l, v) = (&values[item * r..][..r], &vectors[item * r * r..][..r * r]);
        let size = want[item * r..][..r].iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let epsilon = f64::from(f32::EPSILON) * (4.0 + 2.0 * r as f64);
        assert_close(&format!("{name}, r {r}: values"), l, &want[item * r..][..r], size, epsilon);
        assert!(l.is_sorted_by(|a, b| a >= b), "{name}, r {r}: {l:?}");
        for i in 0..r {
            for j in 0..=i {
                let rebuilt: f64 = (0..r).map(|k| v[i * r + k] * l[k] * v[j * r + k]).sum();
                let residual = (rebuilt - f64::from(stack[(item * r + i) * r + j])).abs();
                assert!(residual <= epsilon * size, "{name}, r {r}: residual {residual:e} of {size:e}");
                let product: f64 = (0..r).map(|k| v[k * r + i] * v[k * r + j]).sum();
                let off = (product - f64::from(u8::from(i == j))).abs();
                assert!(off <= epsilon, "{name}, r {r}: orthogonality {off:e}");
            }
        }
    }
}

async fn residual_and_orthogonality_for_every_spectrum() {
    with_device(None, async |pair| {
        for r in RANKS {
            check(pair, r).await;
        }
    })
    .await;
    with_device(Some(4096), async |pair| check(pair, 16).await).await;
}

async fn matrices_beyond_workgroup_memory() {
    with_device(None, async |pair| {
        for r in [65, 90] {
            check(pair, r).await;
        }
    })
    .await;
    // A matrix a shard, and the memory that it is worked on in.
    with_device(Some(2 * 4 * 70 * 70), async |pair| check(pair, 70).await).await;
}

async fn what_has_no_eigenvalues_is_named() {
    with_device(None, async |pair| {
        let mut a = matrix(4, 1, SPECTRA[0].1).repeat(3);
        a[16 + 4] = f32::NAN;
        let a = upload(&pair.gpu, [3, 4, 4], &a);
        let (mut values, mut vectors) = (pair.gpu.zeros([3, 4, 1]).unwrap(), pair.gpu.zeros([3, 4, 4]).unwrap());
        pair.gpu.symmetric_eigen(&mut values, &mut vectors, &a).unwrap();
        assert_eq!(pair.gpu.read(&values).await, Err(BackendError::NonFinite { item: 1 }));
        let large = pair.gpu.zeros([1, 1025, 1025]).unwrap();
        let (mut values, mut vectors) =
            (pair.gpu.zeros([1, 1025, 1]).unwrap(), pair.gpu.zeros([1, 1025, 1025]).unwrap());
        let error = pair.gpu.symmetric_eigen(&mut values, &mut vectors, &large).unwrap_err();
        assert!(error.to_string().contains("1025×1025"), "{error}");
    })
    .await;
}

device_tests!(
    residual_and_orthogonality_for_every_spectrum,
    matrices_beyond_workgroup_memory,
    what_has_no_eigenvalues_is_named,
);
