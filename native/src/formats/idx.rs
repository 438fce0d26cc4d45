//! The idx format of MNIST: big-endian header, then raw bytes; plain or gzip'd.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0–1 | zero |
//! | 2 | element type, 8 = unsigned byte |
//! | 3 | number of dimensions: 3 for images `[n, height, width]`, 1 for labels `[n]` |
//! | 4… | each dimension as a big-endian u32 |
//! | rest | the elements, row by row |

use std::io::{ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use thiserror::Error;

/// The element type "unsigned byte".
const UBYTE: u8 = 8;
/// No idx file of images is larger than this: a header that claims more is damaged.
const LARGEST: u64 = 1 << 32;

/// Why an idx file could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The first two bytes are not zero.
    #[error("{file}: not an idx file: it starts with the bytes {found:02x?}, where 00 00 is due")]
    Magic {
        /// The file.
        file: String,
        /// Its first two bytes.
        found: [u8; 2],
    },
    /// The elements are not unsigned bytes.
    #[error("{file}: elements of type 0x{found:02x} ({}); only unsigned bytes (0x08) can be read", type_name(*found))]
    ElementType {
        /// The file.
        file: String,
        /// The type byte.
        found: u8,
    },
    /// Images where labels were expected, or the other way round.
    #[error("{file}: {found} dimension(s), where {what} have {expected}: is it the other file of the pair?")]
    Dimensions {
        /// The file.
        file: String,
        /// What was expected: "images" or "labels".
        what: &'static str,
        /// Dimensions that these have.
        expected: u8,
        /// Dimensions that the file has.
        found: u8,
    },
    /// The file ends before its header says so.
    #[error("{file}: truncated: {expected} bytes are due in the {part}, {found} are there; fetch it again")]
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
    #[error("{file}: bytes follow the {expected} of the body that its header announces; header and body disagree")]
    Trailing {
        /// The file.
        file: String,
        /// Bytes in the body.
        expected: usize,
    },
    /// The dimensions multiply to more than 4 GiB, or one of the image sides is 0.
    #[error("{file}: impossible dimensions {dimensions:?} in the header")]
    Extent {
        /// The file.
        file: String,
        /// The dimensions.
        dimensions: Vec<usize>,
    },
    /// The gzip stream is damaged.
    #[error("{file}: damaged gzip stream ({source}); fetch the file again")]
    Gzip {
        /// The file.
        file: String,
        /// What the decoder says.
        source: std::io::Error,
    },
    /// Images and labels do not pair up.
    #[error("{images_file} holds {images} images, but {labels_file} {labels} labels")]
    CountMismatch {
        /// The file of images.
        images_file: String,
        /// Its count.
        images: usize,
        /// The file of labels.
        labels_file: String,
        /// Its count.
        labels: usize,
    },
}

/// Grey images as they stand in an idx file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images.
    pub count: usize,
    /// Rows of each image.
    pub height: usize,
    /// Columns of each image.
    pub width: usize,
    /// `count · height · width` bytes, image by image, row by row.
    pub pixels: Vec<u8>,
}

/// Reads images `[n, height, width]`; `file` names the source in errors.
pub fn read_images(bytes: &[u8], file: &str) -> Result<IdxImages, IdxError> {
    let (dimensions, pixels) = read::<3>(bytes, file, "images")?;
    let [count, height, width] = dimensions;
    Ok(IdxImages { count, height, width, pixels })
}

/// Reads labels `[n]`; `file` names the source in errors.
pub fn read_labels(bytes: &[u8], file: &str) -> Result<Vec<u8>, IdxError> {
    read::<1>(bytes, file, "labels").map(|(_, labels)| labels)
}

/// Reads a pair of files, each given as (bytes, name), and checks that the counts agree.
pub fn read_pair(images: (&[u8], &str), labels: (&[u8], &str)) -> Result<(IdxImages, Vec<u8>), IdxError> {
    let pixels = read_images(images.0, images.1)?;
    let classes = read_labels(labels.0, labels.1)?;
    if pixels.count != classes.len() {
        return Err(IdxError::CountMismatch {
            images_file: images.1.to_owned(),
            images: pixels.count,
            labels_file: labels.1.to_owned(),
            labels: classes.len(),
        });
    }
    Ok((pixels, classes))
}

/// Header and body of an idx file with `D` dimensions; never allocates more than the file really holds.
fn read<const D: usize>(bytes: &[u8], file: &str, what: &'static str) -> Result<([usize; D], Vec<u8>), IdxError> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        read_stream(MultiGzDecoder::new(bytes), file, what)
    } else {
        read_stream(bytes, file, what)
    }
}

