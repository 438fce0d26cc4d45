//! What tells one model's weights from another's of the same size.

use eblora_core::backend::Stored;

/// CRC-32 of a model's extents and of its weights in f32, in however many bits they are stored.
pub(crate) struct WeightsChecksum(crc32fast::Hasher);

impl WeightsChecksum {
    /// Begins with everything that is no weight.
    pub fn new(extents: &str) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(extents.as_bytes());
        Self(hasher)
    }

    /// Adds weights; they are never unpacked as a whole.
    pub fn add(&mut self, values: Stored<'_>) {
        let mut piece = [0.0_f32; 1024];
        for first in (0..values.len()).step_by(piece.len()) {
            let piece = &mut piece[..1024.min(values.len() - first)];
            values.unpack(first, piece);
            // The same bytes on every machine.
            piece.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits().to_le()));
            self.0.update(bytemuck::cast_slice(piece));
        }
    }

    /// Of all that was added.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::model::HostValues;

    #[test]
    fn the_values_count_not_how_they_are_stored_or_cut() {
        let bits: Vec<u16> = (0..3000).map(|i| 0x3f80 + i % 100).collect();
        let full: Vec<f32> = bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect();
        let of = |parts: &[Stored<'_>]| {
            let mut sum = WeightsChecksum::new("extents");
            parts.iter().for_each(|&part| sum.add(part));
            sum.finish()
        };
        let bytes: Vec<u8> = b"extents".iter().copied().chain(full.iter().flat_map(|x| x.to_le_bytes())).collect();
        assert_eq!(of(&[Stored::F32(&full)]), crc32fast::hash(&bytes));
        assert_eq!(of(&[HostValues::Bf16(bits).stored()]), crc32fast::hash(&bytes));
        assert_eq!(of(&[Stored::F32(&full[..1500]), Stored::F32(&full[1500..])]), crc32fast::hash(&bytes));
    }
}
