//! Every kernel on the device against its twin on the CPU in f64, on the same random inputs; the bounds grow with the
//! length of the sums and are stated where they are used. A machine without an adapter fails these tests.

mod attention;
mod compare;
mod eigen;
mod elementwise;
mod geometry;
mod matmul;
mod rows;
mod stacks;
mod weights;

use eblora_core::backend::{Backend, Cpu};
use eblora_core::random::Random;
use eblora_gpu::{Gpu, Restrict, Wanted};

/// Sizes around the tiles and workgroups.
const SIZES: [usize; 7] = [1, 3, 17, 63, 64, 65, 130];

/// The device under test and its reference.
pub struct Pair {
    /// Under test.
    pub gpu: Gpu,
    /// The reference.
    pub cpu: Cpu<f64>,
}

/// Opens the device, of which kernels bind at most `binding` bytes where that is given, and runs a test.
pub fn with_device(binding: Option<u64>, test: impl AsyncFnOnce(&Pair)) {
    restricted(Restrict { binding, ..Restrict::default() }, test);
}

/// [`with_device`], then the same with the plain variants of kernels that have others.
pub fn with_each_variant(binding: Option<u64>, test: impl AsyncFn(&Pair)) {
    for plain in [false, true] {
        restricted(Restrict { binding, plain, ..Restrict::default() }, async |pair| {
            assert!(!(plain && pair.gpu.uses_subgroups()));
            test(pair).await;
        });
    }
}

fn restricted(restrict: Restrict, test: impl AsyncFnOnce(&Pair)) {
    pollster::block_on(async {
        let gpu = Gpu::open_restricted(&Wanted::Best, restrict).await;
        let gpu = gpu.unwrap_or_else(|e| panic!("these tests need an adapter, if only a software one: {e}"));
        test(&Pair { gpu, cpu: Cpu::new() }).await;
    });
}

/// Normal values, the same for both.
pub fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut random = Random::new(seed, "parity");
    (0..len).map(|_| random.normal() as f32).collect()
}

/// f32 values as the backend's.
pub fn upload<B: Backend>(b: &B, shape: [usize; 3], values: &[f32]) -> B::Tensor {
    use eblora_core::Real;
    let values: Vec<B::Scalar> = values.iter().map(|&v| B::Scalar::of(f64::from(v))).collect();
    b.upload(shape, &values).expect("the tests' tensors are small")
}

/// The values as f64.
pub async fn read<B: Backend>(b: &B, tensor: &B::Tensor) -> Vec<f64> {
    use eblora_core::Real;
    b.read(tensor).await.expect("no fault is planted here").into_iter().map(|v| v.f64()).collect()
}
