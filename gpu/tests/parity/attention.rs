//! Attention and its gradients: full, causal with cached keys, grouped heads, padded sequences; rotary positions.

use eblora_core::backend::{AttentionShape, Backend, RopeShape, View, ViewMut};

use super::compare::assert_close;
use super::{Pair, normal, read, upload, with_device, with_each_variant};

async fn attention<B: Backend>(b: &B, shape: AttentionShape, dh: usize, lengths: Option<&[u32]>) -> Vec<Vec<f64>> {
    let AttentionShape { batch, tokens, keys, heads, kv_heads, .. } = shape;
    let input = |seed, rows, heads| upload(b, [batch, rows, heads * dh], &normal(seed, batch * rows * heads * dh));
    let (q, d_o) = (input(1, tokens, heads), input(4, tokens, heads));
    let (k, v) = (input(2, keys, kv_heads), input(3, keys, kv_heads));
    let zeros = |rows, heads| b.zeros([batch, rows, heads * dh]).unwrap();
    let (mut o, mut dq) = (zeros(tokens, heads), zeros(tokens, heads));
    let (mut dk, mut dv) = (zeros(keys, kv_heads), zeros(keys, kv_heads));
    let squares = || b.zeros([batch * heads, tokens, keys]).unwrap();
    let (mut p, mut scratch) = (squares(), squares());
    let labels = lengths.map(|lengths| {
        let mut labels = b.labels(batch).unwrap();
        b.write_labels(&mut labels, lengths).unwrap();
        labels
    });
    let (d_o, q, k, v) = (View::all(&d_o), View::all(&q), View::all(&k), View::all(&v));
    b.attention(ViewMut::all(&mut o), &mut p, q, k, v, labels.as_ref(), shape);
    let grads = [ViewMut::all(&mut dq), ViewMut::all(&mut dk), ViewMut::all(&mut dv)];
    b.attention_backward(grads, d_o, &p, &mut scratch, q, k, v, shape);
    let mut all = Vec::new();
    for t in [&o, &p, &dq, &dk, &dv] {
        all.push(read(b, t).await);
    }
    all
}

async fn check(pair: &Pair, shape: AttentionShape, dh: usize, lengths: Option<&[u32]>) {
    let (got, want) = (attention(&pair.gpu, shape, dh, lengths).await, attention(&pair.cpu, shape, dh, lengths).await);
    for ((what, got), want) in ["o", "p", "dq", "dk", "dv"].iter().zip(&got).zip(&want) {
        let scale = if *what == "p" { 0.1 } else { 2.0 };
        let bound = 1e-6 * (4.0 + (shape.keys.max(dh) as f64).sqrt());
        assert_close(&format!("{shape:?}, {dh}, {lengths:?}: {what}"), got, want, scale, bound);
    }
}

async fn attention_and_its_gradients() {
    let all = async |pair: &Pair| {
        for (batch, tokens, heads, dh) in [(1, 1, 1, 1), (5, 17, 3, 8), (2, 65, 2, 32), (1, 130, 1, 64), (3, 3, 4, 17)]
        {
            check(pair, AttentionShape::full(batch, tokens, heads), dh, None).await;
        }
    };
    with_each_variant(None, all).await;
    // Sequences in different shards, and heads' probabilities too.
    with_device(Some(80 * 1024), all).await;
}

async fn causal_grouped_and_padded_attention() {
    let all = async |pair: &Pair| {
        for (tokens, keys, heads, kv_heads, dh) in
            [(1, 1, 2, 1, 4), (17, 17, 6, 2, 8), (3, 20, 4, 4, 16), (1, 65, 9, 3, 5)]
        {
            let shape = AttentionShape { batch: 3, tokens, keys, heads, kv_heads, causal: true };
            check(pair, shape, dh, None).await;
            check(pair, AttentionShape { causal: false, ..shape }, dh, Some(&[keys as u32, 1, 0])).await;
            check(pair, shape, dh, Some(&[0, keys as u32 + 7, 1])).await;
        }
    };
    with_each_variant(None, all).await;
    with_device(Some(16 * 1024), all).await;
}

async fn turned<B: Backend>(b: &B, n: usize, dh: usize, shape: RopeShape) -> Vec<f64> {
    let half = dh / 2;
    let angle = |p: usize, j: usize| p as f32 * 0.3 / (1.0 + j as f32);
    let table: Vec<f32> = (0..40)
        .flat_map(|p| (0..dh).map(move |j| if j < half { angle(p, j).cos() } else { angle(p, j - half).sin() }))
        .collect();
    let table = upload(b, [1, 40, dh], &table);
    let cols = shape.heads * dh;
    let mut x = upload(b, [1, n, cols], &normal(1, n * cols));
    b.rope(ViewMut::all(&mut x), &table, shape);
    read(b, &x).await
}

async fn rotary_positions_turn_and_turn_back() {
    let all = async |pair: &Pair| {
        for (n, heads, dh, tokens, start) in [(1, 1, 2, 1, 0), (34, 3, 8, 17, 5), (130, 2, 64, 26, 14)] {
            for inverse in [false, true] {
                let shape = RopeShape { heads, tokens, start, inverse };
                let (got, want) = (turned(&pair.gpu, n, dh, shape).await, turned(&pair.cpu, n, dh, shape).await);
                assert_close(&format!("{shape:?}"), &got, &want, 1.0, 4e-7);
            }
        }
    };
    with_each_variant(None, all).await;
    with_device(Some(16 * 1024), all).await;
}

device_tests!(attention_and_its_gradients, causal_grouped_and_padded_attention, rotary_positions_turn_and_turn_back,);
