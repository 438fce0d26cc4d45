//! Images that records name, with their labels.

use super::fit::{self, ImageShape};
use super::{DataError, ImageExamples, classes_of, each};
#[cfg(feature = "cli")]
use crate::data::place::Place;
use crate::data::records::{Field, read_records};
use crate::formats::files::At;
use eblora_core::model::vit::ImageSet;

/// Images that are decoded at a time, as in a folder.
const AT_ONCE: usize = 256;

/// The fields in which image and label stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFields {
    /// That of the image's path, which is relative to the folder of the file of records.
    pub image: String,
    /// That of the label; numbers and booleans are labels too.
    pub label: String,
}

impl Default for ImageFields {
    fn default() -> Self {
        Self { image: "image".to_owned(), label: "label".to_owned() }
    }
}

/// Reads all images that a file of records names. The classes are the distinct labels: by value, if all are whole
/// numbers, or else by name.
pub fn read_listed_images(
    file: impl Into<At>,
    fields: &ImageFields,
    due: ImageShape,
) -> Result<ImageExamples, DataError> {
    let file = file.into();
    let records = read_records(&file)?;
    let folder = file.parent();
    let (mut images, mut labels) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
    for record in &records {
        let image = record.value(&fields.image)?;
        images.push((folder.join(image.filled()?), image));
        labels.push(record.label(&fields.label)?);
    }
    let mut pixels = Vec::new();
    for images in images.chunks(AT_ONCE) {
        let read = |(path, field): &(At, Field<'_>)| {
            fit::file(path, due).map_err(|source| DataError::ImageOf { place: field.place(), source: source.into() })
        };
        for image in each(images, read) {
            pixels.extend(image?);
        }
    }
    let (classes, labels) = classes(&labels);
    let ImageShape { channels, height, width } = due;
    Ok(ImageExamples { set: ImageSet { channels, height, width, pixels, labels }, classes })
}

/// Where a label stands first in a file of records, if it can be found.
#[cfg(feature = "cli")]
pub(crate) fn label_place(file: impl Into<At>, field: &str, label: &str) -> Option<Place> {
    let records = read_records(file).ok()?;
    let mut fields = records.iter().filter_map(|record| record.find(field));
    fields.find(|field| field.label().is_ok_and(|found| found == label)).map(|field| field.place())
}

/// Labels that are different texts are different classes, even where they are the same number (`1` and `01`).
fn classes(labels: &[&str]) -> (Vec<String>, Vec<u32>) {
    let numbered: Option<Vec<(i64, &str)>> =
        labels.iter().map(|label| label.parse().ok().map(|number| (number, *label))).collect();
    match numbered {
        Some(numbered) => {
            let (classes, labels) = classes_of(&numbered);
            (classes.into_iter().map(|(_, name)| name.to_owned()).collect(), labels)
        }
        None => {
            let (classes, labels) = classes_of(labels);
            (classes.into_iter().map(str::to_owned).collect(), labels)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma};

    const DUE: ImageShape = ImageShape { channels: 1, height: 1, width: 1 };

    fn read(name: &str, records: &str) -> Result<ImageExamples, String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("p")).unwrap();
        for (name, value) in [("1.png", 10), ("2.png", 20)] {
            GrayImage::from_pixel(2, 2, Luma([value])).save(root.path().join("p").join(name)).unwrap();
        }
        std::fs::write(root.path().join("p/3.png"), "text").unwrap();
        let file = root.path().join(name);
        std::fs::write(&file, records).unwrap();
        let folder = format!("{}{}", root.path().display(), std::path::MAIN_SEPARATOR);
        read_listed_images(&file, &ImageFields::default(), DUE).map_err(|error| error.to_string().replace(&folder, ""))
    }

    #[test]
    fn images_are_found_beside_their_list() {
        let examples = read("x.csv", "image,label\np/2.png,10\np/1.png,9\np/2.png,9\n").unwrap();
        assert_eq!((&examples.set.pixels[..], &examples.set.labels[..]), (&[20, 10, 20][..], &[1, 0, 0][..]));
        assert_eq!(examples.classes, ["9", "10"]);
        let named = read("x.jsonl", r#"{"image": "p/1.png", "label": "x 9", "id": 1}"#).unwrap();
        assert_eq!((named.classes, named.set.len()), (vec!["x 9".to_owned()], 1));
    }

    #[test]
    fn classes_are_sorted_by_value_or_by_name() {
        let names = |labels: &[&str]| classes(labels).0.join(" ");
        assert_eq!(names(&["10", "9", "10"]), "9 10");
        assert_eq!(names(&["10", "9", "b", "a"]), "10 9 a b");
        assert_eq!(classes(&["b", "a", "b"]).1, [1, 0, 1]);
    }

    #[test]
    fn faults_are_told_by_their_place() {
        let told = |line: &str| read("x.csv", &format!("label,image\n{line}\n")).unwrap_err();
        assert_eq!(told("1,"), "x.csv:2:3: `image` is empty");
        assert_eq!(told(",p/1.png"), "x.csv:2:1: `label` is empty");
        let missing = told("1,p/none.png");
        assert!(missing.starts_with("x.csv:2:3: cannot read p/none.png: "), "{missing}");
        let damaged = told("1,p/3.png");
        assert!(damaged.starts_with("x.csv:2:3: p/3.png: cannot be decoded as PNG or JPEG: "), "{damaged}");
    }
}
