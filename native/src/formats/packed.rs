//! Tensors that stay in their file: plain ones are used where they are mapped, blocks are unpacked as they are needed.

use std::ops::Range;
use std::sync::Arc;

use eblora_core::backend::{Packed, Stored};
use eblora_core::model::HostValues;

use super::gguf_blocks::BlockFormat;
use super::mapped::SharedBytes;

/// A tensor's bytes within its file, row by row.
#[derive(Clone, Debug)]
pub struct PackedTensor {
    file: SharedBytes,
    bytes: Range<usize>,
    format: BlockFormat,
}

impl PackedTensor {
    /// Those bytes of the file in this format.
    ///
    /// # Panics
    /// When the file is shorter; readers of headers check that.
    pub fn new(file: SharedBytes, bytes: Range<usize>, format: BlockFormat) -> Self {
        assert!(bytes.end <= file.len(), "the bytes {bytes:?} of a file of {}", file.len());
        Self { file, bytes, format }
    }

    fn bytes(&self) -> &[u8] {
        &self.file[self.bytes.clone()]
    }

    /// For the core: where they are, or a copy of plain values that lie in the file so that no machine can use them there.
    pub fn into_values(self) -> HostValues {
        let words = || self.bytes().as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
        match self.format {
            _ if self.plain().is_some() => HostValues::Packed(Arc::new(self)),
            BlockFormat::F32 => {
                HostValues::F32(self.bytes().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            BlockFormat::F16 => HostValues::F16(words()),
            BlockFormat::Bf16 => HostValues::Bf16(words()),
            _ => HostValues::Packed(Arc::new(self)),
        }
    }
}

impl Packed for PackedTensor {
    fn len(&self) -> usize {
        let (values, bytes) = self.format.block();
        self.bytes.len() / bytes * values
    }

    fn plain(&self) -> Option<Stored<'_>> {
        // Files are little-endian.
        if cfg!(target_endian = "big") {
            return None;
        }
        match self.format {
            BlockFormat::F32 => bytemuck::try_cast_slice(self.bytes()).ok().map(Stored::F32),
            BlockFormat::F16 => bytemuck::try_cast_slice(self.bytes()).ok().map(Stored::F16),
            BlockFormat::Bf16 => bytemuck::try_cast_slice(self.bytes()).ok().map(Stored::Bf16),
            _ => None,
        }
    }

    fn unpack(&self, first: usize, dst: &mut [f32]) {
        self.format.unpack(self.bytes(), first, dst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 4 bytes before two blocks of Q8_0 with d = 1/2 and q = −32 … 31.
    fn quantized() -> PackedTensor {
        let mut bytes = vec![0xff; 4];
        for block in 0..2 {
            bytes.extend(half::f16::from_f32(0.5).to_le_bytes());
            bytes.extend((0..32_i8).map(|q| (q + 32 * (block - 1)).cast_unsigned()));
        }
        let range = 4..bytes.len();
        PackedTensor::new(bytes.into(), range, BlockFormat::Q8_0)
    }

    #[test]
    fn any_part_is_unpacked() {
        let packed = quantized();
        let whole: Vec<f32> = (-32..32).map(|q| q as f32 / 2.0).collect();
        assert!(packed.len() == 64 && packed.plain().is_none());
        for (first, len) in [(0, 64), (0, 32), (3, 7), (30, 5), (32, 32), (31, 33), (63, 1), (5, 0)] {
            let mut part = vec![f32::NAN; len];
            packed.unpack(first, &mut part);
            assert_eq!(part, whole[first..first + len], "{len} from {first} on");
        }
        assert_eq!(packed.into_values().to_f32(), whole);
    }

    #[test]
    fn plain_values_are_used_where_they_are_or_copied() {
        let values = [1.5_f32, -2.0, 0.25];
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        for shift in [0, 1] {
            // On the right boundary or off it, whichever of the two that is.
            let file = [&vec![0; shift][..], &bytes].concat();
            let packed = PackedTensor::new(file.into(), shift..shift + 12, BlockFormat::F32);
            let (plain, mut two) = (packed.plain().is_some(), [0.0; 2]);
            packed.unpack(1, &mut two);
            assert_eq!(two, values[1..]);
            let values_there = packed.into_values();
            assert_eq!(matches!(values_there, HostValues::Packed(_)), plain);
            assert_eq!(values_there, HostValues::F32(values.to_vec()));
        }
    }
}
