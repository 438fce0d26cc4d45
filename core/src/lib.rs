//! The numerical core of **eblora**: energy-balanced low-rank continual adaptation (EBLoRA, arXiv 2602.00722).
//!
//! Each task's update of a frozen weight is `ΔW = s·U·Vᵀ` with orthonormal `U` (out×r) and `V` (in×r); `V` is kept
//! orthogonal to a basis `M` (in×k) of the gradient directions of earlier tasks (GPM) and every step is put back on
//! the manifold by the whitening retraction. The folders read like the paper, from the ground up:
//!
//! | module | what it holds |
//! |---|---|
//! | [`linalg`] | Gram, symmetric eigen, inverse square root, truncated SVD, gradient sketches |
//! | [`manifold`] | Stiefel and restricted Stiefel manifold: tangent maps, retractions, feasibility |
//! | [`gpm`] | the gradient projection memory `M`: update by energy, complement form, budget |
//! | [`metrics`] | accuracy matrix, transfer, spectra |
//! | [`backend`] | the trait that a device implements, and the CPU that is its reference |
//! | [`adapter`] | the factored updates: init, depth schedule, merge, smoothing |
//! | [`optim`] | AdamW, the projected Riemannian step, schedules |
//! | [`model`] | forward and backward of the models, generic over the backend |
//! | [`method`] | LoRA-FT, EBO, EBLoRA behind one trait |
//! | [`train`] | the task stream, the trainer and its evaluation |
//!
//! `no_std` with `alloc`; the feature `std` adds threads and run-time SIMD dispatch. No I/O, no clock.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(missing_docs)]

extern crate alloc;

pub mod adapter;
pub mod backend;
pub mod gpm;
pub mod linalg;
pub mod manifold;
pub mod method;
pub mod metrics;
pub mod model;
pub mod optim;
pub mod random;
pub mod scalar;
pub mod train;

/// The linear algebra that matrices of this API come from.
pub use faer;
pub use scalar::Real;
