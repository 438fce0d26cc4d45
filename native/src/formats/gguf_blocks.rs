//! The block formats of GGUF tensors, and their values in f32: the arithmetic of ggml's reference, in its order, so that
//! the results are its bits. d and m are halves, q the small integers.

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 32 values `d·(q − 8)`, q of 4 bits.
    Q4_0,
    /// 32 values `d·q + m`, q of 4 bits.
    Q4_1,
    /// 32 values `d·(q − 16)`, q of 5 bits.
    Q5_0,
    /// 32 values `d·q + m`, q of 5 bits.
    Q5_1,
    /// 32 values `d·q`, q of 8 bits.
    Q8_0,
    /// 256 values in 8 groups, `(d·scale)·q − (dmin·min)`, q of 4 bits, scale and min of 6.
    Q4K,
    /// 256 values in 16 groups, `(d·scale)·(q − 32)`, q of 6 bits, scale of 8.
    Q6K,
}

impl BlockFormat {
    /// The format of ggml's number `id`, if it can be read.
    pub fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Values of a block, and its bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }

    /// The values of blocks from number `first` on, into `dst`.
    pub fn unpack(self, bytes: &[u8], first: usize, dst: &mut [f32]) {
        match self {
            Self::F32 => blocks(bytes, first, dst, |b: &[u8; 4], out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*b)),
            Self::F16 => blocks(bytes, first, dst, |b: &[u8; 2], out: &mut [f32; 1]| out[0] = half(b, 0)),
            Self::Bf16 => blocks(bytes, first, dst, |b: &[u8; 2], out: &mut [f32; 1]| {
                out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }),
            Self::Q4_0 => blocks(bytes, first, dst, q4_0),
            Self::Q4_1 => blocks(bytes, first, dst, q4_1),
            Self::Q5_0 => blocks(bytes, first, dst, q5_0),
            Self::Q5_1 => blocks(bytes, first, dst, q5_1),
            Self::Q8_0 => blocks(bytes, first, dst, q8_0),
            Self::Q4K => blocks(bytes, first, dst, q4_k),
            Self::Q6K => blocks(bytes, first, dst, q6_k),
        }
    }
}

/// ggml's name of a format by its number, for messages.
pub fn format_name(id: u32) -> &'static str {
    match id {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        13 => "Q5_K",
        15 => "Q8_K",
        16..=23 | 29 => "an IQ format",
        24..=27 => "an integer format",
        28 => "F64",
        34 | 35 => "a ternary format",
        39 => "MXFP4",
        _ => "unknown",
    }
}

/// Applies `one` to blocks of B bytes, each of which gives N values; `dst` gets those from number `first` on.
fn blocks<const B: usize, const N: usize>(
    bytes: &[u8],
    first: usize,
    dst: &mut [f32],
    one: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let (stored, skip) = (&bytes.as_chunks::<B>().0[first / N..], first % N);
    // The first and the last block may be needed in part.
    let part = |block: &[u8; B], skip: usize, dst: &mut [f32]| {
        let mut values = [0.0; N];
        one(block, &mut values);
        dst.copy_from_slice(&values[skip..skip + dst.len()]);
    };
    let (start, dst) = dst.split_at_mut(if skip == 0 { 0 } else { dst.len().min(N - skip) });
    let stored = match stored.split_first().filter(|_| !start.is_empty()) {
        Some((block, others)) => {
            part(block, skip, start);
            others
        }
        None => stored,
    };
    let (whole, end) = dst.as_chunks_mut::<N>();
    let last = whole.len();
    stored.iter().zip(whole).for_each(|(block, values)| one(block, values));
    if !end.is_empty() {
        part(&stored[last], 0, end);
    }
}

/// The half at byte `at`.
fn half(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The fifth bits of 32 values: bit j is value j's.
fn fifth(bytes: &[u8], at: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    move |j| ((bits >> j & 1) << 4) as u8
}

// Byte j of a block of 32 holds value j in its low half and value j + 16 in its high half.

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (j, q) in block[2..].iter().enumerate() {
        out[j] = d * (f32::from(q & 15) - 8.0);
        out[j + 16] = d * (f32::from(q >> 4) - 8.0);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (j, q) in block[4..].iter().enumerate() {
        out[j] = d * f32::from(q & 15) + m;
        out[j + 16] = d * f32::from(q >> 4) + m;
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, fifth) = (half(block, 0), fifth(block, 2));
    for (j, q) in block[6..].iter().enumerate() {
        out[j] = d * (f32::from(q & 15 | fifth(j)) - 16.0);
        out[j + 16] = d * (f32::from(q >> 4 | fifth(j + 16)) - 16.0);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, fifth) = (half(block, 0), half(block, 2), fifth(block, 4));
    for (j, q) in block[8..].iter().enumerate() {
        out[j] = d * f32::from(q & 15 | fifth(j)) + m;
        out[j + 16] = d * f32::from(q >> 4 | fifth(j + 16)) + m;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    out.iter_mut().zip(&block[2..]).for_each(|(x, &q)| *x = d * f32::from(q.cast_signed()));
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let (scales, quants) = (&block[4..16], &block[16..]);
    // Scales and minima of 6 bits: the first four of each in bytes 0–3 and 4–7, of the others the low halves in 8–11
    // and the upper two bits in the spare bits of the first eight.
    let group = |j: usize| {
        let (scale, min) = if j < 4 {
            (scales[j] & 63, scales[j + 4] & 63)
        } else {
            (scales[j + 4] & 15 | scales[j - 4] >> 6 << 4, scales[j + 4] >> 4 | scales[j] >> 6 << 4)
        };
        (d * f32::from(scale), dmin * f32::from(min))
    };
    for (j, (part, q)) in out.chunks_exact_mut(32).zip((0..8).map(|j| &quants[j / 2 * 32..][..32])).enumerate() {
        let (scale, min) = group(j);
        for (x, q) in part.iter_mut().zip(q) {
            *x = scale * f32::from(if j % 2 == 0 { q & 15 } else { q >> 4 }) - min;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (i, x) in out.iter_mut().enumerate() {
        // Each half of the block: 4 runs of 32 values, low bits in two runs of 32 bytes, upper bits in one.
        let (part, run, l) = (i / 128, i % 128 / 32, i % 32);
        let low = low[part * 64 + run % 2 * 32 + l] >> (run / 2 * 4) & 15;
        let high = high[part * 32 + l] >> (run * 2) & 3;
        let q = f32::from(low | high << 4) - 32.0;
        *x = d * f32::from(scales[i / 16].cast_signed()) * q;
    }
}
