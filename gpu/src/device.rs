//! A device and its stream of commands: kernels are recorded into one command buffer, which is submitted when something
//! is written to or read from the device, so that a training step is one submission.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::rc::Rc;

use eblora_core::backend::BackendError;
use futures_channel::oneshot::{Receiver, channel};

use crate::adapter::{Restrict, is_software};
use crate::buffer::{Buffer, Pool};
use crate::error::{GpuError, OUT_OF_MEMORY, Trouble};
use crate::shaders::KERNELS;
use crate::timer::Timer;

/// Distance between the uniforms of two launches: WebGPU's default offset alignment.
const SLOT: usize = 256;
/// Launches of one submission, at most.
const SLOTS: usize = 4096;
/// Storage buffers of one kernel, at most.
const BUFFERS: usize = 8;
/// Values of the fault buffer: code and item.
pub const FAULT: usize = 4;

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only reads it.
    Read,
    /// Writes it, and perhaps reads it.
    Write,
}

/// A shader variant.
#[derive(Debug)]
pub struct Kernel {
    pub id: usize,
    pub name: &'static str,
    pub source: &'static str,
    pub access: &'static [Access],
    /// Bytes of `Params`.
    pub uniform: u64,
    /// Whether it needs subgroups.
    pub subgroups: bool,
}

/// What a device did so far; for tests and the curious.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels launched.
    pub dispatches: u64,
    /// Command buffers submitted.
    pub submissions: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Bind groups made.
    pub bind_groups: u64,
    /// Buffers made, for tensors and for reading back.
    pub buffers: u64,
    /// Buffers that there are, in use and pooled.
    pub live: u64,
    /// Their bytes.
    pub bytes: u64,
}

struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// Commands that are not submitted yet.
struct Stream {
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    /// Uniforms of the launches recorded.
    uniforms: Vec<u8>,
    /// Times every pass while there is one.
    timer: Option<Timer>,
    groups: HashMap<(usize, [u32; BUFFERS]), wgpu::BindGroup>,
}

/// A device with its memory, pipelines and stream.
pub struct Device {
    raw: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    name: String,
    max_binding: u64,
    max_memory: u64,
    subgroups: bool,
    trouble: Trouble,
    pipelines: RefCell<Vec<Option<Rc<Pipeline>>>>,
    stream: RefCell<Stream>,
    uniforms: wgpu::Buffer,
    pub(crate) memory: Rc<Pool>,
    pub(crate) staging: Rc<Pool>,
    /// What a kernel found wrong: `[code, item, 0, 0]`.
    pub(crate) fault: Buffer,
    /// Bound where an optional operand is missing.
    pub(crate) nothing: Buffer,
    counters: Cell<Counters>,
}

