//! Norms, activations, pooling and the loss: kernels that go row by row.

use eblora_core::backend::{Activation, Backend, IGNORED, View, ViewMut};

use super::compare::assert_close;
use super::{Pair, SIZES, normal, read, upload, with_device, with_each_variant};

const EPS: f64 = f32::EPSILON as f64;

async fn layer_norm<B: Backend>(b: &B, n: usize, d: usize) -> [Vec<f64>; 3] {
    let x = upload(b, [1, n, d], &normal(1, n * d));
    let (gamma, beta) = (upload(b, [1, 1, d], &normal(2, d)), upload(b, [1, 1, d], &normal(3, d)));
    let dy = upload(b, [1, n, d], &normal(4, n * d));
    let mut dx = upload(b, [1, n, d], &normal(5, n * d));
    let (mut y, mut stats) = (b.zeros([1, n, d]).unwrap(), b.zeros([1, n, 2]).unwrap());
    b.layer_norm(ViewMut::all(&mut y), &mut stats, View::all(&x), &gamma, &beta, 1e-6);
    b.layer_norm_backward(ViewMut::all(&mut dx), View::all(&dy), View::all(&x), &stats, &gamma);
    [read(b, &y).await, read(b, &stats).await, read(b, &dx).await]
}

async fn check_layer_norm(pair: &Pair, n: usize, d: usize) {
    let (got, want) = (layer_norm(&pair.gpu, n, d).await, layer_norm(&pair.cpu, n, d).await);
    for ((what, got), want) in ["y", "stats", "dx"].iter().zip(&got).zip(&want) {
        // A row of one value has no variance, and 1/√ε multiplies every rounding error.
        let (scale, bound) = if d == 1 { (1e4, 4.0 * EPS) } else { (8.0, EPS * (8.0 + d as f64)) };
        let scale = if d == 3 { scale * 50.0 } else { scale };
        assert_close(&format!("layer_norm {n}x{d}: {what}"), got, want, scale, bound);
    }
}

async fn layer_norm_and_its_gradient() {
    with_each_variant(None, async |pair| {
        for (i, &n) in SIZES.iter().enumerate() {
            for &d in &[SIZES[i], SIZES[(i + 3) % 7], 257] {
                check_layer_norm(pair, n, d).await;
            }
        }
    })
    .await;
    with_device(Some(1024), async |pair| check_layer_norm(pair, 130, 17).await).await;
}

async fn gelu<B: Backend>(b: &B, kind: Activation, n: usize, d: usize) -> [Vec<f64>; 2] {
    let mut values = normal(1, n * d);
    values.iter_mut().enumerate().for_each(|(i, v)| *v *= 1.0 + (i % 7) as f32);
    values[0] = -60.0;
    let x = upload(b, [1, n, d], &values);
    let mut dx = upload(b, [1, n, d], &normal(2, n * d));
    let mut y = b.zeros([1, n, d]).unwrap();
    b.activation(kind, ViewMut::all(&mut y), View::all(&x));
    b.activation_backward(kind, ViewMut::all(&mut dx), View::all(&x));
    [read(b, &y).await, read(b, &dx).await]
}

async fn activations() {
    with_each_variant(None, async |pair| {
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
            for (n, d) in [(1, 1), (3, 65), (130, 17), (300, 300)] {
                let (got, want) = (gelu(&pair.gpu, kind, n, d).await, gelu(&pair.cpu, kind, n, d).await);
                // Φ is good to 3e-7 and is multiplied by |x| ≤ 35 in the tails.
                assert_close(&format!("{kind:?} {n}x{d}"), &got[0], &want[0], 30.0, 4e-7);
                assert_close(&format!("{kind:?}' {n}x{d}"), &got[1], &want[1], 30.0, 1e-6);
            }
        }
    })
    .await;
}

async fn pool<B: Backend>(b: &B, n: usize, tokens: usize, d: usize) -> [Vec<f64>; 2] {
    let x = upload(b, [n, tokens, d], &normal(1, n * tokens * d));
    let dy = upload(b, [1, n, d], &normal(2, n * d));
    let (mut y, mut dx) = (b.zeros([1, n, d]).unwrap(), b.zeros([n, tokens, d]).unwrap());
    b.mean_pool(ViewMut::all(&mut y), View::all(&x), tokens, None);
    b.mean_pool_backward(ViewMut::all(&mut dx), View::all(&dy), tokens, None);
    [read(b, &y).await, read(b, &dx).await]
}

