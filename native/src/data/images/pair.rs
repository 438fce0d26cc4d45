//! Images and labels as a pair of files: idx (plain or gzip'd) or npy.
//!
//! | npy | shape | elements |
//! |---|---|---|
//! | images | `[n, height, width]`, `[n, height, width, channels]` or `[n, channels, height, width]` | bytes, or floats in 0..=1 |
//! | labels | `[n]` | integers |
//!
//! The classes are the distinct labels in order, as decimal numbers.

use super::error::ImageError;
use super::fit::{ImageShape, Planes, convertible, fit};
use super::{DataError, ImageExamples, classes_of};
use crate::formats::files::At;
use crate::formats::idx;
use crate::formats::npy::{self, Element, NpyArray};
use eblora_core::model::vit::ImageSet;

/// Reads a pair of idx files.
pub fn read_image_idx(
    images: impl Into<At>,
    labels: impl Into<At>,
    due: ImageShape,
) -> Result<ImageExamples, DataError> {
    let (images, labels) = (&images.into(), &labels.into());
    let (images_file, labels_file) = (name(images), name(labels));
    let (images_bytes, labels_bytes) = (bytes(images)?, bytes(labels)?);
    let (found, labels) =
        idx::read_pair((&images_bytes, &images_file), (&labels_bytes, &labels_file)).map_err(ImageError::Idx)?;
    if !convertible(1, due.channels) {
        return Err(ImageError::Channels { file: images.path().to_owned(), found: 1, expected: due.channels }.into());
    }
    if labels.is_empty() {
        return Err(ImageError::NoImages { file: images_file }.into());
    }
    let shape = ImageShape { channels: 1, height: found.height, width: found.width };
    let planes = found.pixels.chunks_exact(found.height * found.width).map(|image| image.to_vec());
    Ok(examples(planes, shape, &labels, due))
}

/// Reads a pair of npy files. Whether channels come first or last is told by how many the model takes, then by its size.
pub fn read_image_npy(
    images: impl Into<At>,
    labels: impl Into<At>,
    due: ImageShape,
) -> Result<ImageExamples, DataError> {
    let (images, labels) = (&images.into(), &labels.into());
    let (images_file, labels_file) = (name(images), name(labels));
    let (images_bytes, labels_bytes) = (bytes(images)?, bytes(labels)?);
    npy_pair((&images_bytes, images_file), (&labels_bytes, labels_file), due)
}

fn npy_pair(images: (&[u8], String), labels: (&[u8], String), due: ImageShape) -> Result<ImageExamples, DataError> {
    let ((images, images_file), (labels, labels_file)) = (images, labels);
    let images = npy::read(images, &images_file).map_err(ImageError::Npy)?;
    let labels = npy::read(labels, &labels_file).map_err(ImageError::Npy)?;
    let (shape, last) = layout(&images.shape, &images_file, due)?;
    let labels = npy_labels(&labels, &labels_file)?;
    let count = images.shape[0];
    if count != labels.len() {
        return Err(ImageError::CountMismatch { images_file, images: count, labels_file, labels: labels.len() }.into());
    }
    // Without images, sides may be such as to overflow their product.
    if count == 0 {
        return Err(ImageError::NoImages { file: images_file }.into());
    }
    let pixels = npy_pixels(&images, &images_file)?;
    let area = shape.height * shape.width;
    let planes = pixels.chunks_exact(area * shape.channels).map(|image| match last {
        true => (0..shape.channels).flat_map(|c| image.iter().skip(c).step_by(shape.channels).copied()).collect(),
        false => image.to_vec(),
    });
    Ok(examples(planes, shape, &labels, due))
}