fn read_stream<const D: usize>(
    mut stream: impl Read,
    file: &str,
    what: &'static str,
) -> Result<([usize; D], Vec<u8>), IdxError> {
    let named = || file.to_owned();
    let magic = take(&mut stream, 4, file, "header")?;
    if magic[..2] != [0, 0] {
        return Err(IdxError::Magic { file: named(), found: [magic[0], magic[1]] });
    }
    if magic[2] != UBYTE {
        return Err(IdxError::ElementType { file: named(), found: magic[2] });
    }
    if usize::from(magic[3]) != D {
        return Err(IdxError::Dimensions { file: named(), what, expected: D as u8, found: magic[3] });
    }
    let header = take(&mut stream, 4 * D, file, "header")?;
    let mut dimensions = [0usize; D];
    for (value, b) in dimensions.iter_mut().zip(header.chunks_exact(4)) {
        *value = u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize;
    }
    let length =
        dimensions.iter().try_fold(1usize, |product, &d| product.checked_mul(d)).filter(|&n| n as u64 <= LARGEST);
    let Some(length) = length.filter(|_| dimensions[1..].iter().all(|&d| d > 0)) else {
        return Err(IdxError::Extent { file: named(), dimensions: dimensions.to_vec() });
    };
    let body = take(&mut stream, length, file, "body")?;
    // Reading to the end also makes the gzip decoder verify its checksum.
    match stream.take(1).read_to_end(&mut Vec::new()) {
        Ok(0) => Ok((dimensions, body)),
        Ok(_) => Err(IdxError::Trailing { file: named(), expected: length }),
        Err(source) => Err(IdxError::Gzip { file: named(), source }),
    }
}

/// The next `length` bytes of the stream.
fn take(stream: &mut impl Read, length: usize, file: &str, part: &'static str) -> Result<Vec<u8>, IdxError> {
    let mut bytes = Vec::new();
    let truncated = |found| IdxError::Truncated { file: file.to_owned(), part, expected: length, found };
    match stream.take(length as u64).read_to_end(&mut bytes) {
        Ok(found) if found == length => Ok(bytes),
        Ok(found) => Err(truncated(found)),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(truncated(bytes.len())),
        Err(source) => Err(IdxError::Gzip { file: file.to_owned(), source }),
    }
}

fn type_name(code: u8) -> &'static str {
    match code {
        0x09 => "signed bytes",
        0x0b => "16-bit integers",
        0x0c => "32-bit integers",
        0x0d => "32-bit floats",
        0x0e => "64-bit floats",
        _ => "unknown to the format",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn images() -> Vec<u8> {
        let mut file = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        file.extend(1..=12);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn error(bytes: &[u8]) -> IdxError {
        read_images(bytes, "x").unwrap_err()
    }

    #[test]
    fn plain_and_gzipped_read_the_same() {
        let plain = read_images(&images(), "x").unwrap();
        assert_eq!((plain.count, plain.height, plain.width), (2, 2, 3));
        assert_eq!(plain.pixels, (1..=12).collect::<Vec<u8>>());
        assert_eq!(read_images(&gzip(&images()), "x").unwrap(), plain);
        assert_eq!(read_labels(&[0, 0, 8, 1, 0, 0, 0, 2, 7, 9], "x").unwrap(), [7, 9]);
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let with = |at: usize, value: u8| {
            let mut file = images();
            file[at] = value;
            error(&file)
        };
        assert!(matches!(with(0, 1), IdxError::Magic { found: [1, 0], .. }));
        assert!(matches!(with(2, 0x0d), IdxError::ElementType { found: 0x0d, .. }));
        assert!(matches!(with(3, 1), IdxError::Dimensions { expected: 3, found: 1, .. }));
        assert!(matches!(with(7, 3), IdxError::Truncated { part: "body", expected: 18, found: 12, .. }));
        assert!(matches!(with(7, 1), IdxError::Trailing { expected: 6, .. }));
        assert!(matches!(with(11, 0), IdxError::Extent { .. }));
        assert!(matches!(with(4, 0xff), IdxError::Extent { .. }));
        assert!(matches!(error(&images()[..9]), IdxError::Truncated { part: "header", found: 5, .. }));
        assert!(matches!(error(&[]), IdxError::Truncated { part: "header", found: 0, .. }));
    }

    #[test]
    fn damaged_gzip_is_told_from_a_truncated_one() {
        let whole = gzip(&images());
        assert!(matches!(error(&whole[..whole.len() / 2]), IdxError::Truncated { .. }));
        let mut flipped = whole.clone();
        let checksum = flipped.len() - 6;
        flipped[checksum] ^= 1;
        assert!(matches!(error(&flipped), IdxError::Gzip { .. }));
    }

    #[test]
    fn counts_must_agree() {
        let labels = [0, 0, 8, 1, 0, 0, 0, 1, 7];
        let e = read_pair((&images(), "a"), (&labels, "b")).unwrap_err();
        assert_eq!(e.to_string(), "a holds 2 images, but b 1 labels");
    }
}
