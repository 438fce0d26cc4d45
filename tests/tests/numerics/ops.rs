//! Every kernel of the CPU backend, forward and backward, against `ops.safetensors`. The biases' and the layer norms' own
//! gradients have no kernel: those weights are frozen.

use crate::fixtures::{Bound, Check, Fixture};
use eblora_core::Real;
use eblora_core::backend::{
    Activation, AttentionShape, Backend, Cpu, Epilogue, Scale, Shaped, View, ViewMut, cpu::CpuTensor,
};
use eblora_core::model::vit::{Head, Pooling, Preprocess, VitConfig, patchify, patchify_normalized};

fn zeros<T: Real>(rows: usize, cols: usize) -> CpuTensor<T> {
    Cpu::new().zeros([1, rows, cols]).expect("memory")
}

fn like<T: Real>(x: &CpuTensor<T>) -> CpuTensor<T> {
    Cpu::new().zeros(x.shape()).expect("memory")
}

fn tensor<T: Real>(rows: usize, cols: usize, value: impl Fn(usize, usize) -> f64) -> CpuTensor<T> {
    let values: Vec<T> = (0..rows * cols).map(|i| T::of(value(i / cols, i % cols))).collect();
    Cpu::new().upload([1, rows, cols], &values).expect("memory")
}

/// `scale·a·b`.
fn product<T: Real>(a: View<'_, CpuTensor<T>>, b: View<'_, CpuTensor<T>>, scale: f64) -> CpuTensor<T> {
    let mut dst = zeros(a.rows, b.cols);
    Cpu::new().matmul(ViewMut::all(&mut dst), a, b, Epilogue::scaled(Scale::Value(scale)));
    dst
}

fn matmul<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("ops"), Cpu::<T>::new(), Check::new::<T>("matmul"));
    for case in fixture.cases("matmul", "c") {
        let of = |name: &str| format!("{case}.{name}");
        let up = |name: &str| fixture.upload::<T>(&of(name));
        let (a, b, dc) = (up("a"), up("b"), up("dc"));
        let kind = &case["matmul.".len()..][..2];
        let (va, vb, vdc) = (View::all(&a), View::all(&b), View::all(&dc));
        let (ta, tb) = (if kind == "tn" { va.t() } else { va }, if kind == "nt" { vb.t() } else { vb });
        let alpha = if fixture.has(&of("alpha")) { fixture.scalar(&of("alpha")) } else { 1.0 };
        let bias = fixture.has(&of("bias")).then(|| up("bias"));
        let accumulate = fixture.has(&of("c0"));
        let start = if accumulate { up("c0") } else { tensor(dc.shape()[1], dc.shape()[2], |_, _| f64::NAN) };
        let on_device = tensor(1, 2, |_, j| if j == 1 { alpha } else { f64::NAN });
        for scale in [Scale::Value(alpha), Scale::Item(&on_device, 1)] {
            let mut c = start.clone();
            cpu.matmul(ViewMut::all(&mut c), ta, tb, Epilogue { scale, bias: bias.as_ref(), accumulate });
            check.tensor(&of("c"), c.values(), &fixture.get(&of("c")).values, Bound::reduction::<T>(ta.cols + 2));
        }
        let (da, db) = match kind {
            "nn" => (product(vdc, vb.t(), alpha), product(va.t(), vdc, alpha)),
            "nt" => (product(vdc, vb, alpha), product(vdc.t(), va, alpha)),
            _ => (product(vb, vdc.t(), alpha), product(va, vdc, alpha)),
        };
        let length = vdc.rows.max(vdc.cols);
        check.tensor(&of("da"), da.values(), &fixture.get(&of("da")).values, Bound::reduction::<T>(length));
        check.tensor(&of("db"), db.values(), &fixture.get(&of("db")).values, Bound::reduction::<T>(length));
    }
}