impl Device {
    /// Wraps a device of an adapter.
    pub fn new(raw: wgpu::Device, queue: wgpu::Queue, info: wgpu::AdapterInfo, restrict: Restrict) -> Rc<Self> {
        use wgpu::BufferUsages as Usage;
        let trouble = Trouble::of(&raw);
        let uniforms = raw.create_buffer(&wgpu::BufferDescriptor {
            label: Some("uniforms"),
            size: (SLOT * SLOTS) as u64,
            usage: Usage::UNIFORM | Usage::COPY_DST,
            mapped_at_creation: false,
        });
        let memory = Pool::new(Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC);
        let limit = raw.limits().max_storage_buffer_binding_size;
        let device = Self {
            // Browsers tell no name.
            name: if info.name.is_empty() { "WebGPU".to_owned() } else { info.name.clone() },
            max_binding: restrict.binding.map_or(limit, |m| m.min(limit)),
            max_memory: restrict.memory.unwrap_or(u64::MAX),
            subgroups: raw.features().contains(wgpu::Features::SUBGROUP),
            trouble,
            pipelines: RefCell::new((0..KERNELS).map(|_| None).collect()),
            stream: RefCell::new(Stream {
                pass: None,
                encoder: None,
                uniforms: Vec::with_capacity(SLOT * SLOTS),
                timer: None,
                groups: HashMap::new(),
            }),
            uniforms,
            fault: memory.take(&raw, 4 * FAULT as u64),
            nothing: memory.take(&raw, 16),
            staging: Pool::new(Usage::MAP_READ | Usage::COPY_DST),
            memory,
            counters: Cell::default(),
            raw,
            queue,
            info,
        };
        device.clear(&device.fault);
        device.clear(&device.nothing);
        Rc::new(device)
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the driver says of the adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// The device below.
    pub fn raw(&self) -> &wgpu::Device {
        &self.raw
    }

    /// The queue below.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Bytes of the largest buffer that a kernel can bind.
    pub fn max_binding(&self) -> u64 {
        self.max_binding
    }

    /// Whether products are by lanes (`shaders/shared/matmul_lanes.wgsl`): subgroups of exactly 8, and arithmetic much
    /// cheaper than loads, as on software adapters.
    pub fn lanes(&self) -> bool {
        self.subgroups
            && is_software(&self.info)
            && self.info.subgroup_min_size == 8
            && self.info.subgroup_max_size == 8
    }

    /// Whether kernels use subgroups.
    pub fn subgroups(&self) -> bool {
        self.subgroups
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        Counters {
            buffers: u64::from(self.memory.made() + self.staging.made()),
            live: u64::from(self.memory.live() + self.staging.live()),
            bytes: self.memory.bytes() + self.staging.bytes(),
            ..self.counters.get()
        }
    }

    /// Resolves with the message once the device is lost.
    pub fn lost(&self) -> Receiver<String> {
        self.trouble.lost()
    }

    /// Submits what is recorded; resolves once the device has done it. Where there is no event loop, somebody has to poll.
    pub fn done(&self) -> Receiver<()> {
        self.flush();
        let (tell, done) = channel();
        self.queue.on_submitted_work_done(move || {
            // Nobody may be waiting any more.
            let _ = tell.send(());
        });
        done
    }

    fn count(&self, f: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        f(&mut counters);
        self.counters.set(counters);
    }

    /// An error if the device failed earlier.
    pub fn check(&self) -> Result<(), BackendError> {
        self.trouble.check(&self.name)
    }

    /// Memory for `bytes` bytes; what is in it is not defined.
    pub fn allocate(&self, bytes: u64) -> Result<Buffer, BackendError> {
        let most = self.max_memory;
        if self.memory.would_hold(bytes) > most {
            // What nobody uses may be of other sizes.
            self.trim();
            let needed = self.memory.would_hold(bytes);
            if needed > most {
                let message = format!("{OUT_OF_MEMORY} ({needed} bytes are needed, of {most})");
                return Err(BackendError::Device { device: self.name.clone(), message });
            }
        }
        let buffer = self.memory.take(&self.raw, bytes);
        self.check()?;
        Ok(buffer)
    }

    /// Gives pooled memory that nobody uses back to the driver.
    pub fn trim(&self) {
        self.flush();
        let gone = self.memory.trim();
        self.stream.borrow_mut().groups.retain(|(_, ids), _| !ids.iter().any(|id| gone.contains(id)));
        self.staging.trim();
    }

    /// Writes bytes into a buffer, after everything queued before.
    pub fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.flush();
        self.queue.write_buffer(buffer.raw(), offset, bytes);
    }

    /// Zeros a buffer.
    pub fn clear(&self, buffer: &Buffer) {
        self.with_encoder(|encoder| encoder.clear_buffer(buffer.raw(), 0, None));
    }

    /// Records commands other than kernels.
    pub fn with_encoder(&self, f: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let stream = &mut *self.stream.borrow_mut();
        stream.pass = None;
        let new = || self.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        f(stream.encoder.get_or_insert_with(new));
    }

