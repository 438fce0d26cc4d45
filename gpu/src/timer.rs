//! Times by the device's own clock: a pair of timestamps around every compute pass.

use eblora_core::backend::BackendError;
use futures_channel::oneshot::channel;

use crate::device::Device;

/// Passes that one timer can tell apart: a pass ends at a copy, a clear or a submission.
const PASSES: u32 = 1024;
/// Bytes of a timestamp.
const STAMP: u64 = 8;

/// Collects the times of the passes that are begun with [`Timer::next_pass`].
pub struct Timer {
    set: wgpu::QuerySet,
    passes: u32,
}

impl Timer {
    /// `None` where the device has no timestamps.
    pub fn new(device: &wgpu::Device) -> Option<Self> {
        device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| {
            let desc = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 * PASSES };
            Self { set: device.create_query_set(&desc), passes: 0 }
        })
    }

    /// What the descriptor of the next pass needs.
    pub fn next_pass(&mut self) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let first = 2 * self.passes;
        self.passes += 1;
        (first < 2 * PASSES).then_some(wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    /// The sum of all passes; `None` where there were more than can be told apart, or the clock did not run.
    pub async fn seconds(self, device: &Device) -> Result<Option<f64>, BackendError> {
        if self.passes == 0 || self.passes > PASSES {
            return Ok((self.passes == 0).then_some(0.0));
        }
        let bytes = u64::from(2 * self.passes) * STAMP;
        let buffer = |usage| {
            let desc = wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
            device.raw().create_buffer(&desc)
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        device.with_encoder(|encoder| {
            encoder.resolve_query_set(&self.set, 0..2 * self.passes, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
        });
        device.flush();
        let (tell, arrived) = channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody may be waiting any more.
            let _ = tell.send(result);
        });
        // On the web the event loop brings the answer, and this does nothing.
        let _ = device.raw().poll(wgpu::PollType::wait_indefinitely());
        device.check()?;
        let refused = |message: String| BackendError::Device { device: device.name().into(), message };
        let mapped = arrived.await.map_err(|_| refused("the times were dropped".into()))?;
        mapped.map_err(|e| refused(format!("the times could not be read back: {e}")))?;
        let view = staging.get_mapped_range(..).map_err(|e| refused(e.to_string()))?;
        let stamps: Vec<u64> = view.chunks_exact(8).filter_map(|b| b.try_into().ok().map(u64::from_le_bytes)).collect();
        drop(view);
        staging.destroy();
        resolved.destroy();
        let ticks: Option<u64> = stamps.chunks_exact(2).map(|pair| pair[1].checked_sub(pair[0])).sum();
        let period = f64::from(device.queue().get_timestamp_period());
        Ok(ticks.filter(|&t| t > 0).map(|t| t as f64 * period * 1e-9))
    }
}
