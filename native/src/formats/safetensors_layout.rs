//! Where the tensors of safetensors files lie, without reading them: for files that are rewritten in places.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};

use super::safetensors::{INDEX_FILE, SINGLE_FILE, SafetensorsError, hint, other_format, shards};

/// The most that the format allows.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes of the header's length, before it.
const LENGTH: u64 = 8;

/// One tensor's place.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The type of its elements, stored row by row in little-endian order.
    pub dtype: Dtype,
    /// The extent of each dimension.
    pub shape: Vec<usize>,
    /// Where it starts, counted from the start of the file.
    pub start: u64,
    /// How many bytes it has.
    pub bytes: usize,
}

/// The places of all tensors of one file, by name.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The file.
    pub file: PathBuf,
    /// The places.
    pub tensors: BTreeMap<String, Place>,
}

impl Layout {
    /// Reads a file's header, and checks that what it tells of is there.
    ///
    /// # Errors
    /// When it is no safetensors file, or not whole.
    pub fn read(path: &Path) -> Result<Self, SafetensorsError> {
        let file = path.display().to_string();
        let unread = |source| SafetensorsError::Read { file: file.clone(), source };
        let mut open = File::open(path).map_err(unread)?;
        let found = open.metadata().map_err(unread)?.len();
        let mut start = Vec::new();
        (&mut open).take(64).read_to_end(&mut start).map_err(unread)?;
        if let Some(what) = other_format(&start) {
            return Err(SafetensorsError::Foreign { file, found: what.to_owned() });
        }
        let Some((length, first)) = start.split_first_chunk::<8>() else {
            return Err(SafetensorsError::Truncated { file, expected: LENGTH, found });
        };
        let length = u64::from_le_bytes(*length);
        if first.first().is_some_and(|&b| b != b'{') {
            return Err(SafetensorsError::Foreign { file, found: "its header does not start with `{`".to_owned() });
        }
        if length > LARGEST_HEADER {
            return Err(SafetensorsError::HeaderTooLarge { file, bytes: length });
        }
        let data = LENGTH + length;
        if data > found {
            return Err(SafetensorsError::Truncated { file, expected: data, found });
        }
        let mut header = first.to_vec();
        open.take(data - (LENGTH + first.len() as u64).min(data)).read_to_end(&mut header).map_err(unread)?;
        header.truncate(length as usize);
        let damaged = |reason: String| SafetensorsError::Damaged { file: file.clone(), reason };
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
        let end = data + metadata.data_len() as u64;
        if end > found {
            return Err(SafetensorsError::Truncated { file, expected: end, found });
        }
        if end < found {
            return Err(damaged("bytes follow the last tensor".to_owned()));
        }
        let place = |name: String| {
            let info = metadata.info(&name)?;
            let (from, to) = info.data_offsets;
            let (shape, start) = (info.shape.clone(), data + from as u64);
            Some((name, Place { dtype: info.dtype, shape, start, bytes: to - from }))
        };
        let tensors = metadata.offset_keys().into_iter().filter_map(place).collect();
        Ok(Self { file: path.to_owned(), tensors })
    }

    /// Those of a Hugging Face folder: of [`SINGLE_FILE`], or of each shard that [`INDEX_FILE`] lists.
    ///
    /// # Errors
    /// When there is none, or one is missing or no safetensors file.
    pub fn read_folder(folder: &Path) -> Result<Vec<Self>, SafetensorsError> {
        let (single, index) = (folder.join(SINGLE_FILE), folder.join(INDEX_FILE));
        if single.exists() {
            return Ok(vec![Self::read(&single)?]);
        }
        if !index.exists() {
            return Err(SafetensorsError::NoWeights {
                folder: folder.display().to_string(),
                hint: hint(&folder.into()),
            });
        }
        let weight_map = shards(&index)?;
        let files: BTreeSet<_> = weight_map.values().collect();
        let layouts: Vec<_> =
            files.into_iter().map(|shard| Self::read(&folder.join(shard))).collect::<Result<_, _>>()?;
        match weight_map.into_keys().find(|name| !layouts.iter().any(|layout| layout.tensors.contains_key(name))) {
            Some(tensor) => Err(SafetensorsError::Missing { file: folder.display().to_string(), tensor }),
            None => Ok(layouts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use safetensors::serialize;
    use safetensors::tensor::TensorView;

    fn file() -> Vec<u8> {
        let (a, b) = ([1u8, 2, 3, 4], [5u8; 12]);
        let views = [
            ("b", TensorView::new(Dtype::F16, vec![2, 3], &b).unwrap()),
            ("a", TensorView::new(Dtype::F32, vec![1], &a).unwrap()),
        ];
        serialize(views, None).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Layout, SafetensorsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, bytes).unwrap();
        Layout::read(&path)
    }

    #[test]
    fn places_are_where_the_bytes_are() {
        let bytes = file();
        let layout = read(&bytes).unwrap();
        let (a, b) = (&layout.tensors["a"], &layout.tensors["b"]);
        assert_eq!(bytes[a.start as usize..][..a.bytes], [1, 2, 3, 4]);
        assert_eq!(bytes[b.start as usize..][..b.bytes], [5; 12]);
        assert_eq!((b.dtype, &b.shape[..]), (Dtype::F16, &[2, 3][..]));
        let empty = serialize(Vec::<(&str, TensorView<'_>)>::new(), None).unwrap();
        assert!(read(&empty).unwrap().tensors.is_empty());
    }

    #[test]
    fn every_fault_is_told() {
        let bytes = file();
        for end in 0..bytes.len() {
            assert!(matches!(read(&bytes[..end]), Err(SafetensorsError::Truncated { .. })), "{end}");
        }
        assert!(matches!(read(&[&bytes[..], b"x"].concat()), Err(SafetensorsError::Damaged { .. })));
        let mut strange = bytes.clone();
        strange[8] = b'[';
        assert!(matches!(read(&strange), Err(SafetensorsError::Foreign { .. })));
        strange = bytes.clone();
        strange[9] = b'{';
        assert!(matches!(read(&strange), Err(SafetensorsError::Damaged { .. })));
        strange = bytes;
        strange[4] = 1;
        assert!(matches!(read(&strange), Err(SafetensorsError::HeaderTooLarge { .. })));
        assert!(matches!(read(b"GGUF and more"), Err(SafetensorsError::Foreign { .. })));
        assert!(matches!(Layout::read(Path::new("no/such/file")), Err(SafetensorsError::Read { .. })));
    }
}
