//! Tensors in device memory: a row-major stack of matrices in one buffer, or in several where it is larger than what a
//! kernel can bind.

use std::rc::Rc;

use eblora_core::backend::{BackendError, Shaped, Stored};

use crate::buffer::Buffer;
use crate::device::Device;
use crate::shaders::matmul::Format;

/// Bytes of a value.
pub const VALUE: usize = 4;

/// A part of a tensor: whole matrices of the stack, or whole rows where a matrix is too large.
#[derive(Debug)]
pub struct Shard {
    pub(crate) buffer: Buffer,
    /// Index of its first value in the tensor.
    pub(crate) first: usize,
    /// Its values.
    pub(crate) len: usize,
}

/// A row-major stack of f32 matrices in device memory.
#[derive(Debug)]
pub struct GpuTensor {
    shape: [usize; 3],
    pub(crate) shards: Vec<Shard>,
}

impl GpuTensor {
    /// Memory for a tensor; what is in it is not defined.
    pub(crate) fn new(device: &Rc<Device>, shape: [usize; 3]) -> Result<Self, BackendError> {
        let [count, rows, cols] = shape;
        let shards = shards(device, [count, rows, cols], VALUE)?;
        Ok(Self { shape, shards })
    }

    /// A tensor with these values.
    pub(crate) fn upload(device: &Rc<Device>, shape: [usize; 3], values: &[f32]) -> Result<Self, BackendError> {
        let expected = shape.iter().product();
        if values.len() != expected {
            return Err(BackendError::Size { op: "upload", expected, got: values.len() });
        }
        let tensor = Self::new(device, shape)?;
        tensor.write(device, values);
        Ok(tensor)
    }

    /// Overwrites the first values.
    pub(crate) fn write(&self, device: &Device, values: &[f32]) {
        for shard in self.shards.iter().filter(|s| s.first < values.len()) {
            let end = (shard.first + shard.len).min(values.len());
            device.write(&shard.buffer, 0, bytemuck::cast_slice(&values[shard.first..end]));
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shard that holds value `at`, and where in it; the last one for the end of the tensor.
    pub(crate) fn locate(&self, at: usize) -> (usize, usize) {
        let shard = self.shards.partition_point(|s| s.first <= at).saturating_sub(1);
        (shard, at - self.shards[shard].first)
    }
}

impl Shaped for GpuTensor {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

/// Buffers of one tensor, at most: half a terabyte of the smallest kind, more than any device has.
const MOST_SHARDS: usize = 4096;
/// Values that are unpacked at a time on their way to the device.
const PIECE: usize = 1 << 20;

/// Cuts a stack at matrices, or at rows, so that each part can be bound.
fn shards(device: &Rc<Device>, [count, rows, cols]: [usize; 3], bytes: usize) -> Result<Vec<Shard>, BackendError> {
    let len = count * rows * cols;
    let most = (device.max_binding() as usize / bytes).max(1);
    if len.div_ceil(most) > MOST_SHARDS || cols > most {
        let message = format!(
            "a tensor of {count}×{rows}×{cols} values has no room in its memory: use a smaller batch or model, or the CPU"
        );
        return Err(BackendError::Device { device: device.name().into(), message });
    }
    let unit = if len <= most {
        len
    } else if rows * cols <= most {
        most / (rows * cols) * (rows * cols)
    } else {
        most / cols * cols
    };
    let mut shards = Vec::with_capacity(len.div_ceil(unit.max(1)).max(1));
    let mut first = 0;
    loop {
        let len = unit.min(len - first);
        shards.push(Shard { buffer: device.allocate((len * bytes) as u64)?, first, len });
        first += len;
        if first >= count * rows * cols {
            return Ok(shards);
        }
    }
}

/// Frozen weights as stored: f32, bf16 or f16.
#[derive(Debug)]
pub struct GpuWeights {
    shape: [usize; 3],
    pub(crate) format: Format,
    pub(crate) shards: Vec<Shard>,
}

impl GpuWeights {
    /// Weights with these values.
    pub(crate) fn upload(
        device: &Rc<Device>,
        rows: usize,
        cols: usize,
        stored: Stored<'_>,
    ) -> Result<Self, BackendError> {
        let (expected, got) = (rows * cols, stored.len());
        if got != expected {
            return Err(BackendError::Size { op: "upload_weights", expected, got });
        }
        // Plain values go over as they are, others in single precision.
        let stored = match stored {
            Stored::Packed(packed) => packed.plain().unwrap_or(stored),
            plain => plain,
        };
        let (format, bytes) = match stored {
            Stored::F32(_) | Stored::Packed(_) => (Format::F32, 4),
            Stored::Bf16(_) => (Format::Bf16, 2),
            Stored::F16(_) => (Format::F16, 2),
        };
        let weights = Self { shape: [1, rows, cols], format, shards: shards(device, [1, rows, cols], bytes)? };
        for shard in &weights.shards {
            let range = shard.first..shard.first + shard.len;
            match stored {
                Stored::F32(values) => device.write(&shard.buffer, 0, bytemuck::cast_slice(&values[range])),
                Stored::Packed(packed) => {
                    let mut values = vec![0.0_f32; PIECE.min(range.len())];
                    for first in range.clone().step_by(PIECE) {
                        let values = &mut values[..PIECE.min(range.end - first)];
                        packed.unpack(first, values);
                        let at = ((first - range.start) * VALUE) as u64;
                        device.write(&shard.buffer, at, bytemuck::cast_slice(values));
                    }
                }
                Stored::Bf16(bits) | Stored::F16(bits) if shard.len.is_multiple_of(2) => {
                    device.write(&shard.buffer, 0, bytemuck::cast_slice(&bits[range]));
                }
                Stored::Bf16(bits) | Stored::F16(bits) => {
                    // Writes are whole words.
                    let mut even = bits[range].to_vec();
                    even.push(0);
                    device.write(&shard.buffer, 0, bytemuck::cast_slice(&even));
                }
            }
        }
        Ok(weights)
    }
}

impl Shaped for GpuWeights {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

/// Labels or token numbers in device memory.
#[derive(Debug)]
pub struct GpuLabels {
    pub(crate) buffer: Buffer,
    pub(crate) capacity: usize,
    /// Working memory of the cross-entropy: the loss of each row, and how many rows count.
    pub(crate) losses: Buffer,
    pub(crate) counted: Buffer,
}

impl GpuLabels {
    /// Room for so many.
    pub(crate) fn new(device: &Rc<Device>, capacity: usize) -> Result<Self, BackendError> {
        let buffer = || device.allocate((capacity * VALUE) as u64);
        let labels = Self { buffer: buffer()?, capacity, losses: buffer()?, counted: device.allocate(VALUE as u64)? };
        device.clear(&labels.buffer);
        Ok(labels)
    }
}
