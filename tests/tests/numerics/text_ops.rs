//! The kernels of language models, forward and backward, against `text_ops.safetensors`.

use crate::fixtures::{Bound, Check, Fixture};
use eblora_core::Real;
use eblora_core::backend::{
    Activation, AttentionShape, Backend, Cpu, Epilogue, RopeShape, Shaped, Stored, View, ViewMut, cpu::CpuTensor,
};

fn like<T: Real>(x: &CpuTensor<T>) -> CpuTensor<T> {
    Cpu::new().zeros(x.shape()).expect("memory")
}

fn integers(fixture: &Fixture, name: &str) -> Vec<u32> {
    fixture.get(name).values.iter().map(|&v| v as u32).collect()
}

fn norms_and_activations<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("text_ops"), Cpu::<T>::new(), Check::new::<T>("text_ops"));
    for case in fixture.cases("rms_norm", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let up = |name: &str| fixture.upload::<T>(&of(name));
        let (x, gamma, dy) = (up("x"), up("gamma"), up("dy"));
        let [_, rows, width] = x.shape();
        let (mut y, mut stats, mut dx) = (like(&x), cpu.zeros([1, rows, 1]).expect("memory"), like(&x));
        cpu.rms_norm(ViewMut::all(&mut y), &mut stats, View::all(&x), &gamma, fixture.scalar(&of("eps")));
        cpu.rms_norm_backward(ViewMut::all(&mut dx), View::all(&dy), View::all(&x), &stats, &gamma);
        let bound = Bound::reduction::<T>(width + 4);
        check.tensor(&of("y"), y.values(), &fixture.get(&of("y")).values, bound);
        check.tensor(&of("dx"), dx.values(), &fixture.get(&of("dx")).values, bound);
    }
    for (name, kind) in [("silu.5x13", Activation::Silu), ("gelu_tanh.5x13", Activation::GeluTanh)] {
        let of = |part: &str| format!("{name}.{part}");
        let (x, mut dx) = (fixture.upload::<T>(&of("x")), fixture.upload::<T>(&of("dy")));
        let mut y = like(&x);
        cpu.activation(kind, ViewMut::all(&mut y), View::all(&x));
        cpu.activation_backward(kind, ViewMut::all(&mut dx), View::all(&x));
        check.tensor(&of("y"), y.values(), &fixture.get(&of("y")).values, Bound::reduction::<T>(4));
        check.tensor(&of("dx"), dx.values(), &fixture.get(&of("dx")).values, Bound::reduction::<T>(8));
    }
    let up = |name: &str| fixture.upload::<T>(&format!("swiglu.4x11.{name}"));
    let (gate, up_, dy) = (up("gate"), up("up"), up("dy"));
    let (mut y, mut d_gate, mut d_up) = (like(&gate), like(&gate), like(&gate));
    cpu.swiglu(ViewMut::all(&mut y), View::all(&gate), View::all(&up_));
    let grads = [ViewMut::all(&mut d_gate), ViewMut::all(&mut d_up)];
    cpu.swiglu_backward(grads, View::all(&dy), View::all(&gate), View::all(&up_));
    for (name, got) in [("y", y), ("dgate", d_gate), ("dup", d_up)] {
        let name = format!("swiglu.4x11.{name}");
        check.tensor(&name, got.values(), &fixture.get(&name).values, Bound::reduction::<T>(8));
    }
}

fn rope<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("text_ops"), Cpu::<T>::new(), Check::new::<T>("rope"));
    for case in fixture.cases("rope", "y") {
        let of = |name: &str| format!("{case}.{name}");
        let (mut x, mut dy) = (fixture.upload::<T>(&of("x")), fixture.upload::<T>(&of("dy")));
        let table = fixture.upload::<T>(&of("table"));
        let tokens = fixture.get(&of("x")).shape[1];
        let (heads, start) = (fixture.scalar(&of("heads")) as usize, fixture.scalar(&of("start")) as usize);
        let shape = RopeShape { heads, tokens, start, inverse: false };
        cpu.rope(ViewMut::all(&mut x), &table, shape);
        cpu.rope(ViewMut::all(&mut dy), &table, RopeShape { inverse: true, ..shape });
        check.tensor(&of("y"), x.values(), &fixture.get(&of("y")).values, Bound::reduction::<T>(2));
        check.tensor(&of("dx"), dy.values(), &fixture.get(&of("dx")).values, Bound::reduction::<T>(2));
    }
}