fn layer_norm<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("ops"), Cpu::<T>::new(), Check::new::<T>("layer_norm"));
    for case in fixture.cases("layer_norm", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let up = |name: &str| fixture.upload::<T>(&of(name));
        let (x, gamma, beta, dy) = (up("x"), up("gamma"), up("beta"), up("dy"));
        let [_, rows, width] = x.shape();
        let (mut y, mut stats, mut dx) = (like(&x), zeros(rows, 2), like(&x));
        let epsilon = fixture.scalar(&of("eps"));
        cpu.layer_norm(ViewMut::all(&mut y), &mut stats, View::all(&x), &gamma, &beta, epsilon);
        // Subtracting the mean costs what the rows are away from 0, in units of their spread.
        let values = &fixture.get(&of("x")).values;
        let far = values.chunks(width).map(|row| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
            mean.abs() / (variance + epsilon).sqrt()
        });
        let condition = 1.0 + far.fold(0.0, f64::max);
        let bound = Bound::reduction::<T>((width as f64 * condition).ceil() as usize);
        check.tensor(&of("y"), y.values(), &fixture.get(&of("y")).values, bound);
        let views = (View::all(&dy), View::all(&x));
        cpu.layer_norm_backward(ViewMut::all(&mut dx), views.0, views.1, &stats, &gamma);
        check.tensor(&of("dx"), dx.values(), &fixture.get(&of("dx")).values, bound);
        // It adds to what is there.
        let first = dx.clone();
        cpu.layer_norm_backward(ViewMut::all(&mut dx), views.0, views.1, &stats, &gamma);
        let twice: Vec<f64> = first.values().iter().map(|x| 2.0 * x.f64()).collect();
        check.tensor(&of("dx twice"), dx.values(), &twice, Bound::reduction::<T>(2));
    }
}

fn gelu<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("ops"), Cpu::<T>::new(), Check::new::<T>("gelu"));
    for case in fixture.cases("gelu", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let (x, mut dx) = (fixture.upload::<T>(&of("x")), fixture.upload::<T>(&of("dy")));
        let mut y = like(&x);
        cpu.activation(Activation::Gelu, ViewMut::all(&mut y), View::all(&x));
        cpu.activation_backward(Activation::Gelu, ViewMut::all(&mut dx), View::all(&x));
        // erf and exp to a few units in the last place: length 4.
        check.tensor(&of("y"), y.values(), &fixture.get(&of("y")).values, Bound::reduction::<T>(4));
        check.tensor(&of("dx"), dx.values(), &fixture.get(&of("dx")).values, Bound::reduction::<T>(4));
    }
}

/// Attention and its gradients: `[o, probabilities, dq, dk, dv]`.
fn attend<T: Real>([q, k, v, d_o]: [&CpuTensor<T>; 4], shape: AttentionShape) -> [CpuTensor<T>; 5] {
    let cpu = Cpu::<T>::new();
    let square = [shape.batch * shape.heads, shape.tokens, shape.tokens];
    let (mut o, mut p, mut scratch) = (like(q), cpu.zeros(square).expect("memory"), cpu.zeros(square).expect("memory"));
    let views = (View::all(q), View::all(k), View::all(v));
    cpu.attention(ViewMut::all(&mut o), &mut p, views.0, views.1, views.2, None, shape);
    let (mut dq, mut dk, mut dv) = (like(q), like(k), like(v));
    let grads = [ViewMut::all(&mut dq), ViewMut::all(&mut dk), ViewMut::all(&mut dv)];
    cpu.attention_backward(grads, View::all(d_o), &p, &mut scratch, views.0, views.1, views.2, shape);
    [o, p, dq, dk, dv]
}

fn attention<T: Real>() {
    let (fixture, mut check) = (Fixture::read("ops"), Check::new::<T>("attention"));
    for case in fixture.cases("attention", "o") {
        let of = |name: &str| format!("{case}.{name}");
        let up = |name: &str| fixture.upload::<T>(&of(name));
        let extents = &fixture.get(&of("q")).shape;
        let heads = fixture.scalar(&of("heads")) as usize;
        let shape = AttentionShape::full(extents[0], extents[1], heads);
        let [o, _, dq, dk, dv] = attend([&up("q"), &up("k"), &up("v"), &up("do")], shape);
        // Two sums in a row (scores, mixture), two more on the way back.
        let bound = Bound::reduction::<T>(2 * (extents[1] + extents[2] / heads));
        for (name, got) in [("o", o), ("dq", dq), ("dk", dk), ("dv", dv)] {
            check.tensor(&of(name), got.values(), &fixture.get(&of(name)).values, bound);
        }
    }
}

