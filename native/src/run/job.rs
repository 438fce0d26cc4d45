//! Something to do on whichever device is wanted.

use eblora_core::backend::cpu::keep_awake;
use eblora_core::backend::{Backend, Cpu};

use super::engine;
use crate::Error;
use crate::device::{self, Device};

/// Work that is written once for every backend.
pub(crate) trait Job {
    /// What comes of it.
    type Output: Send;
    /// Does it.
    fn run<B: Backend<Scalar = f32> + 'static>(&self, backend: &B) -> Result<Self::Output, Error>;
}

/// Does a job on a device; `threads` are those of the CPU.
///
/// # Errors
/// When the device can't be had, or the job fails.
pub(crate) fn on_device<J: Job + Sync>(device: &Device, threads: usize, job: &J) -> Result<J::Output, Error> {
    match device {
        Device::Cpu => {
            let pool = engine::pool(threads)?;
            pool.install(|| keep_awake(|| job.run(&Cpu::<f32>::new())))
        }
        Device::Gpu(wanted) => job.run(&device::open(wanted)?.0),
    }
}
