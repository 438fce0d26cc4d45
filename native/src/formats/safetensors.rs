//! Named tensors from a safetensors file, or from a Hugging Face folder with one file or several shards.
//!
//! Files are mapped: a tensor costs nothing before it is taken out, and then only where its values are to be f32 and aren't.
//! F32, F64, F16 and BF16 can be read; a tensor of another type does no harm until it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use eblora_core::model::HostValues;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::Deserialize;
use thiserror::Error;

use super::files::At;
use super::gguf_blocks::BlockFormat;
use super::mapped::SharedBytes;
use super::packed::PackedTensor;

/// The one weight file of a small model.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The list of shards of a large one.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Why tensors could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The system refused.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds no weights.
    #[error("{folder}: neither {SINGLE_FILE} nor {INDEX_FILE} is there{hint}")]
    NoWeights {
        /// The folder.
        folder: String,
        /// What to do where that can be guessed; starts with "; ".
        hint: &'static str,
    },
    /// The file is something else.
    #[error("{file}: not a safetensors file: {found}")]
    Foreign {
        /// The file.
        file: String,
        /// What it seems to be.
        found: String,
    },
    /// The file ends too early.
    #[error("{file}: truncated: {expected} bytes are due, {found} are there; fetch it again")]
    Truncated {
        /// The file.
        file: String,
        /// Bytes due, header included.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The header is larger than the format allows.
    #[error("{file}: a header of {bytes} bytes is more than the 100 MB that the format allows; the file is damaged")]
    HeaderTooLarge {
        /// The file.
        file: String,
        /// The size it claims.
        bytes: u64,
    },
    /// The header contradicts itself or the data.
    #[error("{file}: damaged safetensors file: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// The list of shards is no such list.
    #[error("{file}: not a list of shards: {reason}")]
    Index {
        /// The file.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// The tensor is not there.
    #[error("{file}: no tensor `{tensor}`")]
    Missing {
        /// The file or folder.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The tensor has another shape.
    #[error("{file}: tensor `{tensor}` has shape {found:?}, where {expected:?} is due")]
    Shape {
        /// The file or folder.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape due.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// The tensor is not of a floating-point type that can be read.
    #[error("{file}: tensor `{tensor}` has type {dtype}; F32, F16, BF16 and F64 can be read")]
    Dtype {
        /// The file or folder.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// The tensor holds a NaN or an infinity.
    #[error("{file}: tensor `{tensor}` holds {value} at element {index}; weights must be finite in f32")]
    NonFinite {
        /// The file or folder.
        file: String,
        /// The tensor.
        tensor: String,
        /// First offending element, row by row.
        index: usize,
        /// Its value.
        value: f32,
    },
}

/// A tensor in main memory, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// The extent of each dimension.
    pub shape: Vec<usize>,
    /// The product of `shape` elements.
    pub data: Vec<f32>,
}

/// The tensors of a file or folder by name.
#[derive(Clone, Debug)]
pub struct Tensors {
    source: String,
    entries: BTreeMap<String, Entry>,
}

/// Where a tensor's bytes are.
#[derive(Clone, Debug)]
struct Entry {
    shape: Vec<usize>,
    dtype: Dtype,
    file: SharedBytes,
    bytes: Range<usize>,
}

impl Tensors {
    /// Takes the bytes of one safetensors file; `file` names it in errors.
    pub fn from_bytes(bytes: impl Into<SharedBytes>, file: &str) -> Result<Self, SafetensorsError> {
        let bytes = bytes.into();
        let parsed = SafeTensors::deserialize(&bytes).map_err(|e| explain(e, &bytes, file))?;
        let place = |data: &[u8]| {
            let start = data.as_ptr().addr() - bytes.as_ptr().addr();
            start..start + data.len()
        };
        let entry = |view: TensorView<'_>| Entry {
            shape: view.shape().to_vec(),
            dtype: view.dtype(),
            file: bytes.clone(),
            bytes: place(view.data()),
        };
        let entries = parsed.iter().map(|(name, view)| (name.to_owned(), entry(view))).collect();
        Ok(Self { source: file.to_owned(), entries })
    }

    /// Maps one safetensors file.
    pub fn read_file(file: impl Into<At>) -> Result<Self, SafetensorsError> {
        let at = file.into();
        let file = at.path().display().to_string();
        match at.map() {
            Ok(bytes) => Self::from_bytes(bytes, &file),
            Err(source) => Err(SafetensorsError::Read { file, source }),
        }
    }

    /// Reads the weights of a Hugging Face folder: [`SINGLE_FILE`], or every shard that [`INDEX_FILE`] lists.
    pub fn read_folder(folder: impl Into<At>) -> Result<Self, SafetensorsError> {
        let folder = &folder.into();
        let (single, index) = (folder.join(SINGLE_FILE), folder.join(INDEX_FILE));
        if single.exists() {
            return Self::read_file(single);
        }
        if !index.exists() {
            let hint = hint(folder);
            return Err(SafetensorsError::NoWeights { folder: folder.path().display().to_string(), hint });
        }
        Self::read_shards(folder, &index)
    }

    fn read_shards(folder: &At, index: &At) -> Result<Self, SafetensorsError> {
        let weight_map = shards(index)?;
        let mut all = Self { source: folder.path().display().to_string(), entries: BTreeMap::new() };
        for shard in weight_map.values().collect::<BTreeSet<_>>() {
            all.entries.extend(Self::read_file(folder.join(shard))?.entries);
        }
        match weight_map.keys().find(|name| !all.entries.contains_key(*name)) {
            Some(tensor) => Err(SafetensorsError::Missing { file: all.source, tensor: tensor.clone() }),
            None => Ok(all),
        }
    }

    /// Where the tensors come from, for messages.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether a tensor of this name is there (still).
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of a floating-point tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let entry = self.entries.get(name)?;
        matches!(entry.dtype, Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16).then_some(&entry.shape)
    }

    /// Takes the tensor out in f32, after checking that its values are finite.
    pub fn take(&mut self, name: &str) -> Result<HostTensor, SafetensorsError> {
        let (shape, values) = self.take_stored(name)?;
        Ok(HostTensor { shape, data: values.to_f32() })
    }

    /// Takes the tensor out in f32, after checking shape and values.
    pub fn take_shaped(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, SafetensorsError> {
        Ok(self.take_stored_shaped(name, shape)?.to_f32())
    }

    /// The same, but the values stay where and as they are (those of F64 become f32).
    pub fn take_stored_shaped(&mut self, name: &str, shape: &[usize]) -> Result<HostValues, SafetensorsError> {
        let (found, values) = self.take_stored(name)?;
        if found == shape {
            return Ok(values);
        }
        Err(SafetensorsError::Shape {
            file: self.source.clone(),
            tensor: name.to_owned(),
            expected: shape.to_vec(),
            found,
        })
    }

    fn take_stored(&mut self, name: &str) -> Result<(Vec<usize>, HostValues), SafetensorsError> {
        let (source, tensor) = (|| self.source.clone(), || name.to_owned());
        let Some(Entry { shape, dtype, file, bytes }) = self.entries.remove(name) else {
            return Err(SafetensorsError::Missing { file: source(), tensor: tensor() });
        };
        let packed = |format| PackedTensor::new(file.clone(), bytes.clone(), format).into_values();
        let values = match dtype {
            Dtype::F32 => packed(BlockFormat::F32),
            Dtype::F16 => packed(BlockFormat::F16),
            Dtype::BF16 => packed(BlockFormat::Bf16),
            Dtype::F64 => {
                let wide = file[bytes.clone()].as_chunks::<8>().0;
                HostValues::F32(wide.iter().map(|&b| f64::from_le_bytes(b) as f32).collect())
            }
            other => {
                return Err(SafetensorsError::Dtype { file: source(), tensor: tensor(), dtype: other.to_string() });
            }
        };
        match first_not_finite(&values) {
            None => Ok((shape, values)),
            Some((index, value)) => Err(SafetensorsError::NonFinite { file: source(), tensor: tensor(), index, value }),
        }
    }
}

/// Which shard holds which tensor, by [`INDEX_FILE`].
pub(crate) fn shards(index: impl Into<At>) -> Result<BTreeMap<String, String>, SafetensorsError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index = index.into();
    let file = index.path().display().to_string();
    let bytes = index.read().map_err(|source| SafetensorsError::Read { file: file.clone(), source })?;
    let parsed: Index = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&bytes))
        .map_err(|e| SafetensorsError::Index { file: file.clone(), reason: e.to_string() })?;
    for shard in parsed.weight_map.values() {
        // A shard is a neighbour of its list, not any file of the machine.
        if Path::new(shard).file_name().is_none_or(|name| name != shard.as_str()) {
            let reason = format!("`{shard}` is not a plain file name");
            return Err(SafetensorsError::Index { file, reason });
        }
    }
    Ok(parsed.weight_map)
}

