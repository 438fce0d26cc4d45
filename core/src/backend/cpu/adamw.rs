//! The AdamW increment.

use super::simd::vectorized;
use super::tensor::CpuTensor;
use crate::Real;
use crate::backend::AdamWStep;

/// Replaces `grad` by `Δ = −rate·m̂/(√v̂ + ε)` and updates the moments `m`, `v`.
pub fn adamw<T: Real>(grad: &mut CpuTensor<T>, m: &mut CpuTensor<T>, v: &mut CpuTensor<T>, step: AdamWStep) {
    assert!(grad.shape == m.shape && m.shape == v.shape, "adamw: {:?}, {:?}, {:?}", grad.shape, m.shape, v.shape);
    let (b1, b2) = (T::of(step.beta1), T::of(step.beta2));
    let (c1, c2) = (T::of(1.0 - step.beta1), T::of(1.0 - step.beta2));
    // Δ = −(rate/(1 − β₁ᵗ))·m / (√v/√(1 − β₂ᵗ) + ε)
    let rate = T::of(-step.rate / (1.0 - libm::pow(step.beta1, f64::from(step.step))));
    let root = T::of(1.0 / libm::sqrt(1.0 - libm::pow(step.beta2, f64::from(step.step))));
    let epsilon = T::of(step.epsilon);
    vectorized(
        #[inline(always)]
        || {
            for ((g, m), v) in grad.data.iter_mut().zip(m.data.iter_mut()).zip(v.data.iter_mut()) {
                *m = b1 * *m + c1 * *g;
                *v = b2 * *v + c2 * *g * *g;
                *g = rate * *m / (v.sqrt() * root + epsilon);
            }
        },
    );
}
