//! Weights on their way to the device, their sizes checked.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::ModelError;
use crate::Real;
use crate::backend::Backend;

fn check(shape: [usize; 3], values: &[f32], name: &str) -> Result<(), ModelError> {
    let (expected, got) = (shape.iter().product(), values.len());
    if expected == got { Ok(()) } else { Err(ModelError::Weight { name: name.to_string(), expected, got }) }
}

/// A tensor in the backend's own precision.
pub(super) fn tensor<B: Backend>(
    backend: &B,
    shape: [usize; 3],
    values: &[f32],
    name: &str,
) -> Result<B::Tensor, ModelError> {
    check(shape, values, name)?;
    let values: Vec<B::Scalar> = values.iter().map(|&x| B::Scalar::of(f64::from(x))).collect();
    Ok(backend.upload(shape, &values)?)
}