async fn normalized<B: Backend>(b: &B, n: usize, d: usize) -> [Vec<f64>; 3] {
    let mut values = normal(1, n * d);
    values[..d].fill(0.0);
    let (x, dy) = (upload(b, [1, n, d], &values), upload(b, [1, n, d], &normal(2, n * d)));
    let mut norms = b.zeros([1, n, 1]).unwrap();
    let (mut y, mut dx) = (b.zeros([1, n, d]).unwrap(), b.zeros([1, n, d]).unwrap());
    b.l2_normalize(ViewMut::all(&mut y), &mut norms, View::all(&x));
    b.l2_normalize_backward(ViewMut::all(&mut dx), View::all(&dy), View::all(&y), &norms);
    [read(b, &y).await, read(b, &norms).await, read(b, &dx).await]
}

async fn pooling_and_unit_rows() {
    let check = async |pair: &Pair| {
        for (n, tokens, d) in [(1, 1, 1), (3, 17, 65), (5, 50, 64), (130, 2, 3)] {
            let (got, want) = (pool(&pair.gpu, n, tokens, d).await, pool(&pair.cpu, n, tokens, d).await);
            let bound = EPS * (4.0 + tokens as f64);
            assert_close("mean_pool", &got[0], &want[0], 1.0, bound);
            assert_close("mean_pool_backward", &got[1], &want[1], 1.0, bound);
            let (got, want) = (normalized(&pair.gpu, n, d).await, normalized(&pair.cpu, n, d).await);
            for ((what, got), want) in ["y", "norms", "dx"].iter().zip(&got).zip(&want) {
                // Gradients are divided by norms, of which the smallest here is about 0.01.
                let scale = if *what == "dx" { 100.0 } else { 1.0 };
                assert_close(&format!("l2_normalize {n}x{d}: {what}"), got, want, scale, EPS * (8.0 + d as f64));
            }
        }
    };
    with_each_variant(None, check).await;
    with_device(Some(16 * 1024), check).await;
}

async fn loss<B: Backend>(b: &B, n: usize, classes: usize) -> [Vec<f64>; 2] {
    let mut values = normal(1, n * classes);
    values.iter_mut().for_each(|v| *v *= 20.0);
    let logits = upload(b, [1, n, classes], &values);
    let mut labels = b.labels(n + 3).unwrap();
    b.write_labels(&mut labels, &(0..n).map(|i| ((i * 7) % classes) as u32).collect::<Vec<_>>()).unwrap();
    let mut losses = upload(b, [1, 3, 1], &[5.0, 6.0, 7.0]);
    let mut d = b.zeros([1, n, classes]).unwrap();
    b.cross_entropy(&mut losses, 1, ViewMut::all(&mut d), View::all(&logits), &labels);
    [read(b, &losses).await, read(b, &d).await]
}

async fn cross_entropy() {
    let check = async |pair: &Pair| {
        for (n, classes) in [(1, 1), (3, 17), (32, 20), (65, 130), (17, 1000)] {
            let (got, want) = (loss(&pair.gpu, n, classes).await, loss(&pair.cpu, n, classes).await);
            assert_close(&format!("loss of {n}x{classes}"), &got[0], &want[0], 1.0, 4e-6);
            assert_close(&format!("its gradient, {n}x{classes}"), &got[1], &want[1], 1.0 / n as f64, 1e-5);
        }
    };
    with_each_variant(None, check).await;
    with_device(Some(8192), check).await;
}

async fn rms_norm<B: Backend>(b: &B, n: usize, d: usize) -> [Vec<f64>; 3] {
    let (x, dy) = (upload(b, [1, n, d], &normal(1, n * d)), upload(b, [1, n, d], &normal(4, n * d)));
    let gamma = upload(b, [1, 1, d], &normal(2, d));
    let mut dx = upload(b, [1, n, d], &normal(5, n * d));
    let (mut y, mut stats) = (b.zeros([1, n, d]).unwrap(), b.zeros([1, n, 1]).unwrap());
    b.rms_norm(ViewMut::all(&mut y), &mut stats, View::all(&x), &gamma, 1e-5);
    b.rms_norm_backward(ViewMut::all(&mut dx), View::all(&dy), View::all(&x), &stats, &gamma);
    [read(b, &y).await, read(b, &stats).await, read(b, &dx).await]
}

async fn rms_norm_and_its_gradient() {
    let check = async |pair: &Pair| {
        for (n, d) in [(1, 1), (3, 17), (65, 64), (130, 257)] {
            let (got, want) = (rms_norm(&pair.gpu, n, d).await, rms_norm(&pair.cpu, n, d).await);
            for ((what, got), want) in ["y", "stats", "dx"].iter().zip(&got).zip(&want) {
                // Rows of one value may be small, and are divided by.
                let scale = if d == 1 { 1e3 } else { 8.0 };
                assert_close(&format!("rms_norm {n}x{d}: {what}"), got, want, scale, EPS * (8.0 + d as f64));
            }
        }
    };
    with_each_variant(None, check).await;
    with_device(Some(4096), check).await;
}

