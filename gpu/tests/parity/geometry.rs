//! The manifold kernels against the CPU's in f64, and by what they must keep: residual *and* orthogonality.

use eblora_core::backend::{Backend, BackendError};
use eblora_core::gpm::Subspace;
use eblora_core::linalg::random_orthonormal;
use eblora_core::manifold::{Retraction, TangentMap};
use eblora_core::random::Random;
use eblora_core::{Real, faer};
use faer::Mat;

use super::compare::assert_close;
use super::{normal, read, upload, with_device};

/// `max |XᵀX − I|` of an n×r matrix, row-major.
fn orthonormality(x: &[f64], n: usize, r: usize) -> f64 {
    let mut worst = 0.0_f64;
    for i in 0..r {
        for j in 0..=i {
            let sum: f64 = (0..n).map(|k| x[k * r + i] * x[k * r + j]).sum();
            worst = worst.max((sum - f64::from(u8::from(i == j))).abs());
        }
    }
    worst
}

/// n×r with these singular values, row-major.
fn with_spectrum(n: usize, r: usize, seed: u64, sigma: impl Fn(usize) -> f64) -> Vec<f32> {
    let rng = &mut Random::new(seed, "spectrum");
    let u: Mat<f64> = random_orthonormal(n, r, rng).unwrap();
    let v: Mat<f64> = random_orthonormal(r, r, rng).unwrap();
    let scaled = Mat::from_fn(n, r, |i, j| u[(i, j)] * sigma(j));
    let y = &scaled * v.transpose();
    (0..n * r).map(|i| y[(i / r, i % r)] as f32).collect()
}

async fn retracted<B: Backend>(b: &B, kind: Retraction, shape: [usize; 3], y: &[f32]) -> Vec<f64> {
    let (mut y, mut scratch) = (upload(b, shape, y), b.scratch(shape).unwrap());
    b.retract(kind, &mut y, &mut scratch).unwrap();
    read(b, &y).await
}

const RANKS: [usize; 10] = [1, 2, 3, 7, 8, 16, 31, 32, 63, 64];

async fn whitening_returns_to_the_manifold_at_the_nearest_point() {
    with_device(None, async |pair| {
        for r in RANKS {
            for (n, kappa) in [(r, 1.5_f64), (r + 1, 3.0), (130, 1.0), (200, 1.2), (257, 30.0), (100, 1e3)] {
                if n < r {
                    continue;
                }
                let sigma = |j: usize| kappa.powf(-(j as f64) / (r.max(2) - 1) as f64);
                let (one, two) = (with_spectrum(n, r, 1, sigma), with_spectrum(n, r, 2, sigma));
                let both = [one, two].concat();
                let got = retracted(&pair.gpu, Retraction::Whitening, [2, n, r], &both).await;
                let want = retracted(&pair.cpu, Retraction::Whitening, [2, n, r], &both).await;
                for item in got.chunks(n * r) {
                    let off = orthonormality(item, n, r);
                    assert!(off < 3e-6, "κ = {kappa}, {n}x{r}: orthonormality {off:e}");
                }
                // The nearest point moves by κ·ε where Y does by ε.
                let bound = 2e-7 * (8.0 + (r as f64).sqrt() + kappa * kappa.sqrt());
                assert_close(&format!("κ = {kappa}, {n}x{r}"), &got, &want, 1.0, bound);
            }
        }
    })
    .await;
}

async fn graded_clustered_and_large_spectra_are_retracted() {
    with_device(None, async |pair| {
        for r in RANKS {
            let spectra: [(&str, &dyn Fn(usize) -> f64); 4] = [
                ("graded", &|j| 10.0_f64.powf(-4.0 * j as f64 / r as f64)),
                ("clustered", &|j| if j < r / 2 { 1.0 } else { 1e-3 }),
                ("large", &|_| 1e8),
                ("small", &|_| 1e-8),
            ];
            for (name, sigma) in spectra {
                let y = with_spectrum(150, r, 3, sigma);
                let got = retracted(&pair.gpu, Retraction::Whitening, [1, 150, r], &y).await;
                let off = orthonormality(&got, 150, r);
                assert!(off < 3e-6, "{name}, rank {r}: {off:e}");
            }
        }
    })
    .await;
}

async fn qr_keeps_the_flag_and_a_positive_diagonal() {
    with_device(None, async |pair| {
        for (n, r) in [(1, 1), (7, 7), (130, 2), (65, 16), (300, 64)] {
            let y = with_spectrum(n, r, 5, |j| 1.0 + 0.5 / (1 + j) as f64);
            let got = retracted(&pair.gpu, Retraction::Qr, [1, n, r], &y).await;
            let want = retracted(&pair.cpu, Retraction::Qr, [1, n, r], &y).await;
            assert!(orthonormality(&got, n, r) < 3e-6);
            assert_close(&format!("qr {n}x{r}"), &got, &want, 1.0, 3e-6);
        }
    })
    .await;
}