fn attention<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("text_ops"), Cpu::<T>::new(), Check::new::<T>("attention"));
    for case in fixture.cases("attention", "o") {
        let of = |name: &str| format!("{case}.{name}");
        let up = |name: &str| fixture.upload::<T>(&of(name));
        let (q, k, v, d_o) = (up("q"), up("k"), up("v"), up("do"));
        let number = |name: &str| fixture.scalar(&of(name)) as usize;
        let (queries, held) = (&fixture.get(&of("q")).shape, &fixture.get(&of("k")).shape);
        let shape = AttentionShape {
            batch: queries[0],
            tokens: queries[1],
            keys: held[1],
            heads: number("heads"),
            kv_heads: number("kv_heads"),
            causal: number("causal") == 1,
        };
        let lengths = fixture.has(&of("lengths")).then(|| integers(&fixture, &of("lengths")));
        let square = [shape.batch * shape.heads, shape.tokens, shape.keys];
        let (mut o, mut p) = (like(&q), cpu.zeros(square).expect("memory"));
        let (mut dq, mut dk, mut dv, mut scratch) = (like(&q), like(&k), like(&v), p.clone());
        let views = (View::all(&q), View::all(&k), View::all(&v));
        cpu.attention(ViewMut::all(&mut o), &mut p, views.0, views.1, views.2, lengths.as_ref(), shape);
        let grads = [ViewMut::all(&mut dq), ViewMut::all(&mut dk), ViewMut::all(&mut dv)];
        cpu.attention_backward(grads, View::all(&d_o), &p, &mut scratch, views.0, views.1, views.2, shape);
        let bound = Bound::reduction::<T>(2 * (shape.keys + queries[2] / shape.heads));
        for (name, got) in [("o", o), ("dq", dq), ("dk", dk), ("dv", dv)] {
            check.tensor(&of(name), got.values(), &fixture.get(&of(name)).values, bound);
        }
    }
}

fn pooling_loss_and_weights<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("text_ops"), Cpu::<T>::new(), Check::new::<T>("text_ops"));
    let (x, dy) = (fixture.upload::<T>("mean_pool.lengths.x"), fixture.upload::<T>("mean_pool.lengths.dy"));
    let lengths = integers(&fixture, "mean_pool.lengths.lengths");
    let tokens = fixture.get("mean_pool.lengths.x").shape[1];
    let (mut y, mut dx) = (like(&dy), like(&x));
    cpu.mean_pool(ViewMut::all(&mut y), View::all(&x), tokens, Some(&lengths));
    cpu.mean_pool_backward(ViewMut::all(&mut dx), View::all(&dy), tokens, Some(&lengths));
    for (name, got) in [("mean_pool.lengths.y", y), ("mean_pool.lengths.dx", dx)] {
        check.tensor(name, got.values(), &fixture.get(name).values, Bound::reduction::<T>(tokens));
    }

    let logits = fixture.upload::<T>("cross_entropy.ignored.logits");
    let labels = integers(&fixture, "cross_entropy.ignored.labels");
    let (mut loss, mut d) = (cpu.zeros([1, 1, 1]).expect("memory"), like(&logits));
    cpu.cross_entropy(&mut loss, 0, ViewMut::all(&mut d), View::all(&logits), &labels);
    for (name, got) in [("cross_entropy.ignored.loss", loss), ("cross_entropy.ignored.dlogits", d)] {
        check.tensor(name, got.values(), &fixture.get(name).values, Bound::reduction::<T>(12));
    }

    for format in ["bf16", "f16"] {
        let of = |name: &str| format!("weights.{format}.{name}");
        let bits: Vec<u16> = integers(&fixture, &of("bits")).into_iter().map(|b| b as u16).collect();
        let stored = if format == "bf16" { Stored::Bf16(&bits) } else { Stored::F16(&bits) };
        let (x, dy) = (fixture.upload::<T>(&of("x")), fixture.upload::<T>(&of("dy")));
        let bias = fixture.upload::<T>(&of("bias"));
        let (out, inp) = (dy.shape()[2], x.shape()[2]);
        let weights = cpu.upload_weights(out, inp, stored).expect("the sizes agree");
        let (mut y, mut dx) = (like(&dy), like(&x));
        let epilogue = Epilogue::bias(Some(&bias));
        cpu.matmul_weights(ViewMut::all(&mut y), View::all(&x), View::all(&weights).t(), epilogue);
        cpu.matmul_weights(ViewMut::all(&mut dx), View::all(&dy), View::all(&weights), Epilogue::default());
        check.tensor(&of("y"), y.values(), &fixture.get(&of("y")).values, Bound::reduction::<T>(inp + 2));
        check.tensor(&of("dx"), dx.values(), &fixture.get(&of("dx")).values, Bound::reduction::<T>(out));
    }
}

fn every_kernel<T: Real>() {
    norms_and_activations::<T>();
    rope::<T>();
    attention::<T>();
    pooling_loss_and_weights::<T>();
}

#[test]
fn text_kernels_equal_their_references_in_f64() {
    every_kernel::<f64>();
}

#[test]
fn text_kernels_equal_their_references_in_f32() {
    every_kernel::<f32>();
}