async fn swiglu<B: Backend>(b: &B, n: usize, d: usize) -> [Vec<f64>; 3] {
    let input = |seed| upload(b, [1, n, d], &normal(seed, n * d));
    let (gate, up, dy) = (input(1), input(2), input(3));
    let (mut y, mut d_gate, mut d_up) = (input(4), input(5), input(6));
    b.swiglu(ViewMut::all(&mut y), View::all(&gate), View::all(&up));
    let grads = [ViewMut::all(&mut d_gate), ViewMut::all(&mut d_up)];
    b.swiglu_backward(grads, View::all(&dy), View::all(&gate), View::all(&up));
    [read(b, &y).await, read(b, &d_gate).await, read(b, &d_up).await]
}

async fn gated_activation_and_its_gradients() {
    let check = async |pair: &Pair| {
        for (n, d) in [(1, 1), (3, 65), (130, 17)] {
            let (got, want) = (swiglu(&pair.gpu, n, d).await, swiglu(&pair.cpu, n, d).await);
            for ((what, got), want) in ["y", "d_gate", "d_up"].iter().zip(&got).zip(&want) {
                assert_close(&format!("swiglu {n}x{d}: {what}"), got, want, 2.0, 1e-6);
            }
        }
    };
    with_each_variant(None, check).await;
    with_device(Some(4096), check).await;
}

async fn pool_of_lengths<B: Backend>(b: &B, lengths: &[u32], tokens: usize, d: usize) -> [Vec<f64>; 2] {
    let n = lengths.len();
    let (x, dy) = (upload(b, [n, tokens, d], &normal(1, n * tokens * d)), upload(b, [1, n, d], &normal(2, n * d)));
    let (mut y, mut dx) =
        (upload(b, [1, n, d], &normal(3, n * d)), upload(b, [n, tokens, d], &normal(4, n * tokens * d)));
    let mut counts = b.labels(n).unwrap();
    b.write_labels(&mut counts, lengths).unwrap();
    b.mean_pool(ViewMut::all(&mut y), View::all(&x), tokens, Some(&counts));
    b.mean_pool_backward(ViewMut::all(&mut dx), View::all(&dy), tokens, Some(&counts));
    [read(b, &y).await, read(b, &dx).await]
}

async fn pooling_of_padded_sequences() {
    let check = async |pair: &Pair| {
        for (lengths, tokens, d) in [(&[1, 0, 17, 99][..], 17, 5), (&[3; 40], 4, 33)] {
            let got = pool_of_lengths(&pair.gpu, lengths, tokens, d).await;
            let want = pool_of_lengths(&pair.cpu, lengths, tokens, d).await;
            assert_close("mean_pool", &got[0], &want[0], 1.0, 4e-6);
            assert_close("mean_pool_backward", &got[1], &want[1], 1.0, 4e-7);
        }
    };
    with_each_variant(None, check).await;
    with_device(Some(4096), check).await;
}

async fn masked_loss<B: Backend>(b: &B, labels: &[u32], classes: usize) -> [Vec<f64>; 2] {
    let n = labels.len();
    let logits = upload(b, [1, n, classes], &normal(1, n * classes));
    let mut held = b.labels(n).unwrap();
    b.write_labels(&mut held, labels).unwrap();
    let mut loss = b.zeros([1, 2, 1]).unwrap();
    let mut d = upload(b, [1, n, classes], &normal(2, n * classes));
    b.cross_entropy(&mut loss, 1, ViewMut::all(&mut d), View::all(&logits), &held);
    [read(b, &loss).await, read(b, &d).await]
}

async fn ignored_labels_do_not_count() {
    with_each_variant(None, async |pair| {
        for labels in [&[IGNORED, 2, 0, IGNORED, 1][..], &[IGNORED; 3], &[1, 1]] {
            let (got, want) = (masked_loss(&pair.gpu, labels, 5).await, masked_loss(&pair.cpu, labels, 5).await);
            assert_close(&format!("loss of {labels:?}"), &got[0], &want[0], 1.0, 1e-6);
            assert_close(&format!("its gradient, {labels:?}"), &got[1], &want[1], 1.0, 1e-6);
        }
    })
    .await;
}

device_tests!(
    layer_norm_and_its_gradient,
    activations,
    pooling_and_unit_rows,
    cross_entropy,
    rms_norm_and_its_gradient,
    gated_activation_and_its_gradients,
    pooling_of_padded_sequences,
    ignored_labels_do_not_count,
);
