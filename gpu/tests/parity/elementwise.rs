//! Copies, sums, the optimiser's increment, and the watch for values that are not finite.

use eblora_core::backend::{AdamWStep, Backend, BackendError, View, ViewMut};

use super::compare::assert_close;
use super::{Pair, normal, read, upload, with_device};

async fn plain<B: Backend>(b: &B, count: usize, n: usize, d: usize) -> Vec<Vec<f64>> {
    let len = count * n * d;
    let x = upload(b, [count, n, d], &normal(1, len));
    let table = upload(b, [1, 3, d], &normal(2, 3 * d));
    let mut all: Vec<_> = (0..5).map(|i| upload(b, [count, n, d], &normal(3 + i, len))).collect();
    b.copy(ViewMut::all(&mut all[0]).top(n), View::all(&x).top(n));
    b.fill(&mut all[1], -2.5);
    b.scale(&mut all[2], 0.3);
    b.scale_add(&mut all[3], 0.7, &x, -1.2);
    b.add_rows(ViewMut::all(&mut all[4]), &table);
    let mut out = Vec::new();
    for t in &all {
        out.push(read(b, t).await);
    }
    let mut dots = upload(b, [1, 4, 1], &[1.0, 2.0, 3.0, 4.0]);
    b.dot(&mut dots, 2, View::all(&all[3]), View::all(&x));
    out.push(read(b, &dots).await);
    out
}

async fn copies_sums_and_dots() {
    let check = async |pair: &Pair| {
        for (count, n, d) in [(1, 1, 1), (5, 17, 3), (1, 65, 130), (2, 300, 64)] {
            let (got, want) = (plain(&pair.gpu, count, n, d).await, plain(&pair.cpu, count, n, d).await);
            let names = ["copy", "fill", "scale", "scale_add", "add_rows", "dot"];
            for ((what, got), want) in names.iter().zip(&got).zip(&want) {
                let len = (count * n * d) as f64;
                let scale = if *what == "dot" { len } else { 1.0 };
                assert_close(&format!("{what} {count}x{n}x{d}"), got, want, scale, 4e-7);
            }
        }
    };
    with_device(None, check).await;
    with_device(Some(16 * 1024), check).await;
}

async fn adamw<B: Backend>(b: &B, shape: [usize; 3]) -> Vec<Vec<f64>> {
    let len = shape.iter().product();
    let (mut m, mut v) = (b.zeros(shape).unwrap(), b.zeros(shape).unwrap());
    let mut grad = b.zeros(shape).unwrap();
    for step in 1..=5 {
        let mut values = normal(u64::from(step), len);
        values[0] = 0.0;
        grad = upload(b, shape, &values);
        let step = AdamWStep { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step };
        b.adamw(&mut grad, &mut m, &mut v, step);
    }
    vec![read(b, &grad).await, read(b, &m).await, read(b, &v).await]
}

async fn five_steps_of_adamw() {
    let check = async |pair: &Pair| {
        for shape in [[1, 1, 1], [3, 17, 5], [2, 130, 64]] {
            let (got, want) = (adamw(&pair.gpu, shape).await, adamw(&pair.cpu, shape).await);
            for ((what, got), want) in ["increment", "m", "v"].iter().zip(&got).zip(&want) {
                assert_close(&format!("adamw {shape:?}: {what}"), got, want, 0.1, 4e-6);
            }
        }
    };
    with_device(None, check).await;
    with_device(Some(16 * 1024), check).await;
}

async fn a_value_that_is_not_finite_is_named_and_freezes_the_optimiser() {
    with_device(Some(1024), async |pair| {
        let gpu = &pair.gpu;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = normal(1, 3 * 17 * 5);
            values[2 * 17 * 5 + 3] = bad;
            let grads = upload(gpu, [3, 17, 5], &values);
            let step = AdamWStep { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1 };
            let ones = vec![1.0; values.len()];
            let (mut other, mut m) = (upload(gpu, [3, 17, 5], &ones), upload(gpu, [3, 17, 5], &ones));
            let mut v = upload(gpu, [3, 17, 5], &ones);
            gpu.guard_finite(&grads).unwrap();
            gpu.adamw(&mut other, &mut m, &mut v, step);
            assert_eq!(gpu.read(&m).await, Err(BackendError::NonFinite { item: 2 }));
            // The fault is told once; what it froze is unchanged.
            assert_eq!(gpu.read(&m).await.unwrap(), ones);
            assert_eq!(gpu.read(&other).await.unwrap(), vec![0.0; ones.len()]);
        }
        let fine = upload(gpu, [1, 2, 1], &[f32::MAX, f32::MIN_POSITIVE]);
        gpu.guard_finite(&fine).unwrap();
        assert_eq!(gpu.read(&fine).await.unwrap(), [f32::MAX, f32::MIN_POSITIVE]);
    })
    .await;
}

device_tests!(copies_sums_and_dots, five_steps_of_adamw, a_value_that_is_not_finite_is_named_and_freezes_the_optimiser,);