/// The softmax inside the attention: with `q = x` (rows of zeros below, columns of zeros beside), `k = v = I` and a
/// head whose width is a power of 4, the scores are x up to a power of 2, and `o` the probabilities.
fn softmax<T: Real>() {
    let (fixture, mut check) = (Fixture::read("ops"), Check::new::<T>("softmax"));
    for case in fixture.cases("softmax", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let (x, dy) = (fixture.get(&of("x")), fixture.get(&of("dy")));
        let (rows, cols) = (x.shape[0], x.shape[1]);
        let width = (0..).map(|i| 4_usize.pow(i)).find(|&w| w >= cols).expect("a power");
        let root = (width as f64).sqrt();
        let padded = |from: &[f64], factor: f64| {
            tensor::<T>(cols, width, |i, j| if i < rows && j < cols { from[i * cols + j] * factor } else { 0.0 })
        };
        let identity = tensor::<T>(cols, width, |i, j| f64::from(u8::from(i == j)));
        let operands = [&padded(&x.values, root), &identity, &identity, &padded(&dy.values, 1.0)];
        let [o, p, dq, ..] = attend(operands, AttentionShape::full(1, cols, 1));
        let corner = |from: &CpuTensor<T>, width: usize, factor: f64| -> Vec<f64> {
            let row = |i: usize| from.values()[i * width..][..cols].iter().map(|v| v.f64() * factor);
            (0..rows).flat_map(row).collect()
        };
        let bound = Bound::reduction::<T>(cols + 2);
        let as_t = |values: Vec<f64>| values.into_iter().map(T::of).collect::<Vec<T>>();
        let want = &fixture.get(&of("y")).values;
        check.tensor(&of("y"), &as_t(corner(&p, cols, 1.0)), want, bound);
        check.tensor(&of("y mixed"), &as_t(corner(&o, width, 1.0)), want, bound);
        check.tensor(&of("dx"), &as_t(corner(&dq, width, root)), &fixture.get(&of("dx")).values, bound);
    }
}

fn rowwise<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("ops"), Cpu::<T>::new(), Check::new::<T>("pool, normalise, loss"));
    for case in fixture.cases("mean_pool", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let (x, dy) = (fixture.upload::<T>(&of("x")), fixture.upload::<T>(&of("dy")));
        let tokens = fixture.get(&of("x")).shape[1];
        let (mut y, mut dx) = (like(&dy), like(&x));
        cpu.mean_pool(ViewMut::all(&mut y), View::all(&x), tokens, None);
        cpu.mean_pool_backward(ViewMut::all(&mut dx), View::all(&dy), tokens, None);
        check.tensor(&of("y"), y.values(), &fixture.get(&of("y")).values, Bound::reduction::<T>(tokens));
        check.tensor(&of("dx"), dx.values(), &fixture.get(&of("dx")).values, Bound::reduction::<T>(1));
    }
    for case in fixture.cases("l2_normalize", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let (x, dy) = (fixture.upload::<T>(&of("x")), fixture.upload::<T>(&of("dy")));
        let [_, rows, width] = x.shape();
        let (mut y, mut norms, mut dx) = (like(&x), zeros(rows, 1), like(&x));
        cpu.l2_normalize(ViewMut::all(&mut y), &mut norms, View::all(&x));
        cpu.l2_normalize_backward(ViewMut::all(&mut dx), View::all(&dy), View::all(&y), &norms);
        check.tensor(&of("y"), y.values(), &fixture.get(&of("y")).values, Bound::reduction::<T>(width + 1));
        check.tensor(&of("dx"), dx.values(), &fixture.get(&of("dx")).values, Bound::reduction::<T>(2 * width + 1));
    }
    for case in fixture.cases("cross_entropy", "loss") {
        let of = |name: &str| format!("{case}.{name}");
        let (logits, labels) = (fixture.upload::<T>(&of("logits")), fixture.labels(&of("labels")));
        let (mut loss, mut d) = (zeros(1, 3), like(&logits));
        cpu.cross_entropy(&mut loss, 1, ViewMut::all(&mut d), View::all(&logits), &labels);
        let [_, rows, classes] = logits.shape();
        let want = [0.0, fixture.scalar(&of("loss")), 0.0];
        check.tensor(&of("loss"), loss.values(), &want, Bound::reduction::<T>(rows + classes));
        check.tensor(&of("dlogits"), d.values(), &fixture.get(&of("dlogits")).values, Bound::reduction::<T>(classes));
    }
}

