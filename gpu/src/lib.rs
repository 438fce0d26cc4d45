//! `eblora_core::backend::Backend` over wgpu: the hot kernels as WGSL, twins of `core/src/backend/cpu`.
//!
//! Nothing is here yet: this release trains on the CPU. The crate holds the name and the place in the workspace, so
//! that the kernels under `shaders/` and their launchers land beside the trait that they implement.
#![no_std]
