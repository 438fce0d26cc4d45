//! Products in every orientation, with every epilogue, in batches through views, and over shards.

use eblora_core::backend::{Backend, Epilogue, Scale, View, ViewMut};

use super::compare::assert_close;
use super::{Pair, SIZES, normal, read, upload, with_device};

/// A product and what goes with it.
#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    /// Which operands are stored as their transposes.
    stored: [bool; 2],
    bias: bool,
    accumulate: bool,
    scaled: bool,
}

async fn product<B: Backend>(b: &B, case: Case) -> Vec<f64> {
    let Case { m, n, k, stored, bias, accumulate, scaled } = case;
    let shape = |rows, cols, t: bool| if t { [1, cols, rows] } else { [1, rows, cols] };
    let x = upload(b, shape(m, k, stored[0]), &normal(1, m * k));
    let y = upload(b, shape(k, n, stored[1]), &normal(2, k * n));
    let row = upload(b, [1, 1, n], &normal(3, n));
    let factor = upload(b, [3, 1, 1], &[9.0, -0.5, 7.0]);
    let mut out = upload(b, [1, m, n], &normal(4, m * n));
    let view = |t, transposed: bool| if transposed { View::all(t).t() } else { View::all(t) };
    let scale = if scaled { Scale::Item(&factor, 1) } else { Scale::Value(1.5) };
    let epilogue = Epilogue { scale, bias: bias.then_some(&row), accumulate };
    b.matmul(ViewMut::all(&mut out), view(&x, stored[0]), view(&y, stored[1]), epilogue);
    read(b, &out).await
}

async fn check(pair: &Pair, case: Case) {
    let (got, want) = (product(&pair.gpu, case).await, product(&pair.cpu, case).await);
    // A sum of k products of normal values is about √k; its rounding error at most k·ε times the sum of magnitudes.
    let scale = 3.0 + 2.0 * (case.k as f64).sqrt();
    let bound = f64::from(f32::EPSILON) * (4.0 + (case.k as f64).sqrt());
    assert_close(&format!("{case:?}"), &got, &want, scale, bound);
}

async fn every_size_and_orientation() {
    with_device(None, async |pair| {
        for (i, &m) in SIZES.iter().enumerate() {
            for (j, &n) in SIZES.iter().enumerate() {
                let k = SIZES[(3 * i + 2 * j + 1) % SIZES.len()];
                let stored = [(i + j) % 2 == 0, j % 2 == 0];
                let case = Case { m, n, k, stored, bias: i % 2 == 0, accumulate: j % 3 == 0, scaled: (i + j) % 3 == 0 };
                check(pair, case).await;
            }
        }
    })
    .await;
}

async fn tiles_and_one_beyond() {
    with_device(None, async |pair| {
        for stored in [[false, false], [false, true], [true, false], [true, true]] {
            // Large tiles need many workgroups; tall and flat ones a narrow side.
            for (m, n, k) in [(1281, 1279, 9), (1280, 1280, 8), (127, 16, 33), (16, 129, 31), (63, 15, 16), (64, 64, 0)]
            {
                check(pair, Case { m, n, k, stored, bias: true, accumulate: true, scaled: false }).await;
            }
        }
    })
    .await;
}

async fn shards_give_the_same_as_one_buffer() {
    // 4 KiB a binding: every operand lies in several shards.
    with_device(Some(4096), async |pair| {
        for stored in [[false, false], [false, true], [true, false], [true, true]] {
            for accumulate in [false, true] {
                let case = Case { m: 70, n: 50, k: 90, stored, bias: true, accumulate, scaled: true };
                check(pair, case).await;
            }
        }
    })
    .await;
}

async fn through_views<B: Backend>(b: &B) -> Vec<f64> {
    let a = upload(b, [5, 20, 12], &normal(1, 5 * 20 * 12));
    let w = upload(b, [3, 7, 12], &normal(2, 3 * 7 * 12));
    let mut out = upload(b, [5, 20, 7], &normal(3, 5 * 20 * 7));
    for item in 0..3 {
        let a = View::item(&a, item + 1).every(2, 9);
        b.matmul(ViewMut::item(&mut out, item).every(2, 9), a, View::item(&w, item).t(), Epilogue::default());
    }
    read(b, &out).await
}

async fn views_touch_their_own_places_only() {
    with_device(None, async |pair| {
        let (got, want) = (through_views(&pair.gpu).await, through_views(&pair.cpu).await);
        assert_close("views", &got, &want, 5.0, 1e-6);
    })
    .await;
}

async fn a_zero_factor_gives_zeros() {
    with_device(None, async |pair| {
        let zero = pair.gpu.zeros([1, 65, 17]).unwrap();
        let b = upload(&pair.gpu, [1, 17, 3], &normal(1, 51));
        let mut out = upload(&pair.gpu, [1, 65, 3], &vec![f32::NAN; 195]);
        pair.gpu.matmul(ViewMut::all(&mut out), View::all(&zero), View::all(&b), Epilogue::default());
        assert_eq!(read(&pair.gpu, &out).await, [0.0; 195], "what was there before must not be read");
    })
    .await;
}

device_tests!(
    every_size_and_orientation,
    tiles_and_one_beyond,
    shards_give_the_same_as_one_buffer,
    views_touch_their_own_places_only,
    a_zero_factor_gives_zeros,
);
