//! Reading back: values are copied to a staging buffer in the stream and arrive when the device has come that far.

use std::cell::Cell;
use std::rc::Rc;

use eblora_core::backend::BackendError;
use eblora_core::manifold::ManifoldError;
use futures_channel::oneshot::{Receiver, channel};

use crate::buffer::Buffer;
use crate::device::{Device, FAULT};
use crate::tensor::{GpuTensor, VALUE};

/// Codes in the fault buffer, as in `shaders/shared/fault.wgsl`.
const NOT_FINITE: u32 = 1;
const NOT_FINITE_POINT: u32 = 2;
const RANK_DEFICIENT: u32 = 3;

/// Values on their way back.
#[derive(Debug)]
pub struct Ticket {
    staging: Buffer,
    arrived: Receiver<Result<(), wgpu::BufferAsyncError>>,
    values: usize,
    device: Rc<Device>,
    /// Not unmapped yet.
    mapped: Cell<bool>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.mapped.get() {
            self.staging.raw().unmap();
        }
    }
}

impl Ticket {
    /// Queues the copy of a tensor and of the fault buffer, and submits all that is queued.
    pub fn new(device: &Rc<Device>, tensor: &GpuTensor) -> Result<Self, BackendError> {
        device.check()?;
        let values = tensor.len();
        let staging = device.staging.take(device.raw(), ((values + FAULT) * VALUE) as u64);
        device.check()?;
        device.with_encoder(|encoder| {
            for shard in &tensor.shards {
                let (at, bytes) = ((shard.first * VALUE) as u64, (shard.len * VALUE) as u64);
                if bytes > 0 {
                    encoder.copy_buffer_to_buffer(shard.buffer.raw(), 0, staging.raw(), at, bytes);
                }
            }
            let (at, bytes) = ((values * VALUE) as u64, (FAULT * VALUE) as u64);
            encoder.copy_buffer_to_buffer(device.fault.raw(), 0, staging.raw(), at, bytes);
        });
        device.flush();
        let (tell, arrived) = channel();
        let bytes = ((values + FAULT) * VALUE) as u64;
        staging.raw().map_async(wgpu::MapMode::Read, ..bytes, move |result| {
            // The ticket may have been dropped.
            let _ = tell.send(result);
        });
        Ok(Self { staging, arrived, values, device: Rc::clone(device), mapped: Cell::new(true) })
    }

    /// Waits for the values.
    pub async fn wait(mut self) -> Result<Vec<f32>, BackendError> {
        // On the web the event loop brings the answer, and this does nothing.
        let polled = self.device.raw().poll(wgpu::PollType::wait_indefinitely());
        self.device.check()?;
        if let Err(error) = polled {
            return Err(self.failed(error.to_string()));
        }
        let result = (&mut self.arrived).await;
        self.finish(result.map_err(|_| ()))
    }

    /// The values if they have arrived.
    pub fn try_take(&mut self) -> Result<Option<Vec<f32>>, BackendError> {
        // An error here shows up in the answer.
        let _ = self.device.raw().poll(wgpu::PollType::Poll);
        self.device.check()?;
        match self.arrived.try_recv() {
            Ok(None) => Ok(None),
            Ok(Some(result)) => self.finish(Ok(result)).map(Some),
            Err(_) => self.finish(Err(())).map(Some),
        }
    }

    fn failed(&self, message: String) -> BackendError {
        BackendError::Device { device: self.device.name().into(), message }
    }

    fn finish(&self, result: Result<Result<(), wgpu::BufferAsyncError>, ()>) -> Result<Vec<f32>, BackendError> {
        self.device.check()?;
        let refused = |what: &str| self.failed(format!("the values could not be read back: {what}"));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refused(&error.to_string())),
            Err(()) => return Err(refused("the answer was dropped")),
        }
        let bytes = ((self.values + FAULT) * VALUE) as u64;
        let mapped = self.staging.raw().get_mapped_range(..bytes).map_err(|e| refused(&e.to_string()))?;
        let (values, fault) = mapped.split_at(self.values * VALUE);
        let values = values.chunks_exact(VALUE).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let word = |i: usize| u32::from_le_bytes([fault[4 * i], fault[4 * i + 1], fault[4 * i + 2], fault[4 * i + 3]]);
        let (code, item) = (word(0), word(1) as usize);
        drop(mapped);
        self.staging.raw().unmap();
        self.mapped.set(false);
        if code != 0 {
            self.device.clear(&self.device.fault);
        }
        let manifold = |source| Err(BackendError::Manifold { item, source });
        match code {
            0 => Ok(values),
            NOT_FINITE => Err(BackendError::NonFinite { item }),
            NOT_FINITE_POINT => manifold(ManifoldError::NonFinite),
            RANK_DEFICIENT => manifold(ManifoldError::RankDeficient { condition: f64::INFINITY }),
            other => Err(refused(&format!("unknown fault {other}"))),
        }
    }
}
