//! Frozen weights on the host, in the form in which their file keeps them.

use alloc::sync::Arc;
use core::fmt::Debug;

/// Values that stay where they are, in a mapped file for one, and are unpacked a piece at a time: blocks of quantised
/// values, or plain ones.
///
/// ```
/// use eblora_core::backend::{Packed, Stored};
/// /// Numbers from −128 to 127 in steps of 1/64.
/// #[derive(Debug)]
/// struct Small(Vec<i8>);
/// impl Packed for Small {
///     fn len(&self) -> usize { self.0.len() }
///     fn plain(&self) -> Option<Stored<'_>> { None }
///     fn unpack(&self, first: usize, dst: &mut [f32]) {
///         dst.iter_mut().zip(&self.0[first..]).for_each(|(x, &q)| *x = f32::from(q) / 64.0);
///     }
/// }
/// let mut two = [0.0; 2];
/// Small(vec![64, -32, 16]).unpack(1, &mut two);
/// assert_eq!(two, [-0.5, 0.25]);
/// ```
pub trait Packed: Debug + Send + Sync {
    /// Number of values.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The values as they are, where they are plain ones: never [`Stored::Packed`].
    fn plain(&self) -> Option<Stored<'_>>;
    /// Writes the values from number `first` on into `dst`.
    fn unpack(&self, first: usize, dst: &mut [f32]);
}

/// The bits of a frozen weight matrix as a file stores them, row-major.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// The upper half of single precision.
    Bf16(&'a [u16]),
    /// IEEE half precision.
    F16(&'a [u16]),
    /// In a form of their own. A device in main memory keeps the pointer instead of a copy.
    Packed(&'a Arc<dyn Packed>),
}

impl Stored<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(bits) | Self::F16(bits) => bits.len(),
            Self::Packed(packed) => packed.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the values from number `first` on into `dst`, in single precision.
    ///
    /// ```
    /// use eblora_core::backend::Stored;
    /// let mut two = [0.0; 2];
    /// Stored::Bf16(&[0x3f80, 0x4000, 0xc000]).unpack(1, &mut two);
    /// assert_eq!(two, [2.0, -2.0]);
    /// ```
    pub fn unpack(&self, first: usize, dst: &mut [f32]) {
        match self {
            Self::F32(values) => dst.copy_from_slice(&values[first..first + dst.len()]),
            Self::Bf16(bits) => {
                let bits = &bits[first..first + dst.len()];
                dst.iter_mut().zip(bits).for_each(|(x, &b)| *x = f32::from_bits(u32::from(b) << 16));
            }
            Self::F16(bits) => {
                use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
                let bits: &[half::f16] = bits[first..first + dst.len()].reinterpret_cast();
                bits.convert_to_f32_slice(dst);
            }
            Self::Packed(packed) => match packed.plain() {
                Some(plain) => plain.unpack(first, dst),
                None => packed.unpack(first, dst),
            },
        }
    }
}
