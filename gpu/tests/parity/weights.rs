//! Frozen weights in 32 and 16 bits: products and gathers.

use std::sync::Arc;

use eblora_core::backend::{Backend, Epilogue, Packed, Scale, Stored, View, ViewMut};

use super::compare::assert_close;
use super::{Pair, normal, read, upload, with_device};

const FORMATS: [&str; 5] = ["f32", "bf16", "f16", "eighths", "packed bf16"];

/// A form of its own: eighths from −16 to 15.875. Or plain values behind the pointer.
#[derive(Debug)]
enum Kept {
    Eighths(Vec<i8>),
    Bf16(Vec<u16>),
}

impl Packed for Kept {
    fn len(&self) -> usize {
        match self {
            Self::Eighths(values) => values.len(),
            Self::Bf16(bits) => bits.len(),
        }
    }

    fn plain(&self) -> Option<Stored<'_>> {
        match self {
            Self::Eighths(_) => None,
            Self::Bf16(bits) => Some(Stored::Bf16(bits)),
        }
    }

    fn unpack(&self, first: usize, dst: &mut [f32]) {
        let Self::Eighths(values) = self else { panic!("plain values are used as they are") };
        dst.iter_mut().zip(&values[first..]).for_each(|(x, &q)| *x = f32::from(q) / 8.0);
    }
}

/// Weights in a format: the same bits for both.
fn weights<B: Backend>(b: &B, format: &str, rows: usize, cols: usize) -> B::Weights {
    let values = normal(7, rows * cols);
    let half: Vec<u16> = values
        .iter()
        .map(|&v| if format.ends_with("bf16") { (v.to_bits() >> 16) as u16 } else { half::f16::from_f32(v).to_bits() })
        .collect();
    let packed: Arc<dyn Packed> = match format {
        "eighths" => Arc::new(Kept::Eighths(values.iter().map(|v| (v * 8.0) as i8).collect())),
        _ => Arc::new(Kept::Bf16(half.clone())),
    };
    let stored = match format {
        "f32" => Stored::F32(&values),
        "bf16" => Stored::Bf16(&half),
        "f16" => Stored::F16(&half),
        _ => Stored::Packed(&packed),
    };
    b.upload_weights(rows, cols, stored).unwrap()
}

async fn products<B: Backend>(b: &B, format: &str, [m, n, k]: [usize; 3]) -> Vec<Vec<f64>> {
    let w = weights(b, format, n, k);
    let (x, dy) = (upload(b, [1, m, k], &normal(1, m * k)), upload(b, [1, m, n], &normal(2, m * n)));
    let bias = upload(b, [1, 1, n], &normal(3, n));
    let (mut y, mut dx) = (upload(b, [1, m, n], &normal(4, m * n)), upload(b, [1, m, k], &normal(5, m * k)));
    let epilogue = Epilogue { scale: Scale::Value(0.5), bias: Some(&bias), accumulate: true };
    b.matmul_weights(ViewMut::all(&mut y), View::all(&x), View::all(&w).t(), epilogue);
    b.matmul_weights(ViewMut::all(&mut dx), View::all(&dy), View::all(&w), Epilogue::default());
    vec![read(b, &y).await, read(b, &dx).await]
}

async fn products_with_frozen_weights() {
    let all = async |pair: &Pair| {
        for format in FORMATS {
            for extents in [[1, 1, 1], [3, 17, 65], [64, 130, 63], [17, 65, 130], [130, 300, 31]] {
                let (got, want) =
                    (products(&pair.gpu, format, extents).await, products(&pair.cpu, format, extents).await);
                let longest = extents[1].max(extents[2]) as f64;
                let (scale, bound) = (2.0 * longest.sqrt(), f64::from(f32::EPSILON) * (4.0 + longest.sqrt()));
                for ((what, got), want) in ["y", "dx"].iter().zip(&got).zip(&want) {
                    assert_close(&format!("{format} {extents:?}: {what}"), got, want, scale, bound);
                }
            }
        }
    };
    with_device(None, all).await;
    with_device(Some(4096), all).await;
}

async fn gathered<B: Backend>(b: &B, format: &str, cols: usize) -> Vec<f64> {
    let table = weights(b, format, 50, cols);
    let mut ids = b.labels(6).unwrap();
    b.write_labels(&mut ids, &[3, 49, 0, 50, 3]).unwrap();
    let mut y = upload(b, [1, 5, cols], &normal(1, 5 * cols));
    b.gather(ViewMut::all(&mut y), &table, &ids, true);
    let mut z = upload(b, [1, 5, cols], &normal(2, 5 * cols));
    b.gather(ViewMut::all(&mut z), &table, &ids, false);
    let mut both = read(b, &y).await;
    both.extend(read(b, &z).await);
    both
}

async fn rows_of_a_table_by_their_numbers() {
    let all = async |pair: &Pair| {
        for format in FORMATS {
            for cols in [1, 17, 64] {
                let (got, want) = (gathered(&pair.gpu, format, cols).await, gathered(&pair.cpu, format, cols).await);
                assert_close(&format!("{format}, {cols} columns"), &got, &want, 1.0, 2e-7);
            }
        }
    };
    with_device(None, all).await;
    with_device(Some(1024), all).await;
}

async fn too_few_weights_are_refused() {
    with_device(None, async |pair| {
        assert!(pair.gpu.upload_weights(2, 3, Stored::Bf16(&[0; 5])).is_err());
        assert!(pair.cpu.upload_weights(2, 3, Stored::Bf16(&[0; 5])).is_err());
    })
    .await;
}

device_tests!(products_with_frozen_weights, rows_of_a_table_by_their_numbers, too_few_weights_are_refused,);
