//! Products of large and of skinny matrices, the batched eigen-solve, the retraction, and the way back to the host.

use std::time::Instant;

use eblora_core::backend::{BackendError, Epilogue, Stored, View, ViewMut};
use eblora_core::manifold::Retraction;
use eblora_core::random::Random;

use super::clock::{Clock, Sample, Times, measure as time};
use super::{BenchConfig, BenchError, Figure, SEED, figure};

/// Width, tokens and rank of the skinny products: those of a 7B model's adapters.
const WIDTH: usize = 4096;
const TOKENS: usize = 512;
const RANK: usize = 16;

/// `D = A·B` of m×k and k×n, either stored as its transpose.
struct Product {
    name: &'static str,
    mnk: [usize; 3],
    stored_transposed: [bool; 2],
    /// B is frozen, in 16 bits.
    packed: bool,
}

const fn forward(name: &'static str, mnk: [usize; 3], packed: bool) -> Product {
    Product { name, mnk, stored_transposed: [false, true], packed }
}

/// Squares as in `x·Wᵀ`, then each product of an adapter once.
const PRODUCTS: [Product; 8] = [
    forward("matmul/512", [512; 3], false),
    forward("matmul/1024", [1024; 3], false),
    forward("matmul/2048", [2048; 3], false),
    forward("matmul_bf16/1024", [1024; 3], true),
    // z = x·V, y += z·Uᵀ, dU = dyᵀ·z, ΔW = U·Vᵀ.
    Product { name: "skinny/x_v", mnk: [TOKENS, RANK, WIDTH], stored_transposed: [false, false], packed: false },
    forward("skinny/z_ut", [TOKENS, WIDTH, RANK], false),
    Product { name: "skinny/dyt_z", mnk: [WIDTH, RANK, TOKENS], stored_transposed: [true, false], packed: false },
    forward("skinny/u_vt", [WIDTH, WIDTH, RANK], false),
];

/// Stacks of symmetric matrices: those of a 7B model's factors at two ranks.
const EIGEN: [(&str, usize, usize); 2] = [("symmetric_eigen/224x16", 224, 16), ("symmetric_eigen/32x64", 32, 64)];
/// A stack of factors.
const RETRACT: (&str, [usize; 3]) = ("retract/32x4096x16", [32, WIDTH, RANK]);
/// One value there and back.
const READBACK: &str = "readback";

/// The names of these figures.
pub fn names() -> impl Iterator<Item = String> {
    let products = PRODUCTS.iter().map(|p| p.name).chain(EIGEN.iter().map(|e| e.0));
    products.chain([RETRACT.0, READBACK]).map(str::to_owned)
}

fn normal(stream: &str, len: usize) -> Vec<f32> {
    Random::new(SEED, stream).normals(len)
}

fn upload<B: Clock>(b: &B, stream: &str, shape: [usize; 3]) -> Result<B::Tensor, BackendError> {
    b.upload(shape, &normal(stream, shape.iter().product()))
}

/// The figures that are wanted.
pub fn measure<B: Clock>(b: &B, config: &BenchConfig) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for p in PRODUCTS.iter().filter(|p| config.wants(p.name)) {
        figures.push(product(b, config, p)?);
    }
    for (name, count, r) in EIGEN.into_iter().filter(|e| config.wants(e.0)) {
        figures.push(eigen(b, config, name, count, r)?);
    }
    if config.wants(RETRACT.0) {
        figures.push(retract(b, config)?);
    }
    if B::QUEUES && config.wants(READBACK) {
        figures.push(readback(b, config)?);
    }
    Ok(figures)
}

fn product<B: Clock>(b: &B, config: &BenchConfig, p: &Product) -> Result<Figure, BenchError> {
    let ([m, n, k], [a_t, b_t]) = (p.mnk, p.stored_transposed);
    let shape = |rows, cols, t: bool| if t { [1, cols, rows] } else { [1, rows, cols] };
    let left = upload(b, "a", shape(m, k, a_t))?;
    let mut d = b.zeros([1, m, n])?;
    let a = if a_t { View::all(&left).t() } else { View::all(&left) };
    let times = if p.packed {
        let [_, rows, cols] = shape(k, n, b_t);
        let bits: Vec<u16> = normal("b", rows * cols).iter().map(|x| (x.to_bits() >> 16) as u16).collect();
        let weights = b.upload_weights(rows, cols, Stored::Bf16(&bits))?;
        let w = if b_t { View::all(&weights).t() } else { View::all(&weights) };
        time(b, config.effort(), &mut || {
            b.matmul_weights(ViewMut::all(&mut d), a, w, Epilogue::default());
            Ok(())
        })?
    } else {
        let right = upload(b, "b", shape(k, n, b_t))?;
        let r = if b_t { View::all(&right).t() } else { View::all(&right) };
        time(b, config.effort(), &mut || {
            b.matmul(ViewMut::all(&mut d), a, r, Epilogue::default());
            Ok(())
        })?
    };
    Ok(figure(b, p.name, &times, Some(2.0 * m as f64 * n as f64 * k as f64)))
}

fn eigen<B: Clock>(b: &B, config: &BenchConfig, name: &str, count: usize, r: usize) -> Result<Figure, BenchError> {
    // Grams of random factors; a symmetric_eigen reads the lower triangle only.
    let x = upload(b, "x", [count, 2 * r, r])?;
    let mut a = b.zeros([count, r, r])?;
    for item in 0..count {
        let x = View::item(&x, item);
        b.matmul(ViewMut::item(&mut a, item), x.t(), x, Epilogue::default());
    }
    let (mut values, mut vectors) = (b.zeros([count, r, 1])?, b.zeros([count, r, r])?);
    let times = time(b, config.effort(), &mut || Ok(b.symmetric_eigen(&mut values, &mut vectors, &a)?))?;
    Ok(figure(b, name, &times, None))
}

fn retract<B: Clock>(b: &B, config: &BenchConfig) -> Result<Figure, BenchError> {
    let (name, shape) = RETRACT;
    let mut scratch = b.scratch(shape)?;
    let mut y = upload(b, "y", shape)?;
    b.retract(Retraction::Whitening, &mut y, &mut scratch)?;
    // A step of a tenth of the norm, as in training; the same one over and over.
    let mut step = upload(b, "step", shape)?;
    b.scale(&mut step, 0.1 / (WIDTH as f64).sqrt());
    let times = time(b, config.effort(), &mut || {
        b.scale_add(&mut y, 1.0, &step, 1.0);
        Ok(b.retract(Retraction::Whitening, &mut y, &mut scratch)?)
    })?;
    Ok(figure(b, name, &times, None))
}

fn readback<B: Clock>(b: &B, config: &BenchConfig) -> Result<Figure, BenchError> {
    let one = b.zeros([1, 1, 1])?;
    b.settle()?;
    let (mut times, start) = (Times::default(), Instant::now());
    while !config.effort().suffices(times.runs(), start) {
        let begun = Instant::now();
        pollster::block_on(b.read(&one))?;
        times.push(Sample { host: begun.elapsed().as_secs_f64(), device: None });
    }
    Ok(figure(b, READBACK, &times, None))
}
