//! Products, column scalings and norms of stacks, and the gradient of a penalty on chosen entries.

use eblora_core::backend::{Backend, Entries, Product};

use super::compare::assert_close;
use super::{normal, read, upload, with_device};

async fn stacks<B: Backend>(b: &B, [count, n, r]: [usize; 3]) -> Vec<Vec<f64>> {
    let random = |seed, shape: [usize; 3]| upload(b, shape, &normal(seed, shape.iter().product()));
    let (tall, square) = ([count, n, r], [count, r, r]);
    let (x, y, s) = (random(1, tall), random(2, tall), random(3, square));
    let mut all = [random(4, tall), random(5, square), random(6, tall), random(7, tall), random(8, [count, 1, r])];
    b.matmul_stack(&mut all[0], Product::Plain, [&x, &s], 0.7, true);
    b.matmul_stack(&mut all[1], Product::LeftTransposed, [&x, &y], 1.0, false);
    b.matmul_stack(&mut all[2], Product::RightTransposed, [&x, &s], -1.0, true);
    let columns = random(9, [count, 1, r]);
    b.scale_columns(&mut all[3], &columns);
    b.norm_gradient(&mut all[3], &x, 0.3);
    b.norm_gradient(&mut all[3], &b.zeros(tall).unwrap(), 5.0);
    b.column_dots(&mut all[4], &x, &y);
    let mut out = Vec::new();
    for t in &all {
        out.push(read(b, t).await);
    }
    let mut values = normal(10, count * n * r);
    values[0] = 0.0;
    let mut signs = upload(b, tall, &values);
    b.sign(&mut signs);
    out.push(read(b, &signs).await);
    out
}

pub async fn products_columns_and_norms_of_stacks() {
    let names = ["plain", "left transposed", "right transposed", "columns and norms", "column dots", "sign"];
    for (binding, shapes) in [
        (None, &[[1, 1, 1], [3, 17, 5], [2, 130, 64], [5, 257, 8]][..]),
        (Some(16 * 1024), &[[1, 1, 1], [3, 17, 5], [7, 130, 8]][..]),
    ] {
        with_device(binding, async |pair| {
            for &shape in shapes {
                let (got, want) = (stacks(&pair.gpu, shape).await, stacks(&pair.cpu, shape).await);
                for ((what, got), want) in names.iter().zip(&got).zip(&want) {
                    let length = if what.starts_with("left") || what.ends_with("dots") { shape[1] } else { shape[2] };
                    assert_close(&format!("{what} {shape:?}"), got, want, length as f64, 4e-7);
                }
            }
        })
        .await;
    }
}

/// Every n-th entry of each matrix, another n for each.
async fn entries<B: Backend>(b: &B, [count, out, inp, r]: [usize; 4]) -> Vec<Vec<f64>> {
    let chosen: Vec<Vec<(u32, u32)>> = (0..count)
        .map(|item| (0..out * inp).step_by(3 + item).map(|at| ((at / inp) as u32, (at % inp) as u32)).collect())
        .collect();
    let items: Vec<_> = chosen.iter().enumerate().map(|(i, c)| (c.as_slice(), 0.5 + i as f64)).collect();
    let mut entries = Entries::upload(b, [count, out, inp], &items).unwrap();
    let random = |seed, n: usize| upload(b, [count, n, r], &normal(seed, count * n * r));
    let (u, v, mut du, mut dv) = (random(1, out), random(2, inp), random(3, out), random(4, inp));
    b.entries_gradient([&mut du, &mut dv], &u, &v, &mut entries);
    vec![read(b, &du).await, read(b, &dv).await]
}

pub async fn the_gradient_of_chosen_entries() {
    with_device(None, async |pair| {
        for shape in [[1, 1, 1, 1], [2, 17, 5, 3], [3, 65, 130, 8]] {
            let (got, want) = (entries(&pair.gpu, shape).await, entries(&pair.cpu, shape).await);
            for ((what, got), want) in ["dU", "dV"].iter().zip(&got).zip(&want) {
                // Sums of about a third of a line; a product that rounding could turn is not among these.
                let length = shape[1].max(shape[2]) as f64;
                assert_close(&format!("{what} {shape:?}"), got, want, length, 4e-7);
            }
        }
    })
    .await;
}

device_tests!(products_columns_and_norms_of_stacks, the_gradient_of_chosen_entries);