/// The shape of each image, and whether its channels come last.
fn layout(found: &[usize], file: &str, due: ImageShape) -> Result<(ImageShape, bool), ImageError> {
    let misfit = || ImageError::Shape { file: file.to_owned(), found: found.to_vec(), channels: due.channels };
    if found.iter().skip(1).any(|&side| side == 0) {
        return Err(misfit());
    }
    match *found {
        [_, height, width] if convertible(1, due.channels) => Ok((ImageShape { channels: 1, height, width }, false)),
        [_, a, b, c] => {
            let first = (ImageShape { channels: a, height: b, width: c }, false);
            let last = (ImageShape { channels: c, height: a, width: b }, true);
            let sized = |(shape, _): &(ImageShape, bool)| (shape.height, shape.width) == (due.height, due.width);
            // What needs no conversion comes before what does, and what needs no resizing before what does.
            let candidates = |fits: &dyn Fn(usize) -> bool| {
                let fitting: Vec<_> = [first, last].into_iter().filter(|(shape, _)| fits(shape.channels)).collect();
                let exact: Vec<_> = fitting.iter().copied().filter(sized).collect();
                if fitting.len() > 1 && exact.len() == 1 { exact } else { fitting }
            };
            let mut fitting = candidates(&|channels| channels == due.channels);
            if fitting.is_empty() {
                fitting = candidates(&|channels| convertible(channels, due.channels));
            }
            match fitting[..] {
                [one] => Ok(one),
                [] => Err(misfit()),
                // One pixel of one channel: both readings are the same.
                _ if (a, b, c) == (1, 1, 1) => Ok(first),
                _ => Err(ImageError::Ambiguous { file: file.to_owned(), found: found.to_vec() }),
            }
        }
        _ => Err(misfit()),
    }
}

fn npy_pixels(images: &NpyArray<'_>, file: &str) -> Result<Vec<u8>, ImageError> {
    if let Some(bytes) = images.bytes() {
        return Ok(bytes.to_vec());
    }
    let Some(floats) = images.floats() else {
        return Err(elements(images.element, file, "bytes (numpy.uint8), or floats in 0..=1,"));
    };
    let pixel = |(at, value): (usize, f64)| match (0.0..=1.0).contains(&value) {
        true => Ok((value * 255.0).round() as u8),
        false => Err(ImageError::Range { file: file.to_owned(), index: index(at, &images.shape), value }),
    };
    floats.enumerate().map(pixel).collect()
}

fn npy_labels(labels: &NpyArray<'_>, file: &str) -> Result<Vec<i128>, ImageError> {
    if labels.shape.len() != 1 {
        return Err(ImageError::LabelShape { file: file.to_owned(), found: labels.shape.clone() });
    }
    let integers = labels.integers().ok_or_else(|| elements(labels.element, file, "integers"))?;
    Ok(integers.collect())
}

fn elements(found: Element, file: &str, expected: &'static str) -> ImageError {
    let found = match found {
        Element::Unsigned(size) => format!("uint{}", 8 * size),
        Element::Signed(size) => format!("int{}", 8 * size),
        Element::Float(size) => format!("float{}", 8 * size),
    };
    ImageError::Elements { file: file.to_owned(), found, expected }
}

/// The index of the `at`-th element of an array.
fn index(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape.iter().rev().map(|&side| (at % side, at /= side).0).collect();
    index.reverse();
    index
}

/// Images of one shape, made to fit, with labels that become indices.
fn examples<T: Ord + Clone + ToString>(
    images: impl Iterator<Item = Vec<u8>>,
    shape: ImageShape,
    labels: &[T],
    due: ImageShape,
) -> ImageExamples {
    let pixels = images.flat_map(|pixels| fit(Planes { shape, pixels }, due)).collect();
    let (classes, labels) = classes_of(labels);
    let ImageShape { channels, height, width } = due;
    let classes = classes.iter().map(ToString::to_string).collect();
    ImageExamples { set: ImageSet { channels, height, width, pixels, labels }, classes }
}

fn bytes(file: &At) -> Result<Vec<u8>, ImageError> {
    file.read().map_err(|source| ImageError::Read { path: file.path().to_owned(), source })
}

