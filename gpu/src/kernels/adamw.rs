//! The AdamW increment.

use eblora_core::backend::AdamWStep;

use super::rows::{for_shards, value_groups};
use crate::device::Device;
use crate::shaders::adamw::{Buffers, Params, launch};
use crate::tensor::GpuTensor;

/// Replaces `grad` by `Δ = −rate·m̂/(√v̂ + ε)` and updates the moments `m`, `v`.
pub fn adamw(device: &Device, grad: &GpuTensor, m: &GpuTensor, v: &GpuTensor, step: AdamWStep) {
    let t = f64::from(step.step);
    // Δ = −(rate/(1 − β₁ᵗ))·m / (√v/√(1 − β₂ᵗ) + ε)
    let rate = (-step.rate / (1.0 - step.beta1.powf(t))) as f32;
    let root = (1.0 / (1.0 - step.beta2.powf(t)).sqrt()) as f32;
    for_shards([grad, m, v], &mut |_, len, [grad, m, v]| {
        let params = Params {
            len: len as u32,
            rate,
            root,
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            rest1: (1.0 - step.beta1) as f32,
            rest2: (1.0 - step.beta2) as f32,
            epsilon: step.epsilon as f32,
        };
        let buffers = Buffers { fault: &device.fault, grad: grad.0, m: m.0, v: v.0 };
        launch(device, buffers, params, value_groups(len));
    });
}
