//! Which adapters there are, and a device of the one that is wanted.

use std::fmt;
use std::rc::Rc;

use crate::device::Device;
use crate::error::GpuError;

/// Which adapter to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best: a discrete GPU before an integrated one, a software adapter only where there is nothing else.
    #[default]
    Best,
    /// By its number in [`adapters`].
    Index(usize),
    /// By a part of its name, whatever the case.
    Name(String),
}

/// An adapter, as `eblora devices` lists it.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    /// Number for [`Wanted::Index`].
    pub index: usize,
    /// Name, driver, type, API.
    pub info: wgpu::AdapterInfo,
    /// What it can do beyond the base.
    pub features: AdapterFeatures,
    /// Its limits.
    pub limits: wgpu::Limits,
}

/// What an adapter can do beyond the base.
#[derive(Clone, Copy, Debug)]
pub struct AdapterFeatures(wgpu::Features);

impl AdapterFeatures {
    /// Operations among the threads of a subgroup.
    pub fn subgroups(&self) -> bool {
        self.0.contains(wgpu::Features::SUBGROUP)
    }

    /// Arithmetic in 16 bits.
    pub fn half(&self) -> bool {
        self.0.contains(wgpu::Features::SHADER_F16)
    }

    /// Times of kernels.
    pub fn timestamps(&self) -> bool {
        self.0.contains(wgpu::Features::TIMESTAMP_QUERY)
    }
}

impl AdapterReport {
    /// Whether it computes on the CPU.
    pub fn is_software(&self) -> bool {
        is_software(&self.info)
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wgpu::AdapterInfo { name, device_type, backend, driver, driver_info, .. } = &self.info;
        write!(f, "{}: {name} ({}, {backend:?}", self.index, type_name(*device_type))?;
        if !driver.is_empty() {
            write!(f, ", {driver} {driver_info}")?;
        }
        write!(f, ")")
    }
}

/// Whether an adapter computes on the CPU.
pub fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu
}

/// The type of an adapter in words.
pub fn type_name(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "unknown type",
    }
}

/// The features that kernels or the benchmark make use of where they are present.
const OPTIONAL: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::SUBGROUP);

/// What a device is to do without, though its adapter has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restrict {
    /// Most bytes of a tensor that a kernel binds: larger tensors are sharded.
    pub binding: Option<u64>,
    /// Most bytes of device memory, those in the pool included.
    pub memory: Option<u64>,
    /// No subgroups: the plain variants of all kernels.
    pub plain: bool,
}

fn instance() -> wgpu::Instance {
    let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
    desc.backends =
        wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12 | wgpu::Backends::BROWSER_WEBGPU;
    wgpu::Instance::new(desc)
}

/// In the order of their numbers: the best first.
async fn found() -> Vec<wgpu::Adapter> {
    let instance = instance();
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    if adapters.is_empty() {
        // A browser enumerates nothing, but gives the one it chose.
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        adapters.extend(instance.request_adapter(&options).await.ok());
    }
    adapters.sort_by_key(|a| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// All adapters of this machine, the best first.
///
/// ```no_run
/// for adapter in pollster::block_on(eblora_gpu::adapters()) {
///     println!("{adapter}");
/// }
/// ```
pub async fn adapters() -> Vec<AdapterReport> {
    let report = |(index, a): (usize, wgpu::Adapter)| AdapterReport {
        index,
        info: a.get_info(),
        features: AdapterFeatures(a.features()),
        limits: a.limits(),
    };
    found().await.into_iter().enumerate().map(report).collect()
}

/// Opens a device on the wanted adapter.
///
/// # Errors
/// When there is no such adapter, it lacks what is needed, or its driver gives no device.
pub async fn open(wanted: &Wanted, restrict: Restrict) -> Result<Rc<Device>, GpuError> {
    let mut adapters = found().await;
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let index = match wanted {
        Wanted::Best => Some(0),
        Wanted::Index(i) => Some(*i).filter(|&i| i < adapters.len()),
        Wanted::Name(name) => {
            let name = name.to_lowercase();
            adapters.iter().position(|a| a.get_info().name.to_lowercase().contains(&name))
        }
    };
    let Some(index) = index else {
        let names = adapters.iter().enumerate().map(|(i, a)| format!("{i}: {}", a.get_info().name));
        let found = names.collect::<Vec<_>>().join(", ");
        let wanted = match wanted {
            Wanted::Name(name) => format!("named {name:?}"),
            Wanted::Index(i) => format!("number {i}"),
            Wanted::Best => String::new(),
        };
        return Err(GpuError::NotFound { wanted, found });
    };
    let adapter = adapters.swap_remove(index);
    let info = adapter.get_info();
    let limits = needed(&info.name, &adapter.limits())?;
    let desc = wgpu::DeviceDescriptor {
        label: Some("eblora"),
        required_features: adapter.features()
            & if restrict.plain { OPTIONAL - wgpu::Features::SUBGROUP } else { OPTIONAL },
        required_limits: limits,
        // The optimiser's buffers come and go with the tasks.
        memory_hints: wgpu::MemoryHints::Performance,
        ..Default::default()
    };
    let (device, queue) = adapter
        .request_device(&desc)
        .await
        .map_err(|e| GpuError::Request { adapter: info.name.clone(), message: e.to_string() })?;
    Ok(Device::new(device, queue, info, restrict))
}

/// WebGPU's default limits, and of buffers as much as the adapter gives.
fn needed(adapter: &str, has: &wgpu::Limits) -> Result<wgpu::Limits, GpuError> {
    let defaults = wgpu::Limits::default();
    let checks: [(&'static str, u64, u64); 4] = [
        ("invocations of a workgroup", has.max_compute_invocations_per_workgroup.into(), 256),
        ("workgroup memory", has.max_compute_workgroup_storage_size.into(), 16_384),
        ("storage buffers of a stage", has.max_storage_buffers_per_shader_stage.into(), 8),
        ("workgroups of a dimension", has.max_compute_workgroups_per_dimension.into(), 65_535),
    ];
    for (what, got, need) in checks {
        if got < need {
            return Err(GpuError::Limit { adapter: adapter.into(), what, got, need });
        }
    }
    Ok(wgpu::Limits {
        // Offsets in kernels are 32-bit counts of 4-byte values.
        max_storage_buffer_binding_size: has.max_storage_buffer_binding_size.min(1 << 32),
        max_buffer_size: has.max_buffer_size.min(1 << 32),
        ..defaults.or_worse_values_from(has)
    })
}
