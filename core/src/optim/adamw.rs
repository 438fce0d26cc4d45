//! AdamW (Loshchilov & Hutter 2019) over one stack.

use alloc::vec::Vec;

use super::{Ambient, Part};
use crate::backend::{AdamWStep, Backend, BackendError};

/// Constants of AdamW; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// First and second moments of one stack.
pub struct AdamW<B: Backend> {
    config: AdamWConfig,
    m: B::Tensor,
    v: B::Tensor,
    step: u32,
}

impl<B: Backend> AdamW<B> {
    /// Zero moments for a stack of this shape.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(backend: &B, config: AdamWConfig, shape: [usize; 3]) -> Result<Self, BackendError> {
        Ok(Self { config, m: backend.zeros(shape)?, v: backend.zeros(shape)?, step: 0 })
    }
}

impl<B: Backend> Ambient<B> for AdamW<B> {
    fn increment(&mut self, backend: &B, grad: &mut B::Tensor, rate: f64) {
        self.step += 1;
        let AdamWConfig { beta1, beta2, epsilon } = self.config;
        backend.adamw(grad, &mut self.m, &mut self.v, AdamWStep { rate, beta1, beta2, epsilon, step: self.step });
    }

    fn parts(&mut self) -> Vec<(&'static str, Part<'_, B>)> {
        Vec::from([
            ("adamw.m", Part::Tensor(&mut self.m)),
            ("adamw.v", Part::Tensor(&mut self.v)),
            ("adamw.step", Part::Count(&mut self.step)),
        ])
    }
}
