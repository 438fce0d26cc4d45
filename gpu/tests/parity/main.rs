//! Every kernel on the device against its twin on the CPU in f64, on the same random inputs; the bounds grow with the
//! length of the sums and are stated where they are used. A machine without an adapter fails these tests.

/// The tests of a file: natively tests, and by name what a browser runs.
macro_rules! device_tests {
    ($($name:ident),+ $(,)?) => {
        /// By name.
        pub const TESTS: &[super::Case] = &[$((stringify!($name), || Box::pin($name()))),+];

        #[cfg(not(target_arch = "wasm32"))]
        mod native {
            $(#[test]
            fn $name() {
                pollster::block_on(super::$name());
            })+
        }
    };
}

mod attention;
mod compare;
mod eigen;
mod elementwise;
mod geometry;
mod matmul;
mod rows;
mod stacks;
mod weights;

use std::future::Future;
use std::pin::Pin;

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

/// A test by name.
pub type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// All tests, file by file.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Case)> {
    let files = [
        ("attention", attention::TESTS),
        ("eigen", eigen::TESTS),
        ("elementwise", elementwise::TESTS),
        ("geometry", geometry::TESTS),
        ("matmul", matmul::TESTS),
        ("rows", rows::TESTS),
        ("stacks", stacks::TESTS),
        ("weights", weights::TESTS),
    ];
    files.into_iter().flat_map(|(file, tests)| tests.iter().map(move |test| (file, test)))
}

/// Opens the device, of which kernels bind at most `binding` bytes where that is given, and runs a test.
pub async fn with_device(binding: Option<u64>, test: impl AsyncFnOnce(&Pair)) {
    restricted(Restrict { binding, ..Restrict::default() }, test).await;
}

/// [`with_device`], then the same with the plain variants of kernels that have others.
pub async fn with_each_variant(binding: Option<u64>, test: impl AsyncFn(&Pair)) {
    for plain in [false, true] {
        if plain && cfg!(target_arch = "wasm32") {
            return; // browsers have no others
        }
        restricted(Restrict { binding, plain, ..Restrict::default() }, async |pair| {
            assert!(!(plain && pair.gpu.uses_subgroups()));
            test(pair).await;
        })
        .await;
    }
}

async fn restricted(restrict: Restrict, test: impl AsyncFnOnce(&Pair)) {
    let gpu = Gpu::open_restricted(&Wanted::Best, restrict).await;
    let gpu = gpu.unwrap_or_else(|e| panic!("these tests need an adapter, if only a software one: {e}"));
    test(&Pair { gpu, cpu: Cpu::new() }).await;
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

#[test]
fn every_test_has_a_name_of_its_own() {
    let names: Vec<_> = all().map(|(file, (name, _))| (file, *name)).collect();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert!(names.len() > 30 && once.len() == names.len(), "{names:?}");
}