/// The first value that is a NaN or an infinity.
pub(super) fn first_not_finite(values: &HostValues) -> Option<(usize, f32)> {
    const PIECE: usize = 4096;
    let (values, mut piece) = (values.stored(), [0.0; PIECE]);
    (0..values.len()).step_by(PIECE).find_map(|first| {
        let piece = &mut piece[..PIECE.min(values.len() - first)];
        values.unpack(first, piece);
        let at = piece.iter().position(|x| !x.is_finite())?;
        Some((first + at, piece[at]))
    })
}

pub(super) fn hint(folder: &At) -> &'static str {
    if folder.join("pytorch_model.bin").exists() {
        "; pytorch_model.bin has to be converted: load the model in transformers and call save_pretrained"
    } else if !folder.is_dir() {
        "; no such folder"
    } else {
        ""
    }
}

/// Turns the parser's error into one that says what happened to the file.
fn explain(error: SafeTensorError, bytes: &[u8], file: &str) -> SafetensorsError {
    let file = file.to_owned();
    let found = bytes.len() as u64;
    if let Some(what) = other_format(bytes) {
        return SafetensorsError::Foreign { file, found: what.to_owned() };
    }
    let Some(header) = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)) else {
        return SafetensorsError::Truncated { file, expected: 8, found };
    };
    if bytes.get(8).is_some_and(|&b| b != b'{') {
        return SafetensorsError::Foreign { file, found: "its header does not start with `{`".to_owned() };
    }
    match error {
        SafeTensorError::HeaderTooLarge => SafetensorsError::HeaderTooLarge { file, bytes: header },
        SafeTensorError::InvalidHeaderLength => {
            SafetensorsError::Truncated { file, expected: header.saturating_add(8), found }
        }
        SafeTensorError::MetadataIncompleteBuffer => match end_of_data(bytes, header) {
            Some(expected) if expected > found => SafetensorsError::Truncated { file, expected, found },
            _ => SafetensorsError::Damaged { file, reason: "bytes follow the last tensor".to_owned() },
        },
        other => SafetensorsError::Damaged { file, reason: other.to_string() },
    }
}