async fn ranks_beyond_the_fast_path_are_retracted_by_products() {
    with_device(None, async |pair| {
        for (n, r, kappa) in [(65, 65, 1.1), (200, 96, 1.0), (300, 130, 20.0)] {
            let y = with_spectrum(n, r, 6, |j| f64::powf(kappa, -(j as f64) / (r - 1) as f64));
            let got = retracted(&pair.gpu, Retraction::Whitening, [1, n, r], &y).await;
            let want = retracted(&pair.cpu, Retraction::Whitening, [1, n, r], &y).await;
            assert!(orthonormality(&got, n, r) < 5e-6);
            assert_close(&format!("newton {n}x{r}"), &got, &want, 1.0, 2e-6 * (1.0 + kappa));
        }
    })
    .await;
}

async fn points_that_cannot_be_retracted_are_named() {
    with_device(None, async |pair| {
        let gpu = &pair.gpu;
        for (bad, what) in [(0.0, "dependent"), (f32::NAN, "NaN")] {
            let mut y = with_spectrum(30, 4, 7, |_| 1.0);
            y.extend(vec![bad; 120]);
            let mut tensor = upload(gpu, [2, 30, 4], &y);
            let mut scratch = gpu.scratch([2, 30, 4]).unwrap();
            gpu.retract(Retraction::Whitening, &mut tensor, &mut scratch).unwrap();
            let error = gpu.read(&tensor).await.unwrap_err();
            let named = matches!(&error, BackendError::Manifold { item: 1, .. }) && error.to_string().contains(what);
            assert!(named, "{error}");
        }
        let mut wide = gpu.zeros([1, 2, 3]).unwrap();
        let mut scratch = gpu.scratch([1, 2, 3]).unwrap();
        assert!(gpu.retract(Retraction::Whitening, &mut wide, &mut scratch).is_err());
    })
    .await;
}

fn subspace<T: Real>(dim: usize, k: usize, seed: u64) -> Subspace<T> {
    let basis: Mat<f64> = random_orthonormal(dim, k, &mut Random::new(seed, "m")).unwrap();
    Subspace::from_basis(Mat::from_fn(dim, k, |i, j| T::of(basis[(i, j)]))).unwrap()
}

/// Off M, to the tangent space, and both as the optimiser does it.
async fn projected<B: Backend>(b: &B, map: TangentMap, [count, n, r]: [usize; 3], ks: &[usize]) -> Vec<Vec<f64>> {
    let held: Vec<Subspace<B::Scalar>> = ks.iter().enumerate().map(|(i, &k)| subspace(n, k, i as u64)).collect();
    let subspaces = b.upload_subspaces(&held.iter().collect::<Vec<_>>()).unwrap();
    let points: Vec<f32> = (0..count).flat_map(|i| with_spectrum(n, r, 10 + i as u64, |_| 1.0)).collect();
    let shape = [count, n, r];
    let (x, mut scratch) = (upload(b, shape, &points), b.scratch(shape).unwrap());
    let (mut off, mut tangent) =
        (upload(b, shape, &normal(1, points.len())), upload(b, shape, &normal(2, points.len())));
    b.project_off(&mut off, &subspaces, &mut scratch);
    b.project_tangent(map, &x, &mut tangent, &mut scratch);
    vec![read(b, &off).await, read(b, &tangent).await]
}

async fn projections_of_stacks_with_different_memories() {
    with_device(None, async |pair| {
        // Empty, direct, complement and full memories in one stack.
        for (n, r, ks) in [
            (1, 1, [0, 1, 0]),
            (17, 3, [0, 5, 16]),
            (64, 16, [3, 60, 64]),
            (130, 64, [0, 0, 0]),
            (200, 8, [90, 110, 1]),
        ] {
            for map in [TangentMap::Euclidean, TangentMap::Canonical] {
                let shape = [3, n, r];
                let got = projected(&pair.gpu, map, shape, &ks).await;
                let want = projected(&pair.cpu, map, shape, &ks).await;
                for ((what, got), want) in ["off M", "tangent"].iter().zip(&got).zip(&want) {
                    let bound = 3e-7 * (4.0 + (n as f64).sqrt());
                    assert_close(&format!("{map:?} {shape:?} {ks:?}: {what}"), got, want, 2.0, bound);
                }
            }
        }
    })
    .await;
}

device_tests!(
    whitening_returns_to_the_manifold_at_the_nearest_point,
    graded_clustered_and_large_spectra_are_retracted,
    qr_keeps_the_flag_and_a_positive_diagonal,
    ranks_beyond_the_fast_path_are_retracted_by_products,
    points_that_cannot_be_retracted_are_named,
    projections_of_stacks_with_different_memories,
);
