//! Attention and its gradients.

use eblora_core::backend::{AttentionShape, Backend, View, ViewMut};

use crate::compare::assert_close;
use crate::{Pair, normal, read, upload, with_device};

async fn attention<B: Backend>(b: &B, shape: AttentionShape, dh: usize) -> Vec<Vec<f64>> {
    let AttentionShape { batch, tokens, heads } = shape;
    let (n, d) = (batch * tokens, heads * dh);
    let input = |seed| upload(b, [batch, tokens, d], &normal(seed, n * d));
    let (q, k, v, d_o) = (input(1), input(2), input(3), input(4));
    let zeros = || b.zeros([batch, tokens, d]).unwrap();
    let (mut o, mut dq, mut dk, mut dv) = (zeros(), zeros(), zeros(), zeros());
    let squares = || b.zeros([batch * heads, tokens, tokens]).unwrap();
    let (mut p, mut scratch) = (squares(), squares());
    b.attention(ViewMut::all(&mut o), &mut p, View::all(&q), View::all(&k), View::all(&v), shape);
    let grads = [ViewMut::all(&mut dq), ViewMut::all(&mut dk), ViewMut::all(&mut dv)];
    let (d_o, q, k, v) = (View::all(&d_o), View::all(&q), View::all(&k), View::all(&v));
    b.attention_backward(grads, d_o, &p, &mut scratch, q, k, v, shape);
    let mut all = Vec::new();
    for t in [&o, &p, &dq, &dk, &dv] {
        all.push(read(b, t).await);
    }
    all
}

#[test]
fn attention_and_its_gradients() {
    let check = async |pair: &Pair| {
        for (batch, tokens, heads, dh) in [(1, 1, 1, 1), (5, 17, 3, 8), (2, 65, 2, 32), (1, 130, 1, 64), (3, 3, 4, 17)]
        {
            let shape = AttentionShape { batch, tokens, heads };
            let (got, want) = (attention(&pair.gpu, shape, dh).await, attention(&pair.cpu, shape, dh).await);
            for ((what, got), want) in ["o", "p", "dq", "dk", "dv"].iter().zip(&got).zip(&want) {
                let scale = if *what == "p" { 0.1 } else { 2.0 };
                let bound = 1e-6 * (4.0 + (tokens.max(dh) as f64).sqrt());
                assert_close(&format!("{shape:?}, {dh}: {what}"), got, want, scale, bound);
            }
        }
    };
    with_device(None, check);
    // Sequences in different shards, and heads' probabilities too.
    with_device(Some(80 * 1024), check);
}
