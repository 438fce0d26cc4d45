//! How fast the device is: products, a training step, reading back.

use eblora::run::{MethodConfig, MethodName};
use eblora_core::backend::{Backend, Epilogue, View, ViewMut};
use eblora_core::method::TaskStart;
use eblora_core::model::{Model, Wanted};
use serde::Serialize;

use crate::base::Base;
use crate::course::now;
use crate::device::Device;
use crate::error::{Result, WebError};

/// A figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// How long a measurement goes on, in milliseconds, after one that does not count.
const PATIENCE: f64 = 400.0;
/// Images of a step.
const BATCH: usize = 32;
/// Rank of its adapters.
const RANK: usize = 8;
/// Side of the matrices where nothing else is said.
const SIDE: usize = 512;
/// A side beyond this is a typing error.
const LARGEST: usize = 4096;

/// Measures `matmul`, `step` or `readback`.
///
/// # Errors
/// When it is none of them, the size is none, or the device fails.
pub async fn measure(device: Device, base: Option<&Base>, what: &str, size: Option<usize>) -> Result<Figure> {
    match device {
        Device::Cpu(cpu) => on(cpu, base, what, size).await,
        Device::Gpu(gpu) => on(gpu, base, what, size).await,
    }
}

async fn on<B: Backend<Scalar = f32> + 'static>(
    b: &B,
    base: Option<&Base>,
    what: &str,
    size: Option<usize>,
) -> Result<Figure> {
    match what {
        "matmul" => matmul(b, size.unwrap_or(SIDE)).await,
        "step" => {
            let base = base.ok_or_else(|| WebError::input("a step needs a base model"))?;
            step(b, base, size.unwrap_or(BATCH)).await
        }
        "readback" => readback(b, size.unwrap_or(1)).await,
        other => Err(WebError::input(format!("{other:?}: matmul, step or readback can be measured"))),
    }
}

fn checked(size: usize) -> Result<usize> {
    match (1..=LARGEST).contains(&size) {
        true => Ok(size),
        false => Err(WebError::input(format!("size {size} is not in the range 1..={LARGEST}"))),
    }
}

/// Milliseconds of one repetition of `work`, which tells how many it has done: once to warm up, then as long as patience lasts.
async fn timed(mut work: impl AsyncFnMut() -> Result<u32>) -> Result<f64> {
    work().await?;
    let (begun, mut runs) = (now(), 0_u32);
    while runs == 0 || now() - begun < PATIENCE {
        runs += work().await?;
    }
    Ok((now() - begun) / f64::from(runs))
}

/// Billions of multiplications and additions a second, of square matrices.
async fn matmul<B: Backend<Scalar = f32>>(b: &B, side: usize) -> Result<Figure> {
    let n = checked(side)?;
    let values: Vec<f32> = (0..n * n).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
    let (x, y) = (b.upload([1, n, n], &values)?, b.upload([1, n, n], &values)?);
    let mut product = b.zeros([1, n, n])?;
    let corner = b.zeros([1, 1, 1])?;
    // What is queued is waited for in ever larger parts: waiting itself takes time.
    let mut queued = 1;
    let milliseconds = timed(async || {
        for _ in 0..queued {
            b.matmul(ViewMut::all(&mut product), View::all(&x), View::all(&y), Epilogue::default());
        }
        b.read(&corner).await?;
        let done = queued;
        queued = (2 * queued).min(16);
        Ok(done)
    })
    .await?;
    let value = 2.0 * (n as f64).powi(3) / milliseconds / 1e6;
    Ok(Figure { name: format!("matmul {n}×{n}×{n}"), value, unit: "GFLOP/s" })
}

/// Milliseconds of a training step of LoRA.
async fn step<B: Backend<Scalar = f32> + 'static>(b: &B, base: &Base, batch: usize) -> Result<Figure> {
    let batch = checked(batch)?;
    let model = base.model(b, [].into_iter())?;
    let mut work = model.workspace(b, batch)?;
    let mut images = base.no_images();
    images.pixels = (0..batch * images.image_len()).map(|i| (i * 31 % 251) as u8).collect();
    images.labels = (0..batch as u32).map(|i| i % 10).collect();
    let config = MethodConfig { rank: Some(RANK), ..MethodConfig::new(MethodName::LoraFt) };
    let mut method = config.make::<B>();
    let (sites, blocks) = (model.sites(), model.blocks());
    let start = TaskStart { blocks, ..TaskStart::new([0, 1], sites, 0) };
    let mut adapters = method.begin_task(b, start).map_err(|error| WebError::computing(&error))?;
    let mut grads = adapters.grads(b)?;
    model.attach(b, &mut work, &adapters)?;
    let mut loss = b.zeros([1, 1, 1])?;
    let all: Vec<usize> = (0..batch).collect();
    let value = timed(async || {
        model.load(b, &mut work, &images, &all)?;
        model.forward(b, &mut work, Some(&adapters));
        model.loss(b, &mut work, &mut loss, 0);
        model.backward(b, &mut work, &mut Wanted::Adapters(&adapters, &mut grads));
        method.step(b, &mut adapters, &mut grads, 1.0).map_err(|error| WebError::computing(&error))?;
        b.read(&loss).await?;
        Ok(1)
    })
    .await?;
    Ok(Figure { name: format!("LoRA step, {batch} images, rank {RANK}"), value, unit: "ms" })
}

/// Milliseconds until a few values are back.
async fn readback<B: Backend<Scalar = f32>>(b: &B, values: usize) -> Result<Figure> {
    let n = checked(values)?;
    let mut tensor = b.zeros([1, n, 1])?;
    let mut fill = 0.0;
    let value = timed(async || {
        fill += 1.0;
        b.fill(&mut tensor, fill);
        b.read(&tensor).await?;
        Ok(1)
    })
    .await?;
    Ok(Figure { name: format!("readback of {n} values"), value, unit: "ms" })
}
