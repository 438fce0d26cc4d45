//! GGUF files (versions 2 and 3): typed metadata and named tensors, as llama.cpp writes them.
//!
//! The header is read by `gguf_header`, the values by `gguf_blocks`.

use std::collections::BTreeMap;
use std::path::Path;

use eblora_core::model::HostValues;
use thiserror::Error;

use super::gguf_blocks::{BlockFormat, format_name};
use super::gguf_header;
use super::mapped::SharedBytes;
use super::packed::PackedTensor;
use super::safetensors::first_not_finite;

/// Why a GGUF file could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The system refused.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{file}: not a GGUF file: it starts with the bytes {found:02x?}")]
    Magic {
        /// The file.
        file: String,
        /// Its first bytes, up to four.
        found: Vec<u8>,
    },
    /// A version that is not read.
    #[error("{file}: GGUF version {found}; 2 and 3, little-endian, can be read")]
    Version {
        /// The file.
        file: String,
        /// The version it claims.
        found: u32,
    },
    /// The file ends too early.
    #[error("{file}: truncated in {part}: {due} bytes are due from byte {at} on, {found} are there; fetch it again")]
    Truncated {
        /// The file.
        file: String,
        /// What was being read.
        part: String,
        /// Where.
        at: usize,
        /// Bytes due.
        due: u64,
        /// Bytes there.
        found: usize,
    },
    /// The header contradicts itself.
    #[error("{file}: damaged GGUF file: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A tensor in a format that is not read.
    #[error(
        "{file}: tensor `{tensor}` has format {id} ({}); F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K and Q6_K can \
         be read",
        format_name(*id)
    )]
    Format {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// ggml's number of its format.
        id: u32,
    },
    /// A metadatum that is due is not there, or of another type.
    #[error("{file}: metadatum `{key}`: {reason}")]
    Key {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensor is not there.
    #[error("{file}: no tensor `{tensor}`")]
    Missing {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The tensor has another shape.
    #[error("{file}: tensor `{tensor}` has shape {found:?}, where {expected:?} is due")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape due, the slowest dimension first.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// The tensor holds a NaN or an infinity.
    #[error("{file}: tensor `{tensor}` holds {value} at element {index}; weights must be finite")]
    NonFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// First offending element, row by row.
        index: usize,
        /// Its value.
        value: f32,
    },
}

/// A metadatum.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Either float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array(Vec<Value>),
}

/// What a tensor's entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Extents, the slowest dimension first, as in safetensors.
    pub shape: Vec<usize>,
    /// How the values are stored.
    pub format: BlockFormat,
    /// First byte in the file.
    pub(super) start: usize,
    /// Number of bytes.
    pub(super) bytes: usize,
}

/// A GGUF file, mapped.
#[derive(Clone, Debug)]
pub struct Gguf {
    source: String,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
    bytes: SharedBytes,
}

impl Gguf {
    /// Reads a file.
    pub fn read_file(path: &Path) -> Result<Self, GgufError> {
        let file = path.display().to_string();
        let bytes = SharedBytes::map(path).map_err(|source| GgufError::Read { file: file.clone(), source })?;
        Self::from_bytes(bytes, &file)
    }

    /// Reads the bytes of a file; `file` names it in errors.
    pub fn from_bytes(bytes: impl Into<SharedBytes>, file: &str) -> Result<Self, GgufError> {
        let bytes = bytes.into();
        let (metadata, tensors) = gguf_header::read(&bytes, file)?;
        Ok(Self { source: file.to_owned(), metadata, tensors, bytes })
    }

    /// Where it comes from, for messages.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A metadatum.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A metadatum that `convert` takes, or `default` where there is none.
    fn value<T>(
        &self,
        key: &str,
        default: Option<T>,
        what: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, GgufError> {
        let refuse = |reason| Err(GgufError::Key { file: self.source.clone(), key: key.to_owned(), reason });
        match (self.get(key), default) {
            (Some(value), _) => match convert(value) {
                Some(value) => Ok(value),
                None => refuse(format!("not {what}")),
            },
            (None, Some(default)) => Ok(default),
            (None, None) => refuse("missing".to_owned()),
        }
    }

    /// A count.
    pub fn count(&self, key: &str, default: Option<usize>) -> Result<usize, GgufError> {
        self.value(key, default, "a count", |value| match *value {
            Value::Unsigned(x) => usize::try_from(x).ok(),
            Value::Signed(x) => usize::try_from(x).ok(),
            _ => None,
        })
    }

    /// A number.
    pub fn number(&self, key: &str, default: Option<f64>) -> Result<f64, GgufError> {
        self.value(key, default, "a number", |value| match *value {
            Value::Float(x) => Some(x),
            Value::Unsigned(x) => Some(x as f64),
            Value::Signed(x) => Some(x as f64),
            _ => None,
        })
    }

    /// A truth value.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, GgufError> {
        self.value(key, Some(default), "a truth value", |value| match *value {
            Value::Bool(x) => Some(x),
            _ => None,
        })
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<&str, GgufError> {
        match self.get(key) {
            Some(Value::String(text)) => Ok(text),
            _ => self.value(key, None, "a text", |_| None),
        }
    }

    /// A list.
    pub fn list(&self, key: &str) -> Result<&[Value], GgufError> {
        match self.get(key) {
            Some(Value::Array(values)) => Ok(values),
            _ => self.value(key, None, "a list", |_| None),
        }
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What is known of a tensor, if it is there.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The values of a tensor of this shape, where they are; they have been looked through once.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<HostValues, GgufError> {
        let (file, tensor) = (self.source.clone(), name.to_owned());
        let Some(info) = self.info(name) else { return Err(GgufError::Missing { file, tensor }) };
        if info.shape != shape {
            let (expected, found) = (shape.to_vec(), info.shape.clone());
            return Err(GgufError::Shape { file, tensor, expected, found });
        }
        let bytes = info.start..info.start + info.bytes;
        let values = PackedTensor::new(self.bytes.clone(), bytes, info.format).into_values();
        match first_not_finite(&values) {
            None => Ok(values),
            Some((index, value)) => Err(GgufError::NonFinite { file, tensor, index, value }),
        }
    }

    /// The same in f32, whatever it is stored in.
    pub fn tensor_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, GgufError> {
        Ok(self.tensor(name, shape)?.to_f32())
    }
}
