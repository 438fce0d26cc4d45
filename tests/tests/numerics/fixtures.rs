//! The reference files, and the one comparator that all tests against them use.

use eblora_core::Real;
use eblora_core::backend::{Backend, Cpu, cpu::CpuTensor};
use eblora_core::model::HostValues;
use faer::{Mat, MatRef};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A file of the folder of references.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// One reference tensor; integers are exact in f64.
#[derive(Clone, Debug)]
pub struct Reference {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// All tensors of a file.
pub struct Fixture {
    file: String,
    tensors: BTreeMap<String, Reference>,
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let file = format!("{name}.safetensors");
        let bytes = std::fs::read(path(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let stored = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{file}: {e}"));
        let tensors = stored.iter().map(|(name, t)| {
            let words = t.data().chunks_exact(8).map(|b| b.try_into().expect("8 bytes"));
            let values = match t.dtype() {
                Dtype::F64 => words.map(f64::from_le_bytes).collect(),
                Dtype::I64 => words.map(|b| i64::from_le_bytes(b) as f64).collect(),
                other => panic!("{file}: {name}: {other:?}"),
            };
            (name.to_owned(), Reference { shape: t.shape().to_vec(), values })
        });
        let tensors = tensors.collect();
        Self { file, tensors }
    }

    pub fn get(&self, name: &str) -> &Reference {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.file))
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn scalar(&self, name: &str) -> f64 {
        let t = self.get(name);
        assert_eq!(t.values.len(), 1, "{name} is not a scalar");
        t.values[0]
    }

    pub fn labels(&self, name: &str) -> Vec<u32> {
        self.get(name).values.iter().map(|&x| x as u32).collect()
    }

    /// A matrix.
    pub fn matrix<T: Real>(&self, name: &str) -> Mat<T> {
        let t = self.get(name);
        let cols = *t.shape.last().expect("not a scalar");
        Mat::from_fn(t.values.len() / cols, cols, |i, j| T::of(t.values[i * cols + j]))
    }

    /// The cases `<op>.<case>` that have a tensor `<op>.<case>.<tensor>`; there is at least one.
    pub fn cases(&self, op: &str, tensor: &str) -> Vec<String> {
        let (start, end) = (format!("{op}."), format!(".{tensor}"));
        let names = self.tensors.keys().filter(|k| k.starts_with(&start) && k.ends_with(&end));
        let found: Vec<_> = names.map(|k| k[..k.len() - end.len()].to_owned()).collect();
        assert!(!found.is_empty(), "{}: no {op} with {tensor}", self.file);
        found
    }

    /// On the CPU as one matrix: all dimensions but the last are rows.
    pub fn upload<T: Real>(&self, name: &str) -> CpuTensor<T> {
        let t = self.get(name);
        let cols = *t.shape.last().expect("a shape");
        let values: Vec<T> = t.values.iter().map(|&x| T::of(x)).collect();
        Cpu::new().upload([1, values.len() / cols, cols], &values).expect("memory")
    }
}

/// Rounds weights to bf16, and keeps them so, or widened again.
pub fn round_to_bf16(values: &mut HostValues, stored: bool) {
    let bits: Vec<u16> = values.to_f32().iter().map(|x| (x.to_bits() >> 16) as u16).collect();
    let full = || bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect();
    *values = if stored { HostValues::Bf16(bits) } else { HostValues::F32(full()) };
}

/// Row-major values of a matrix.
pub fn row_major<T: Real>(a: MatRef<'_, T>) -> Vec<T> {
    (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)])).collect()
}

/// What may differ: |got − want| ≤ relative · (largest |want| of the tensor + `floor`).
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub relative: f64,
    pub floor: f64,
}

impl Bound {
    /// f64: 1e-10. f32: reduction length × 1.2e-7 × 2, the classical bound of a sum of rounded products.
    pub fn reduction<T: Real>(length: usize) -> Self {
        Self { relative: if T::NAME == "f64" { 1e-10 } else { length as f64 * 1.2e-7 * 2.0 }, floor: 1.0 }
    }

    /// Relative to the tensor alone, for tensors far from the size 1.
    pub fn relative(relative: f64) -> Self {
        Self { relative, floor: 0.0 }
    }
}

/// Compares with references and keeps the worst error, as a share of its bound, for the report at the end.
pub struct Check {
    title: String,
    worst: (f64, String),
}

impl Check {
    pub fn new<T: Real>(title: &str) -> Self {
        Self { title: format!("{title} ({})", T::NAME), worst: (0.0, String::new()) }
    }

    /// Fails where a value is off by more than the bound, is not finite, or the sizes differ.
    #[track_caller]
    pub fn tensor<T: Real>(&mut self, name: &str, got: &[T], want: &[f64], bound: Bound) {
        match error(got, want, bound) {
            Ok((share, error)) if share >= self.worst.0 => {
                self.worst = (share, format!("{name}: {error:.1e} of {:.1e}", bound.relative));
            }
            Ok(_) => {}
            Err(what) => panic!("{}: {name}: {what}", self.title),
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        println!("{}: worst {}", self.title, self.worst.1);
    }
}

/// The largest error as a share of the bound, and relative as the bound is; or why it is too large.
pub fn error<T: Real>(got: &[T], want: &[f64], bound: Bound) -> Result<(f64, f64), String> {
    if got.len() != want.len() {
        return Err(format!("{} values, not {}", got.len(), want.len()));
    }
    let size = want.iter().fold(0.0_f64, |m, x| m.max(x.abs())) + bound.floor;
    let mut worst = 0.0_f64;
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let off = (g.f64() - w).abs();
        if off.is_nan() || off > bound.relative * size {
            return Err(format!(
                "value {i}: {} instead of {w}: off by {off:e} of {:e}",
                g.f64(),
                bound.relative * size
            ));
        }
        worst = worst.max(off);
    }
    let relative = if size > 0.0 { worst / size } else { 0.0 };
    Ok((if bound.relative > 0.0 { relative / bound.relative } else { 0.0 }, relative))
}

#[test]
fn the_comparator_finds_planted_errors() {
    let (want, bound) = ([1.0, -2.0, 4.0], Bound::relative(1e-10));
    let (share, _) = error(&want, &want, bound).expect("equal");
    assert_eq!(share, 0.0);
    let (share, relative) = error(&[1.0, -2.0, 4.0 + 2e-10], &want, bound).expect("within the bound");
    assert!((0.4..0.6).contains(&share) && (relative - 0.5e-10).abs() < 1e-12, "{share} {relative}");
    for planted in [[1.0 + 1e-9, -2.0, 4.0], [1.0, 2.0, 4.0], [1.0, -2.0, f64::NAN], [f64::INFINITY, -2.0, 4.0]] {
        assert!(error(&planted, &want, bound).is_err(), "{planted:?}");
    }
    assert!(error(&[1.0, -2.0], &want, bound).is_err(), "one value is missing");
    assert!(error(&[0.1 + 1e-6, 0.0_f32], &[0.1, 0.0], Bound::reduction::<f32>(1)).is_err());
    assert!(error(&[1e-9], &[0.0], Bound::reduction::<f64>(1)).is_err(), "zero has a bound too");
    assert!(error(&[1e-300], &[0.0], Bound::relative(1e-10)).is_err(), "a zero tensor must be zero");
}
