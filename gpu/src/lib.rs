//! `eblora_core::backend::Backend` over wgpu: the kernels under `shaders/`, twins of `core/src/backend/cpu`, on any
//! Vulkan, Metal, DX12 or WebGPU device.
#![deny(missing_docs)]

mod adapter;
mod buffer;
mod device;
mod error;
mod kernels;
mod read;
mod tensor;

#[allow(missing_docs, clippy::all)]
mod shaders {
    include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
}

pub use adapter::{AdapterReport, Wanted, adapters, is_software, type_name};
pub use device::Counters;
pub use error::GpuError;