fn name(file: &At) -> String {
    file.path().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::npy::tests::file;
    use proptest::prelude::*;

    const fn due(channels: usize, height: usize, width: usize) -> ImageShape {
        ImageShape { channels, height, width }
    }

    fn read(images: &[u8], labels: &[u8], due: ImageShape) -> Result<ImageExamples, DataError> {
        npy_pair((images, "i.npy".to_owned()), (labels, "l.npy".to_owned()), due)
    }

    /// The pixels of an array of bytes 0, 1, … of this shape, or what is wrong with it.
    fn pixels(shape: &[usize], due: ImageShape) -> Result<Vec<u8>, String> {
        let body: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| i as u8).collect();
        let labels = file("|u1", &shape[..1], &vec![0; shape[0]]);
        read(&file("|u1", shape, &body), &labels, due).map(|e| e.set.pixels).map_err(|e| e.to_string())
    }

    #[test]
    fn classes_are_the_labels_in_order() {
        let images = file("|u1", &[3, 1, 1], &[5, 6, 7]);
        let labels: Vec<u8> = [10i64, -1, 9].into_iter().flat_map(i64::to_le_bytes).collect();
        let examples = read(&images, &file("<i8", &[3], &labels), due(1, 1, 1)).unwrap();
        assert_eq!((&examples.classes.join(" ")[..], &examples.set.labels[..]), ("-1 9 10", &[2, 0, 1][..]));
        assert_eq!(examples.set.pixels, [5, 6, 7]);
    }

    #[test]
    fn channels_may_come_first_last_or_not_at_all() {
        assert_eq!(pixels(&[1, 1, 2], due(3, 1, 2)).unwrap(), [0, 1, 0, 1, 0, 1], "grey made RGB");
        assert_eq!(pixels(&[1, 3, 1, 2], due(3, 1, 2)).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(pixels(&[1, 1, 2, 3], due(3, 1, 2)).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(pixels(&[1, 1, 2, 3], due(1, 1, 2)).unwrap().len(), 2, "one channel of 2 × 3");
        assert_eq!(pixels(&[1, 2, 2, 3], due(1, 2, 2)).unwrap(), [1, 4, 7, 10], "RGB made grey");
        assert_eq!(pixels(&[1, 2, 2, 1], due(1, 1, 1)).unwrap().len(), 1, "resized");
        assert_eq!(pixels(&[1, 5, 1, 1], due(5, 1, 1)).unwrap(), [0, 1, 2, 3, 4]);
        // Both ends fit: the model's size decides, where it can.
        assert_eq!(pixels(&[1, 3, 2, 3], due(3, 3, 2)).unwrap()[..6], [0, 3, 6, 9, 12, 15]);
        assert_eq!(pixels(&[1, 3, 2, 3], due(3, 2, 3)).unwrap()[..6], [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_told() {
        let fit = "where [n, height, width], [n, height, width, 3] or [n, 3, height, width] is due";
        assert_eq!(pixels(&[1, 2, 2, 4], due(3, 2, 2)).unwrap_err(), format!("i.npy: shape [1, 2, 2, 4], {fit}"));
        assert_eq!(pixels(&[2, 4], due(3, 2, 2)).unwrap_err(), format!("i.npy: shape [2, 4], {fit}"));
        assert_eq!(pixels(&[2, 0, 4], due(3, 2, 2)).unwrap_err(), format!("i.npy: shape [2, 0, 4], {fit}"));
        assert_eq!(
            pixels(&[1, 3, 4, 3], due(3, 8, 8)).unwrap_err(),
            "i.npy: shape [1, 3, 4, 3] has channels first or last, and it cannot be told which; resize to the model's size"
        );
    }

    #[test]
    fn floats_become_bytes() {
        let body = |values: [f32; 4]| values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
        let labels = file("|u1", &[1], &[0]);
        let read = |values| read(&file("<f4", &[1, 2, 2], &body(values)), &labels, due(1, 2, 2));
        assert_eq!(read([0.0, 0.5, 1.0, 0.1]).unwrap().set.pixels, [0, 128, 255, 26]);
        for (wrong, told) in [(1.5, "1.5"), (-0.5, "-0.5"), (f32::NAN, "NaN")] {
            assert_eq!(
                read([0.0, 0.0, wrong, 0.0]).unwrap_err().to_string(),
                format!(
                    "i.npy: the value {told} at [0, 1, 0], where floats are due in 0..=1; save bytes, or divide by the \
                     largest"
                )
            );
        }
    }

    #[test]
    fn what_does_not_pair_up_is_told() {
        let images = file("|u1", &[2, 1, 1], &[0, 0]);
        let told = |images: &[u8], labels: &[u8]| read(images, labels, due(1, 1, 1)).unwrap_err().to_string();
        assert_eq!(told(&images, &file("|u1", &[1], &[0])), "i.npy holds 2 images, but l.npy 1 labels");
        assert_eq!(
            told(&images, &images),
            "l.npy: shape [2, 1, 1], where labels have [n]: is it the other file of the pair?"
        );
        assert_eq!(
            told(&images, &file("<f4", &[1], &[0; 4])),
            "l.npy: elements of type float32, where integers are due"
        );
        assert_eq!(
            told(&file("<i2", &[1, 1, 1], &[0; 2]), &file("|u1", &[1], &[0])),
            "i.npy: elements of type int16, where bytes (numpy.uint8), or floats in 0..=1, are due"
        );
        for sides in [[0, 1, 1], [0, 1 << 40, 1 << 40]] {
            assert_eq!(told(&file("|u1", &sides, &[]), &file("|u1", &[0], &[])), "i.npy holds no images");
        }
        assert!(told(b"x", &images).starts_with("i.npy: not an npy file"));
    }

    #[test]
    fn idx_and_npy_files_read_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).unwrap();
        write("i.idx", &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4]);
        write("l.idx", &[0, 0, 8, 1, 0, 0, 0, 2, 7, 3]);
        write("i.npy", &file("|u1", &[2, 1, 2], &[1, 2, 3, 4]));
        write("l.npy", &file("|u1", &[2], &[7, 3]));
        let idx = read_image_idx(path("i.idx"), path("l.idx"), due(3, 1, 2)).unwrap();
        assert_eq!((idx.set.image(1), &idx.set.labels[..]), (&[3, 4, 3, 4, 3, 4][..], &[1, 0][..]));
        assert_eq!(idx.classes, ["3", "7"]);
        assert_eq!(read_image_npy(path("i.npy"), path("l.npy"), due(3, 1, 2)).unwrap(), idx);
        let told = |images: &str, due| read_image_idx(path(images), path("l.idx"), due).unwrap_err().to_string();
        assert!(told("none", due(1, 1, 1)).starts_with("cannot read "));
        assert!(told("l.idx", due(1, 1, 1)).contains("is it the other file of the pair?"));
        assert!(told("i.idx", due(2, 1, 1)).ends_with("i.idx holds images of 1 channel(s), the model takes 2"));
    }

    proptest! {
        #[test]
        fn no_shape_makes_it_panic(
            shape in prop::collection::vec(0usize..5, 0..6),
            labels in prop::collection::vec(0usize..5, 0..3),
            sides in (1usize..4, 1usize..4, 1usize..4),
        ) {
            let array = |shape: &[usize]| file("|u1", shape, &vec![1; shape.iter().product()]);
            let due = due(sides.0, sides.1, sides.2);
            if let Ok(ImageExamples { set, .. }) = read(&array(&shape), &array(&labels), due) {
                prop_assert_eq!(set.pixels.len(), set.len() * set.image_len());
            }
        }
    }
}
