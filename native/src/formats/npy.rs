//! The npy format of NumPy: a header that is a Python dictionary, then the elements as they lie in memory.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0–5 | `\x93NUMPY` |
//! | 6–7 | version: 1, 2 or 3, and 0 |
//! | 8… | length of the header, little-endian: a u16 in version 1, a u32 later |
//! | then | `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`, padded with blanks |
//! | rest | the elements, row by row |

use thiserror::Error;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Why an npy file could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The file does not begin as one of NumPy does.
    #[error("{file}: not an npy file; save the array with numpy.save")]
    Magic {
        /// The file.
        file: String,
    },
    /// A version of the format that is not known.
    #[error("{file}: version {major}.{minor} of the npy format; 1.0, 2.0 and 3.0 can be read")]
    Version {
        /// The file.
        file: String,
        /// The first number of the version.
        major: u8,
        /// The second one.
        minor: u8,
    },
    /// The file ends before its header says so.
    #[error("{file}: truncated: {expected} bytes are due in the {part}, {found} are there")]
    Truncated {
        /// The file.
        file: String,
        /// "header" or "body".
        part: &'static str,
        /// Bytes due.
        expected: usize,
        /// Bytes there.
        found: usize,
    },
    /// The file goes on after its last element.
    #[error("{file}: {found} bytes follow the header, which announces {expected}; header and body disagree")]
    Trailing {
        /// The file.
        file: String,
        /// Bytes due.
        expected: usize,
        /// Bytes there.
        found: usize,
    },
    /// The header is not the dictionary that it should be.
    #[error("{file}: byte {at} of the header: {what}")]
    Header {
        /// The file.
        file: String,
        /// Where in the header.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The elements lie column by column.
    #[error("{file}: the array lies column by column; save numpy.ascontiguousarray of it")]
    ColumnMajor {
        /// The file.
        file: String,
    },
    /// Elements that cannot be read.
    #[error("{file}: elements of type '{found}'; integers of 8 to 64 bits and floats of 32 or 64 can be read")]
    ElementType {
        /// The file.
        file: String,
        /// The type, as NumPy writes it.
        found: String,
    },
    /// The dimensions multiply to more bytes than there can be.
    #[error("{file}: impossible shape {shape:?} in the header")]
    Extent {
        /// The file.
        file: String,
        /// The shape.
        shape: Vec<usize>,
    },
}

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Unsigned integers of so many bytes.
    Unsigned(usize),
    /// Signed integers of so many bytes.
    Signed(usize),
    /// Floats of so many bytes.
    Float(usize),
}

/// An array, its elements still as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpyArray<'a> {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// What its elements are.
    pub element: Element,
    big_endian: bool,
    body: &'a [u8],
}

impl Element {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
        }
    }
}

impl NpyArray<'_> {
    /// The elements, if they are bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        (self.element == Element::Unsigned(1)).then_some(self.body)
    }

    /// The elements, if they are integers.
    pub fn integers(&self) -> Option<impl Iterator<Item = i128> + '_> {
        let signed = match self.element {
            Element::Unsigned(_) => false,
            Element::Signed(_) => true,
            Element::Float(_) => return None,
        };
        let unused = 64 - 8 * self.element.size() as u32;
        let extend = move |bits: u64| {
            if signed { i128::from((bits << unused) as i64 >> unused) } else { i128::from(bits) }
        };
        Some(self.bits().map(extend))
    }

    /// The elements, if they are floats.
    pub fn floats(&self) -> Option<impl Iterator<Item = f64> + '_> {
        let Element::Float(size) = self.element else { return None };
        let value =
            move |bits: u64| if size == 4 { f64::from(f32::from_bits(bits as u32)) } else { f64::from_bits(bits) };
        Some(self.bits().map(value))
    }

    /// The elements' bits.
    fn bits(&self) -> impl Iterator<Item = u64> + '_ {
        self.body.chunks_exact(self.element.size()).map(|bytes| {
            let join = |bits: u64, &byte: &u8| bits << 8 | u64::from(byte);
            if self.big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) }
        })
    }
}

/// Reads an array; `file` names the source in errors.
pub fn read<'a>(bytes: &'a [u8], file: &str) -> Result<NpyArray<'a>, NpyError> {
    let named = || file.to_owned();
    if !bytes.starts_with(MAGIC) {
        return Err(NpyError::Magic { file: named() });
    }
    let truncated = |part, expected, found| NpyError::Truncated { file: file.to_owned(), part, expected, found };
    let &[major, minor] = bytes.get(6..8).ok_or_else(|| truncated("header", 8, bytes.len()))? else {
        return Err(NpyError::Magic { file: named() });
    };
    let start = match (major, minor) {
        (1, 0) => 10,
        (2 | 3, 0) => 12,
        _ => return Err(NpyError::Version { file: named(), major, minor }),
    };
    let length = bytes.get(8..start).ok_or_else(|| truncated("header", start, bytes.len()))?;
    let length = length.iter().rev().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
    let end = start + length;
    let header = bytes.get(start..end).ok_or_else(|| truncated("header", length, bytes.len() - start))?;
    let entries = Dictionary { header, at: 0 }.read();
    let Entries { descr, fortran, shape } =
        entries.map_err(|(at, what)| NpyError::Header { file: named(), at, what })?;
    let body = &bytes[end..];

    let unknown = || NpyError::ElementType { file: file.to_owned(), found: descr.clone() };
    let (element, big_endian) = element(&descr).ok_or_else(unknown)?;
    let sized = shape.iter().try_fold(element.size(), |product, &side| product.checked_mul(side));
    let expected = sized.ok_or_else(|| NpyError::Extent { file: named(), shape: shape.clone() })?;
    if fortran && shape.len() > 1 {
        return Err(NpyError::ColumnMajor { file: named() });
    }
    match body.len() {
        found if found < expected => Err(truncated("body", expected, found)),
        found if found > expected => Err(NpyError::Trailing { file: named(), expected, found }),
        _ => Ok(NpyArray { shape, element, big_endian, body }),
    }
}