/// Where the last tensor ends, by the header.
fn end_of_data(bytes: &[u8], header: u64) -> Option<u64> {
    let end = usize::try_from(header).ok()?.checked_add(8)?;
    let tensors: BTreeMap<String, serde_json::Value> = serde_json::from_slice(bytes.get(8..end)?).ok()?;
    let last = tensors.values().filter_map(|t| t.get("data_offsets")?.get(1)?.as_u64()).max()?;
    header.checked_add(8)?.checked_add(last)
}

/// What people often have under a safetensors name.
pub(super) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let starts: [(&[u8], &str); 5] = [
        (b"version https://git-lfs", "it is a Git LFS pointer; fetch the real file with `git lfs pull`"),
        (b"PK\x03\x04", "it is a PyTorch or zip file; convert it with save_pretrained of transformers"),
        (b"\x80\x02", "it is a Python pickle; convert it with save_pretrained of transformers"),
        (b"GGUF", "it is a GGUF file"),
        (b"\x89HDF", "it is an HDF5 file"),
    ];
    starts.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, what)| *what)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use half::{bf16, f16};
    use safetensors::serialize;
    use std::fs;

    /// A file of `(name, type, shape, little-endian bytes)`.
    fn file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
        let views = tensors.iter().map(|(n, d, s, b)| (*n, TensorView::new(*d, s.to_vec(), b).unwrap()));
        serialize(views, None).unwrap()
    }

    /// A file of tensors of these names and shapes; the values count up in steps that every float type holds exactly, so that a
    /// mix-up shows.
    pub(crate) fn counting_file(list: &[(String, Vec<usize>)], kind: Dtype) -> Vec<u8> {
        let bytes = |x: f32| match kind {
            Dtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
            _ => x.to_le_bytes().to_vec(),
        };
        let data: Vec<Vec<u8>> = (list.iter().enumerate())
            .map(|(i, (_, shape))| (0..shape.iter().product()).flat_map(|j| bytes((4 * i + j % 4) as f32)).collect())
            .collect();
        let views = list.iter().zip(&data).map(|((n, s), d)| (n, TensorView::new(kind, s.clone(), d).unwrap()));
        serialize(views, None).unwrap()
    }

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn small() -> Vec<u8> {
        file(&[("w", Dtype::F32, &[2, 2], f32s(&[1.0, -2.0, 3.5, 0.25]))])
    }

    #[test]
    fn every_float_type_becomes_f32() {
        let values = [1.5f32, -0.25, 3.0];
        let bytes = file(&[
            ("a", Dtype::F32, &[3], f32s(&values)),
            ("b", Dtype::F64, &[3], values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect()),
            ("c", Dtype::F16, &[3], values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()),
            ("d", Dtype::BF16, &[3], values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()),
        ]);
        let mut tensors = Tensors::from_bytes(&bytes[..], "f").unwrap();
        for name in ["a", "b", "c", "d"] {
            assert_eq!(tensors.clone().take_shaped(name, &[3]).unwrap(), values, "{name}");
        }
        let f16s = HostValues::F16(values.map(|v| f16::from_f32(v).to_bits()).to_vec());
        let bf16s = HostValues::Bf16(values.map(|v| bf16::from_f32(v).to_bits()).to_vec());
        let f32s = HostValues::F32(values.to_vec());
        for (name, want) in [("a", &f32s), ("b", &f32s), ("c", &f16s), ("d", &bf16s)] {
            assert_eq!(&tensors.take_stored_shaped(name, &[3]).unwrap(), want, "{name}");
        }
        assert!(matches!(tensors.take("a"), Err(SafetensorsError::Missing { .. })), "taken once");
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let bytes = file(&[
            ("bad", Dtype::F32, &[2], f32s(&[0.0, f32::NAN])),
            ("huge", Dtype::F64, &[1], 1e300f64.to_le_bytes().to_vec()),
            ("ids", Dtype::I64, &[1], 7i64.to_le_bytes().to_vec()),
            ("w", Dtype::F32, &[1, 2], f32s(&[1.0, 2.0])),
        ]);
        let mut t = Tensors::from_bytes(&bytes[..], "f").unwrap();
        assert!(matches!(t.take("bad"), Err(SafetensorsError::NonFinite { index: 1, .. })));
        assert!(matches!(t.take("huge"), Err(SafetensorsError::NonFinite { index: 0, .. })));
        assert_eq!(
            t.take("ids").unwrap_err().to_string(),
            "f: tensor `ids` has type I64; F32, F16, BF16 and F64 can be read"
        );
        assert_eq!(
            t.take_shaped("w", &[2, 1]).unwrap_err().to_string(),
            "f: tensor `w` has shape [1, 2], where [2, 1] is due"
        );
    }

    #[test]
    fn every_cut_is_an_error_and_a_truncation() {
        let whole = small();
        for cut in 0..whole.len() {
            let e = Tensors::from_bytes(&whole[..cut], "f").unwrap_err();
            assert!(matches!(e, SafetensorsError::Truncated { .. }), "cut at {cut}: {e}");
        }
    }

    #[test]
    fn foreign_and_damaged_files_are_told_apart() {
        let error = |bytes: &[u8]| Tensors::from_bytes(bytes, "f").unwrap_err();
        assert!(matches!(error(b"PK\x03\x04 and so on and on"), SafetensorsError::Foreign { .. }));
        assert!(error(b"version https://git-lfs.github.com/spec/v1\n").to_string().contains("git lfs pull"));
        assert!(matches!(error(b"this is plain text of some length"), SafetensorsError::Foreign { .. }));
        let mut large = small();
        large[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(matches!(error(&large), SafetensorsError::HeaderTooLarge { bytes, .. } if bytes == 1 << 40));
        let mut longer = small();
        longer.push(0);
        assert!(error(&longer).to_string().contains("bytes follow the last tensor"));
        let mut broken = small();
        broken[9] = b'!';
        assert!(matches!(error(&broken), SafetensorsError::Damaged { .. }));
    }

    #[test]
    fn shards_are_joined_and_checked() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        assert!(matches!(Tensors::read_folder(folder), Err(SafetensorsError::NoWeights { .. })));
        let list = |map: &str| fs::write(folder.join(INDEX_FILE), format!(r#"{{"weight_map":{map}}}"#)).unwrap();
        fs::write(folder.join("1.safetensors"), file(&[("a", Dtype::F32, &[1], f32s(&[1.0]))])).unwrap();
        fs::write(folder.join("2.safetensors"), file(&[("b", Dtype::F32, &[1], f32s(&[2.0]))])).unwrap();
        list(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
        let mut both = Tensors::read_folder(folder).unwrap();
        assert_eq!(both.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(both.take_shaped("b", &[1]).unwrap(), [2.0]);
        list(r#"{"a":"1.safetensors","c":"2.safetensors"}"#);
        assert!(matches!(Tensors::read_folder(folder), Err(SafetensorsError::Missing { tensor, .. }) if tensor == "c"));
        list(r#"{"a":"../1.safetensors"}"#);
        assert!(matches!(Tensors::read_folder(folder), Err(SafetensorsError::Index { .. })));
        list(r#"{"a":"3.safetensors"}"#);
        assert!(matches!(Tensors::read_folder(folder), Err(SafetensorsError::Read { .. })));
        list("[]");
        assert!(matches!(Tensors::read_folder(folder), Err(SafetensorsError::Index { .. })));
    }
}