/// The products of `model::Linear`, with the weight's own gradient beside.
fn low_rank_linear<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("ops"), Cpu::<T>::new(), Check::new::<T>("low_rank_linear"));
    for case in fixture.cases("low_rank_linear", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let up = |name: &str| fixture.upload::<T>(&of(name));
        let (x, w, b, u, v, s, dy) = (up("x"), up("w"), up("b"), up("u"), up("v"), up("s"), up("dy"));
        let (vx, vdy) = (View::all(&x), View::all(&dy));
        let add = Epilogue::add(Scale::Item(&s, 0));
        let mut y = like(&dy);
        cpu.matmul(ViewMut::all(&mut y), vx, View::all(&w).t(), Epilogue::bias(Some(&b)));
        let z = product(vx, View::all(&v), 1.0);
        cpu.matmul(ViewMut::all(&mut y), View::all(&z), View::all(&u).t(), add);
        let dz = product(vdy, View::all(&u), 1.0);
        let mut ds = zeros(1, 1);
        cpu.dot(&mut ds, 0, View::all(&z), View::all(&dz));
        let s_value = fixture.scalar(&of("s"));
        let du = product(vdy.t(), View::all(&z), s_value);
        let dv = product(vx.t(), View::all(&dz), s_value);
        let mut dx = product(vdy, View::all(&w), 1.0);
        cpu.matmul(ViewMut::all(&mut dx), View::all(&dz), View::all(&v).t(), add);
        let dw = product(vdy.t(), vx, 1.0);
        let ones = tensor(1, dy.shape()[1], |_, _| 1.0);
        let db = product(View::all(&ones), vdy, 1.0);
        let [_, n, inp] = x.shape();
        let length = n + inp + dy.shape()[2] + z.shape()[2];
        for (name, got) in [("y", y), ("ds", ds), ("du", du), ("dv", dv), ("dx", dx), ("dw", dw), ("db", db)] {
            check.tensor(&of(name), got.values(), &fixture.get(&of(name)).values, Bound::reduction::<T>(length));
        }
    }
}

#[test]
fn patchify_has_the_order_of_a_convolution_weight() {
    let fixture = Fixture::read("ops");
    let mut tried = 0;
    for case in fixture.cases("patchify", "y") {
        let (x, y) = (fixture.get(&format!("{case}.x")), fixture.get(&format!("{case}.y")));
        let patch = fixture.scalar(&format!("{case}.patch")) as usize;
        if x.shape[2] != x.shape[3] {
            continue; // our models take square images only
        }
        tried += 1;
        for class_token in [false, true] {
            let mut config = square(x.shape[1], x.shape[2], patch);
            config.class_token = class_token;
            let (per_image, skip) = (config.tokens() * config.patch_values(), config.tokens() - config.patches());
            let skip = skip * config.patch_values();
            let (len, want_len) = (config.pixels(), per_image - skip);
            for (i, want) in y.values.chunks(want_len).enumerate() {
                let mut got = vec![7.5; per_image];
                patchify_normalized(&mut got, &x.values[i * len..][..len], &config);
                assert_eq!(&got[skip..], want, "{case}");
                assert!(got[..skip].iter().all(|&x| x == 7.5), "the class token's row was written");
            }
            // Bytes: the same places, and the model's scaling.
            let bytes: Vec<u8> = (0..len).map(|i| (i * 37 % 256) as u8).collect();
            let scaled = |i: usize| f64::from(bytes[i]) / 255.0 * 4.0 - 2.0;
            let (mut from_bytes, mut want) = (vec![0.0; per_image], vec![0.0; per_image]);
            patchify(&mut from_bytes, &bytes, &config);
            patchify_normalized(&mut want, &(0..len).map(scaled).collect::<Vec<f64>>(), &config);
            Check::new::<f64>("patchify").tensor(&case, &from_bytes, &want, Bound::reduction::<f64>(1));
        }
    }
    assert_eq!(tried, 2);
}

/// A configuration for images of this size; mean 0.5 and deviation 0.25 on every channel.
fn square(channels: usize, image: usize, patch: usize) -> VitConfig {
    VitConfig {
        hidden: 4,
        layers: 1,
        heads: 1,
        mlp: 4,
        channels,
        image,
        patch,
        classes: 2,
        layer_norm_epsilon: 1e-6,
        gelu: Activation::Gelu,
        class_token: false,
        pooling: Pooling::Mean,
        head: Head::Linear,
        preprocess: Preprocess { rescale: 1.0 / 255.0, mean: vec![0.5; channels], std: vec![0.25; channels] },
    }
}

#[test]
fn kernels_equal_their_references_in_f64() {
    every_kernel::<f64>();
}

#[test]
fn kernels_equal_their_references_in_f32() {
    every_kernel::<f32>();
}

fn every_kernel<T: Real>() {
    matmul::<T>();
    layer_norm::<T>();
    gelu::<T>();
    attention::<T>();
    softmax::<T>();
    rowwise::<T>();
    low_rank_linear::<T>();
}