    /// Records a kernel.
    pub fn launch(&self, kernel: &Kernel, buffers: &[&Buffer], uniform: &[u8], groups: [u32; 3]) {
        if groups.contains(&0) {
            return;
        }
        if self.stream.borrow().uniforms.len() == SLOT * SLOTS {
            self.flush();
        }
        let pipeline = self.pipeline(kernel);
        let stream = &mut *self.stream.borrow_mut();
        let mut ids = [u32::MAX; BUFFERS];
        for (id, buffer) in ids.iter_mut().zip(buffers) {
            *id = buffer.id();
        }
        let group = stream.groups.entry((kernel.id, ids)).or_insert_with(|| {
            self.count(|c| c.bind_groups += 1);
            self.bind_group(kernel, &pipeline, buffers)
        });
        let slot = stream.uniforms.len();
        stream.uniforms.extend_from_slice(uniform);
        stream.uniforms.resize(slot + SLOT, 0);
        let pass = stream.pass.get_or_insert_with(|| {
            let new = || self.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let encoder = stream.encoder.get_or_insert_with(new);
            let timestamp_writes = stream.timer.as_mut().and_then(Timer::next_pass);
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }).forget_lifetime()
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &*group, &[slot as u32]);
        pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        self.count(|c| c.dispatches += 1);
    }

    /// Times every pass from here on, on a device that can.
    pub fn start_timer(&self) {
        self.flush();
        self.stream.borrow_mut().timer = Timer::new(&self.raw);
    }

    /// Ends what [`Device::start_timer`] began: seconds of all passes since then by the device's clock, or `None`.
    pub async fn stop_timer(&self) -> Result<Option<f64>, BackendError> {
        self.flush();
        let Some(timer) = self.stream.borrow_mut().timer.take() else { return Ok(None) };
        timer.seconds(self).await
    }

    /// Submits what is recorded.
    pub fn flush(&self) {
        let stream = &mut *self.stream.borrow_mut();
        stream.pass = None;
        if let Some(encoder) = stream.encoder.take() {
            if !stream.uniforms.is_empty() {
                self.queue.write_buffer(&self.uniforms, 0, &stream.uniforms);
                stream.uniforms.clear();
            }
            self.queue.submit([encoder.finish()]);
            self.count(|c| c.submissions += 1);
        }
    }

    fn bind_group(&self, kernel: &Kernel, pipeline: &Pipeline, buffers: &[&Buffer]) -> wgpu::BindGroup {
        let uniform = wgpu::BufferBinding { buffer: &self.uniforms, offset: 0, size: NonZeroU64::new(kernel.uniform) };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(uniform) }];
        for (i, buffer) in buffers.iter().enumerate() {
            entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource: buffer.raw().as_entire_binding() });
        }
        self.raw.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &pipeline.layout,
            entries: &entries,
        })
    }

    fn pipeline(&self, kernel: &Kernel) -> Rc<Pipeline> {
        if let Some(pipeline) = &self.pipelines.borrow()[kernel.id] {
            return Rc::clone(pipeline);
        }
        self.trouble.compiling(Some(kernel.name));
        let pipeline = Rc::new(self.compile(kernel));
        self.trouble.compiling(None);
        self.count(|c| c.pipelines += 1);
        self.pipelines.borrow_mut()[kernel.id] = Some(Rc::clone(&pipeline));
        pipeline
    }

    fn compile(&self, kernel: &Kernel) -> Pipeline {
        let entry = |binding: usize, ty, size, dynamic| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: dynamic, min_binding_size: size },
            count: None,
        };
        let uniform = entry(0, wgpu::BufferBindingType::Uniform, NonZeroU64::new(kernel.uniform), true);
        let storage = kernel.access.iter().enumerate().map(|(i, &access)| {
            let ty = wgpu::BufferBindingType::Storage { read_only: access == Access::Read };
            entry(i + 1, ty, None, false)
        });
        let entries: Vec<_> = core::iter::once(uniform).chain(storage).collect();
        let label = Some(kernel.name);
        let layout = self.raw.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let whole = self.raw.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let source = wgpu::ShaderSource::Wgsl(kernel.source.into());
        let module = self.raw.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let pipeline = self.raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&whole),
            module: &module,
            entry_point: Some("main"),
            // The kernels write their workgroup memory before they read it.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }

    /// Compiles a kernel and tells whether the driver takes it; nothing is kept.
    ///
    /// # Errors
    /// [`GpuError::Kernel`] when it is refused.
    pub async fn try_compile(&self, kernel: &Kernel) -> Result<(), GpuError> {
        let scope = self.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        self.compile(kernel);
        scope.pop().await.map_or(Ok(()), |error| {
            Err(GpuError::Kernel { adapter: self.name.clone(), kernel: kernel.name.into(), message: error.to_string() })
        })
    }
}

impl core::fmt::Debug for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Device").field("name", &self.name).field("counters", &self.counters()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{Wanted, open};

    const BROKEN: Kernel = Kernel {
        id: 0,
        name: "broken",
        source: "@compute @workgroup_size(1) fn main() { let x: u32 = 1.0; }",
        access: &[],
        uniform: 16,
        subgroups: false,
    };

    fn device() -> Rc<Device> {
        let device = pollster::block_on(open(&Wanted::Best, Restrict::default()));
        device.unwrap_or_else(|e| panic!("these tests need an adapter, if only a software one: {e}"))
    }

    #[test]
    fn a_kernel_that_the_driver_refuses_is_named_with_the_adapter_and_the_way_out() {
        let device = device();
        let error = pollster::block_on(device.try_compile(&BROKEN)).unwrap_err();
        let GpuError::Kernel { adapter, kernel, .. } = &error else { panic!("{error:?}") };
        assert_eq!((adapter.as_str(), kernel.as_str()), (device.name(), "broken"));
        assert!(error.to_string().contains("use another adapter or the CPU"), "{error}");
        assert_eq!(device.check(), Ok(()), "nothing was kept of it");
        // In the course of a run it is found out by the next call that can fail.
        device.launch(&BROKEN, &[], &[0; 16], [1, 1, 1]);
        let error = device.check().unwrap_err().to_string();
        for part in [device.name(), "the kernel broken", "use another adapter or the CPU"] {
            assert!(error.contains(part), "{part} is missing: {error}");
        }
        assert!(device.allocate(4).is_err(), "and it stays so");
    }
}
