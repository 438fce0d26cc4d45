//! `eblora_core::backend::Backend` over wgpu: the kernels under `shaders/`, twins of `core/src/backend/cpu`, on any
//! Vulkan, Metal, DX12 or WebGPU device.
#![deny(missing_docs)]

mod adapter;
mod backend;
mod buffer;
mod device;
mod error;
mod kernels;
mod read;
mod tensor;
mod timer;

/// Made of `shaders/` by the build script.
#[allow(missing_docs, dead_code, clippy::all)]
mod shaders {
    include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
}

pub use adapter::{AdapterFeatures, AdapterReport, Restrict, Wanted, adapters, is_software, type_name};
pub use backend::Gpu;
pub use device::Counters;
pub use error::GpuError;
pub use kernels::geometry::{GpuScratch, GpuSubspaces};
pub use read::Ticket;
pub use tensor::{GpuLabels, GpuTensor, GpuWeights};
