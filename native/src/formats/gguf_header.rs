//! The header of a GGUF file.
//!
//! | part | content |
//! |---|---|
//! | head | `GGUF`, u32 version, u64 number of tensors, u64 number of metadata |
//! | metadata | key, u32 type, value; a string is a u64 length and its bytes, an array a u32 type, a u64 length and its values |
//! | tensors | name, u32 number of dimensions, u64 each, the fastest first, u32 format, u64 offset in the data |
//! | data | from the next multiple of `general.alignment` (32) on |
//!
//! All little-endian. Nothing is allocated by a number in the file before the bytes that it speaks of are seen to be there.

use std::collections::BTreeMap;

use super::gguf::{GgufError, TensorInfo, Value};
use super::gguf_blocks::BlockFormat;

const MAGIC: &[u8; 4] = b"GGUF";
const MOST_DIMENSIONS: u32 = 4;
/// Lists of lists: none is known to be deeper.
const DEEPEST: usize = 3;
/// Bytes of the shortest metadatum (empty key, a byte) and of the shortest tensor entry.
const SHORTEST_ENTRY: usize = 13;
const SHORTEST_TENSOR: usize = 24;

type Header = (BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

/// Metadata and tensors of a file; `file` names it in errors.
pub(super) fn read(bytes: &[u8], file: &str) -> Result<Header, GgufError> {
    Reader { file, bytes, at: 0 }.header()
}

/// Reads the header from its start to its end.
struct Reader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn damaged<T>(&self, reason: String) -> Result<T, GgufError> {
        Err(GgufError::Damaged { file: self.file.to_owned(), reason })
    }

    fn take(&mut self, count: u64, part: &str) -> Result<&'a [u8], GgufError> {
        match usize::try_from(count).ok().filter(|&count| count <= self.left()) {
            Some(count) => {
                self.at += count;
                Ok(&self.bytes[self.at - count..self.at])
            }
            None => Err(GgufError::Truncated {
                file: self.file.to_owned(),
                part: part.to_owned(),
                at: self.at,
                due: count,
                found: self.left(),
            }),
        }
    }

    fn array<const N: usize>(&mut self, part: &str) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, part)?);
        Ok(array)
    }

    fn u32(&mut self, part: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(part)?))
    }

    fn u64(&mut self, part: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(part)?))
    }

    fn string(&mut self, part: &str) -> Result<String, GgufError> {
        let length = self.u64(part)?;
        match String::from_utf8(self.take(length, part)?.to_vec()) {
            Ok(text) => Ok(text),
            Err(_) => self.damaged(format!("{part} is not UTF-8")),
        }
    }

    /// A number of things of at least `least` bytes each.
    fn counted(&mut self, least: usize, part: &str) -> Result<usize, GgufError> {
        let count = self.u64(part)?;
        let due = count.saturating_mul(least as u64);
        if due > self.left() as u64 {
            let (file, part) = (self.file.to_owned(), part.to_owned());
            return Err(GgufError::Truncated { file, part, at: self.at, due, found: self.left() });
        }
        Ok(count as usize)
    }

    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Result<Value, GgufError> {
        let part = || format!("the metadatum `{key}`");
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array(&part())?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(&part())?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(&part())?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(&part())?).into()),
            4 => Value::Unsigned(u32::from_le_bytes(self.array(&part())?).into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(&part())?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(&part())?).into()),
            7 => match self.array::<1>(&part())? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return self.damaged(format!("{} is the truth value {other}", part())),
            },
            8 => Value::String(self.string(&part())?),
            9 => {
                if depth == DEEPEST {
                    return self.damaged(format!("{} holds lists in lists in lists", part()));
                }
                let kind = self.u32(&part())?;
                let least = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    9 => 12,
                    _ => 8,
                };
                let count = self.counted(least, &part())?;
                Value::Array((0..count).map(|_| self.value(kind, key, depth + 1)).collect::<Result<_, _>>()?)
            }
            10 => Value::Unsigned(self.u64(&part())?),
            11 => Value::Signed(i64::from_le_bytes(self.array(&part())?)),
            12 => Value::Float(f64::from_le_bytes(self.array(&part())?)),
            other => return self.damaged(format!("{} is of an unknown type, {other}", part())),
        })
    }

    fn header(mut self) -> Result<Header, GgufError> {
        let file = self.file.to_owned();
        if !self.bytes.starts_with(MAGIC) {
            let found = self.bytes[..self.bytes.len().min(4)].to_vec();
            return match found.len() {
                short @ 0..4 if MAGIC.starts_with(&found) => {
                    Err(GgufError::Truncated { file, part: "the head".to_owned(), at: 0, due: 4, found: short })
                }
                _ => Err(GgufError::Magic { file, found }),
            };
        }
        self.at = MAGIC.len();
        let found = self.u32("the head")?;
        if !(2..=3).contains(&found) {
            return Err(GgufError::Version { file, found });
        }
        let tensors = self.counted(SHORTEST_TENSOR, "the number of tensors")?;
        let entries = self.counted(SHORTEST_ENTRY, "the number of metadata")?;
        let mut metadata = BTreeMap::new();
        for i in 0..entries {
            let key = self.string(&format!("the key of metadatum {i}"))?;
            let kind = self.u32(&format!("the type of the metadatum `{key}`"))?;
            let value = self.value(kind, &key, 0)?;
            if metadata.contains_key(&key) {
                return self.damaged(format!("the metadatum `{key}` occurs twice"));
            }
            metadata.insert(key, value);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() && *alignment <= 1 << 20 => *alignment,
            Some(other) => return self.damaged(format!("general.alignment is {other:?}, not a power of 2 up to 2²⁰")),
        };
        let mut infos = Vec::new();
        for i in 0..tensors {
            infos.push(self.tensor(i, alignment)?);
        }
        let data = (self.at as u64).next_multiple_of(alignment);
        let mut placed = BTreeMap::new();
        for (name, mut info, offset) in infos {
            let bytes = info.bytes as u64;
            let start =
                data.checked_add(offset).filter(|s| s.checked_add(bytes).is_some_and(|e| e <= self.bytes.len() as u64));
            let Some(start) = start else {
                let (part, at) = (format!("tensor `{name}`"), data.saturating_add(offset) as usize);
                let found = self.bytes.len().saturating_sub(at);
                return Err(GgufError::Truncated { file, part, at, due: bytes, found });
            };
            info.start = start as usize;
            if placed.contains_key(&name) {
                return self.damaged(format!("the tensor `{name}` occurs twice"));
            }
            placed.insert(name, info);
        }
        Ok((metadata, placed))
    }

    /// A tensor's entry, and its offset in the data.
    fn tensor(&mut self, index: usize, alignment: u64) -> Result<(String, TensorInfo, u64), GgufError> {
        let name = self.string(&format!("the name of tensor {index}"))?;
        let part = format!("the entry of tensor `{name}`");
        let dimensions = self.u32(&part)?;
        if dimensions > MOST_DIMENSIONS {
            return self
                .damaged(format!("tensor `{name}` has {dimensions} dimensions; {MOST_DIMENSIONS} are the most"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(&part)?);
        }
        let id = self.u32(&part)?;
        let offset = self.u64(&part)?;
        let Some(format) = BlockFormat::from_id(id) else {
            return Err(GgufError::Format { file: self.file.to_owned(), tensor: name, id });
        };
        let (values, bytes) = format.block();
        let row = shape.first().copied().unwrap_or(1);
        if !row.is_multiple_of(values as u64) {
            return self.damaged(format!("tensor `{name}` has rows of {row} values in blocks of {values}"));
        }
        let total = shape.iter().try_fold(1_u64, |total, &extent| total.checked_mul(extent));
        let size = total.and_then(|total| (total / values as u64).checked_mul(bytes as u64));
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
            return self.damaged(format!("tensor `{name}` of {shape:?} is larger than any memory"));
        };
        if !offset.is_multiple_of(alignment) {
            return self.damaged(format!("tensor `{name}` starts at {offset}, not a multiple of {alignment}"));
        }
        let shape = shape.into_iter().rev().map(|extent| extent as usize).collect();
        Ok((name, TensorInfo { shape, format, start: 0, bytes: size }, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Vec<u8> {
        [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
    }

    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&text(key)[..], &kind.to_le_bytes(), value].concat()
    }

    fn tensor(name: &str, extents: &[u64], format: u32, offset: u64) -> Vec<u8> {
        let extents: Vec<u8> = extents.iter().flat_map(|e| e.to_le_bytes()).collect();
        let count = (extents.len() / 8) as u32;
        [&text(name)[..], &count.to_le_bytes(), &extents, &format.to_le_bytes(), &offset.to_le_bytes()].concat()
    }

    fn file(version: u32, entries: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
        let mut bytes = [&b"GGUF"[..], &version.to_le_bytes()].concat();
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        bytes.extend(entries.concat());
        bytes.extend(tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + data, 1);
        bytes
    }

    fn error(bytes: &[u8]) -> GgufError {
        read(bytes, "f").expect_err("damaged")
    }

    /// A file with every type of metadata and two tensors.
    fn whole() -> Vec<u8> {
        let list = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("")].concat();
        let nested = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &0_u32.to_le_bytes(), &1_u64.to_le_bytes(), &[7]];
        let entries = [
            entry("u8", 0, &[200]),
            entry("i8", 1, &[0xff]),
            entry("u16", 2, &300_u16.to_le_bytes()),
            entry("i16", 3, &(-300_i16).to_le_bytes()),
            entry("u32", 4, &70_000_u32.to_le_bytes()),
            entry("i32", 5, &(-70_000_i32).to_le_bytes()),
            entry("f32", 6, &1.5_f32.to_le_bytes()),
            entry("yes", 7, &[1]),
            entry("text", 8, &text("ä")),
            entry("list", 9, &list),
            entry("nested", 9, &nested.concat()),
            entry("u64", 10, &u64::MAX.to_le_bytes()),
            entry("i64", 11, &i64::MIN.to_le_bytes()),
            entry("f64", 12, &2.5_f64.to_le_bytes()),
        ];
        let tensors = [tensor("w", &[32, 2], 2, 32), tensor("v", &[3], 0, 0)];
        file(3, &entries, &tensors, 68)
    }

    #[test]
    fn every_type_of_metadata_and_both_versions_are_read() {
        let (metadata, tensors) = read(&whole(), "f").expect("a header");
        let unsigned = [("u8", 200), ("u16", 300), ("u32", 70_000), ("u64", u64::MAX)];
        let signed = [("i8", -1), ("i16", -300), ("i32", -70_000), ("i64", i64::MIN)];
        unsigned.iter().for_each(|(key, x)| assert_eq!(metadata[*key], Value::Unsigned(*x)));
        signed.iter().for_each(|(key, x)| assert_eq!(metadata[*key], Value::Signed(*x)));
        assert_eq!((&metadata["f32"], &metadata["f64"]), (&Value::Float(1.5), &Value::Float(2.5)));
        assert_eq!((&metadata["yes"], &metadata["text"]), (&Value::Bool(true), &Value::String("ä".into())));
        let list = Value::Array(vec![Value::String("a".into()), Value::String(String::new())]);
        assert_eq!(metadata["list"], list);
        assert_eq!(metadata["nested"], Value::Array(vec![Value::Array(vec![Value::Unsigned(7)])]));
        assert_eq!(
            (&tensors["w"].shape[..], tensors["w"].format, tensors["w"].bytes),
            (&[2, 32][..], BlockFormat::Q4_0, 36)
        );
        assert_eq!(tensors["w"].start, tensors["v"].start + 32);
        assert!(read(&file(2, &[], &[], 0), "f").is_ok());
    }

    #[test]
    fn every_cut_is_a_truncation() {
        let whole = whole();
        for cut in 0..whole.len() {
            let e = error(&whole[..cut]);
            assert!(matches!(e, GgufError::Truncated { .. }), "cut at {cut}: {e}");
        }
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        assert!(matches!(error(b"PK\x03\x04"), GgufError::Magic { .. }));
        assert!(matches!(error(b"GG"), GgufError::Truncated { found: 2, .. }));
        assert!(matches!(error(b"GX"), GgufError::Magic { .. }));
        for version in [0, 1, 4, 3_u32.swap_bytes()] {
            assert!(matches!(error(&file(version, &[], &[], 0)), GgufError::Version { found, .. } if found == version));
        }
    }

    #[test]
    fn absurd_counts_are_refused_before_anything_is_allocated() {
        for at in [8, 16] {
            let mut bytes = file(3, &[], &[], 0);
            bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            assert!(matches!(error(&bytes), GgufError::Truncated { due: u64::MAX, .. }));
        }
        let huge = u64::MAX.to_le_bytes();
        assert!(matches!(error(&file(3, &[entry("k", 8, &huge)], &[], 0)), GgufError::Truncated { .. }));
        for kind in 0..13_u32 {
            let list = [&kind.to_le_bytes()[..], &(u64::MAX / 2).to_le_bytes()].concat();
            assert!(matches!(error(&file(3, &[entry("k", 9, &list)], &[], 0)), GgufError::Truncated { .. }), "{kind}");
        }
        let mut nested = vec![];
        (0..100_000).for_each(|_| nested.extend([&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat()));
        assert!(error(&file(3, &[entry("k", 9, &nested)], &[], 0)).to_string().contains("lists in lists"));
    }

    #[test]
    fn contradictions_are_named() {
        let message = |entries: &[Vec<u8>], tensors: &[Vec<u8>]| error(&file(3, entries, tensors, 64)).to_string();
        let one = |t: Vec<u8>| message(&[], &[t]);
        assert!(message(&[entry("k", 13, &[])], &[]).contains("`k` is of an unknown type, 13"));
        assert!(message(&[entry("k", 7, &[2])], &[]).contains("the truth value 2"));
        assert!(message(&[entry("k", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff])], &[]).contains("not UTF-8"));
        assert!(message(&[entry("k", 0, &[1]), entry("k", 0, &[1])], &[]).contains("`k` occurs twice"));
        for alignment in [0_u32, 3, 1 << 21] {
            let entry = entry("general.alignment", 4, &alignment.to_le_bytes());
            assert!(message(&[entry], &[]).contains("not a power of 2"));
        }
        assert!(one(tensor("w", &[1; 5], 0, 0)).contains("5 dimensions"));
        assert!(one(tensor("w", &[33], 2, 0)).contains("rows of 33 values in blocks of 32"));
        assert!(one(tensor("w", &[1 << 33, 1 << 33], 0, 0)).contains("larger than any memory"));
        assert!(one(tensor("w", &[u64::MAX], 0, 0)).contains("larger than any memory"));
        assert!(one(tensor("w", &[1], 0, 4)).contains("not a multiple of 32"));
        assert!(message(&[], &[tensor("w", &[1], 0, 0), tensor("w", &[1], 0, 0)]).contains("`w` occurs twice"));
        assert!(one(tensor("w", &[256], 10, 0)).contains("format 10 (Q2_K)"));
        assert!(one(tensor("w", &[256], 4, 0)).contains("format 4 (unknown)"));
        let outside = [tensor("w", &[1], 0, 64), tensor("w", &[17], 0, 0), tensor("w", &[1], 0, u64::MAX - 31)];
        for tensor in outside {
            assert!(matches!(error(&file(3, &[], &[tensor], 64)), GgufError::Truncated { .. }));
        }
    }
}