/// What a type such as `<f4` stands for: the element, and whether its first byte weighs most.
fn element(descr: &str) -> Option<(Element, bool)> {
    let (order, rest) = descr.split_at_checked(1)?;
    let big_endian = match order {
        "<" | "|" => false,
        ">" => true,
        "=" => cfg!(target_endian = "big"),
        _ => return None,
    };
    let element = match rest {
        "u1" => Element::Unsigned(1),
        "u2" => Element::Unsigned(2),
        "u4" => Element::Unsigned(4),
        "u8" => Element::Unsigned(8),
        "i1" => Element::Signed(1),
        "i2" => Element::Signed(2),
        "i4" => Element::Signed(4),
        "i8" => Element::Signed(8),
        "f4" => Element::Float(4),
        "f8" => Element::Float(8),
        _ => return None,
    };
    Some((element, big_endian))
}

struct Entries {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// A fault in the header: its byte, and what it is.
type Fault = (usize, &'static str);

/// As much of Python's grammar as NumPy writes.
struct Dictionary<'a> {
    header: &'a [u8],
    at: usize,
}

impl Dictionary<'_> {
    fn read(mut self) -> Result<Entries, Fault> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect(b'{', "`{` is due")?;
        while !self.take(b'}') {
            let at = self.at;
            let key = self.string()?;
            self.expect(b':', "`:` is due")?;
            match key.as_str() {
                "descr" => descr = Some(self.string()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return Err((at, "only 'descr', 'fortran_order' and 'shape' are known here")),
            }
            if !self.take(b',') && self.next() != Some(b'}') {
                return Err((self.at, "`,` or `}` is due"));
            }
        }
        match (descr, fortran, shape, self.next()) {
            (Some(descr), Some(fortran), Some(shape), None) => Ok(Entries { descr, fortran, shape }),
            (.., Some(_)) => Err((self.at, "nothing is due after `}`")),
            _ => Err((self.at, "'descr', 'fortran_order' and 'shape' are all due")),
        }
    }

    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        while self.header.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.header.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.next() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, due: &'static str) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err((self.at, due)) }
    }

    fn string(&mut self) -> Result<String, Fault> {
        let quote = self.next().filter(|byte| b"'\"".contains(byte));
        let quote = quote.ok_or((self.at, "a string is due; arrays of structures cannot be read"))?;
        let start = self.at + 1;
        let length = self.header[start..].iter().position(|&byte| byte == quote);
        let end = start + length.ok_or((self.at, "this quote never closes"))?;
        self.at = end + 1;
        Ok(String::from_utf8_lossy(&self.header[start..end]).into_owned())
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        self.next();
        let words: [(&[u8], bool); 2] = [(b"True", true), (b"False", false)];
        let rest = &self.header[self.at..];
        let (word, value) =
            words.into_iter().find(|(word, _)| rest.starts_with(word)).ok_or((self.at, "True or False is due"))?;
        self.at += word.len();
        Ok(value)
    }

    fn tuple(&mut self) -> Result<Vec<usize>, Fault> {
        const DUE: &str = "whole numbers in parentheses are due";
        let mut numbers = Vec::new();
        self.expect(b'(', DUE)?;
        while !self.take(b')') {
            self.next();
            let digits = self.header[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = std::str::from_utf8(&self.header[self.at..self.at + digits]).ok();
            numbers.push(number.and_then(|number| number.parse().ok()).ok_or((self.at, DUE))?);
            self.at += digits;
            self.take(b'L'); // Python 2's long integers
            if !self.take(b',') && self.next() != Some(b')') {
                return Err((self.at, "`,` or `)` is due"));
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file as `numpy.save` writes it.
    pub(crate) fn file(descr: &str, shape: &[usize], body: &[u8]) -> Vec<u8> {
        let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
        let sides = if shape.len() > 1 { sides.trim_end_matches(", ") } else { sides.trim_end() };
        with_header(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sides}), }}"), body)
    }

    fn with_header(header: &str, body: &[u8]) -> Vec<u8> {
        let padded = (header.len() + 11).next_multiple_of(64) - 10;
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((padded as u16).to_le_bytes());
        bytes.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
        bytes.extend(body);
        bytes
    }

    fn error(bytes: &[u8]) -> String {
        read(bytes, "x").unwrap_err().to_string()
    }

    #[test]
    fn elements_of_every_type_are_read() {
        let integers = |descr: &str, body: &[u8]| {
            let bytes = file(descr, &[2], body);
            read(&bytes, "x").unwrap().integers().unwrap().collect::<Vec<_>>()
        };
        assert_eq!(integers("|u1", &[1, 255]), [1, 255]);
        assert_eq!(integers("|i1", &[1, 255]), [1, -1]);
        assert_eq!(integers("<i2", &[1, 2, 0xfe, 0xff]), [513, -2]);
        assert_eq!(integers(">u4", &[0, 0, 0, 7, 255, 255, 255, 255]), [7, i128::from(u32::MAX)]);
        assert_eq!(integers("<i8", &[[3; 8], [255; 8]].concat()), [0x0303_0303_0303_0303, -1]);
        assert_eq!(integers("<u8", &[[0; 8], [255; 8]].concat()), [0, i128::from(u64::MAX)]);
        let floats = |descr: &str, body: &[u8]| {
            let bytes = file(descr, &[1, 1], body);
            read(&bytes, "x").unwrap().floats().unwrap().collect::<Vec<_>>()
        };
        assert_eq!(floats("<f4", &0.5f32.to_le_bytes()), [0.5]);
        assert_eq!(floats(">f8", &(-1.25f64).to_be_bytes()), [-1.25]);
        let bytes = file("|u1", &[1, 2, 3], &[1, 2, 3, 4, 5, 6]);
        let array = read(&bytes, "x").unwrap();
        assert_eq!(
            (&array.shape[..], array.bytes(), array.floats().is_none()),
            (&[1, 2, 3][..], Some(&bytes[128..]), true)
        );
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let good = file("<u2", &[3], &[0; 6]);
        assert_eq!(error(b"PK\x03\x04"), "x: not an npy file; save the array with numpy.save");
        assert_eq!(error(&good[..7]), "x: truncated: 8 bytes are due in the header, 7 are there");
        assert_eq!(error(&good[..20]), "x: truncated: 118 bytes are due in the header, 10 are there");
        assert_eq!(error(&good[..133]), "x: truncated: 6 bytes are due in the body, 5 are there");
        let mut version = good.clone();
        version[6] = 9;
        assert_eq!(error(&version), "x: version 9.0 of the npy format; 1.0, 2.0 and 3.0 can be read");
        let long = [&good[..], &[0]].concat();
        assert_eq!(error(&long), "x: 7 bytes follow the header, which announces 6; header and body disagree");
        let types = "integers of 8 to 64 bits and floats of 32 or 64 can be read";
        assert_eq!(error(&file("<f2", &[1], &[0; 2])), format!("x: elements of type '<f2'; {types}"));
        assert_eq!(error(&file("é1", &[1], &[0; 2])), format!("x: elements of type 'é1'; {types}"));
        let huge = [usize::MAX, 2];
        assert_eq!(error(&file("|u1", &huge, &[])), format!("x: impossible shape {huge:?} in the header"));
        let fortran = with_header("{'descr': '|u1', 'fortran_order': True, 'shape': (1, 1), }", &[0]);
        assert_eq!(error(&fortran), "x: the array lies column by column; save numpy.ascontiguousarray of it");
        for (header, told) in [
            ("[]", "0 of the header: `{` is due"),
            ("{'descr' '|u1'}", "9 of the header: `:` is due"),
            ("{'descr': [('a', '<i4')]}", "10 of the header: a string is due; arrays of structures cannot be read"),
            ("{'descr': '|u1}", "10 of the header: this quote never closes"),
            ("{'fortran_order': Maybe}", "18 of the header: True or False is due"),
            ("{'shape': (1, -2)}", "14 of the header: whole numbers in parentheses are due"),
            ("{'shape': (1 2)}", "13 of the header: `,` or `)` is due"),
            ("{'shape': (1L,) 'a': 2}", "16 of the header: `,` or `}` is due"),
            ("{'a': 2}", "1 of the header: only 'descr', 'fortran_order' and 'shape' are known here"),
        ] {
            assert_eq!(error(&with_header(header, &[])), format!("x: byte {told}"));
        }
        assert!(error(&with_header("{}", &[])).ends_with("'descr', 'fortran_order' and 'shape' are all due"));
        assert!(error(&with_header("{} {", &[])).ends_with("byte 3 of the header: nothing is due after `}`"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            header in "[{}():,'\"0-9L <>|uifTrueFalsedescrshape]{0,64}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut whole = file("<u2", &[3], &[0; 6]);
            for (at, byte) in changes {
                let at = at.index(whole.len());
                whole[at] = byte;
            }
            for bytes in [&whole, &bytes, &with_header(&header, &[]), &[MAGIC, &[1, 0], &bytes].concat()] {
                if let Ok(array) = read(bytes, "x") {
                    let _ = (array.integers().map(Iterator::count), array.floats().map(Iterator::count));
                }
            }
        }
    }
}
