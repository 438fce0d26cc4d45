//! From the files that a reader drops to images to train on and images to measure on.

use std::path::{Path, PathBuf};

use eblora::data::images::folder::read_image_folder;
use eblora::data::images::listed::{ImageFields, read_listed_images};
use eblora::data::images::pair::{read_image_idx, read_image_npy};
use eblora::data::images::{ImageExamples, ImageShape};
use eblora::formats::files::Files;
use eblora_core::model::vit::ImageSet;

use crate::error::{Result, WebError};

/// Every so many-th image of a class is measured on where the files don't say which.
const HELD_OUT: usize = 5;
const IMAGES: [&str; 3] = ["png", "jpg", "jpeg"];
const RECORDS: [&str; 5] = ["jsonl", "ndjson", "json", "csv", "tsv"];

/// Images as they were read.
pub struct Read {
    /// To train on.
    pub train: ImageExamples,
    /// To measure on; `None`: the files don't say which.
    pub test: Option<ImageExamples>,
}

/// Reads a reader's files in whichever of the known ways they are kept; `name` is what a folder without one is called.
///
/// # Errors
/// Of the readers; when there is nothing to read.
pub fn read(name: &str, files: &Files, due: ImageShape) -> Result<Read> {
    let paths: Vec<PathBuf> = files.paths().filter(|path| !hidden(path)).map(Path::to_owned).collect();
    if paths.is_empty() {
        return Err(WebError::input("there are no files"));
    }
    let records: Vec<&PathBuf> = paths.iter().filter(|path| RECORDS.contains(&extension(path).as_str())).collect();
    if !records.is_empty() {
        let read = |path: &Path| Ok(read_listed_images(files.at(path), &ImageFields::default(), due)?);
        return two(&records, |path| read(path), "files of records");
    }
    let arrays: Vec<&PathBuf> = paths.iter().filter(|path| is_array(path)).collect();
    if !arrays.is_empty() {
        return pairs(files, &arrays, due);
    }
    if let Some(other) = paths.iter().find(|_| !paths.iter().any(|path| IMAGES.contains(&extension(path).as_str()))) {
        return Err(WebError::input(format!(
            "{}: nothing that can be learnt from: PNG or JPEG images in folders by class are, or a CSV, TSV, JSON or JSONL \
             with its images, or idx or npy files",
            other.display()
        )));
    }
    let mut folder = common(&paths);
    let mut files = files.clone();
    if folder == Path::new("") {
        (files, folder) = (files.within(name), PathBuf::from(name)); // messages name it
    }
    let named = |name: &str| {
        let at = files.at(folder.join(name));
        at.is_dir().then_some(at)
    };
    let (train, test) = (named("train"), named("test").or_else(|| named("validation")));
    Ok(match (train, test) {
        (Some(train), Some(test)) => {
            Read { train: read_image_folder(train, due)?, test: Some(read_image_folder(test, due)?) }
        }
        _ => Read { train: read_image_folder(files.at(&folder), due)?, test: None },
    })
}

/// Of one file, all; of two, one of which says by its name that it is for tests, both.
fn two(paths: &[&PathBuf], read: impl Fn(&Path) -> Result<ImageExamples>, what: &str) -> Result<Read> {
    match paths {
        [one] => Ok(Read { train: read(one)?, test: None }),
        [a, b] if is_test(a) != is_test(b) => {
            let (train, test) = if is_test(a) { (b, a) } else { (a, b) };
            Ok(Read { train: read(train)?, test: Some(read(test)?) })
        }
        many => Err(WebError::input(format!(
            "{} {what} are there: one is due, or two of which one has `test` in its name",
            many.len()
        ))),
    }
}

/// Images and labels, as pairs of idx or npy files.
fn pairs(files: &Files, arrays: &[&PathBuf], due: ImageShape) -> Result<Read> {
    let (labels, images): (Vec<&PathBuf>, Vec<&PathBuf>) = arrays.iter().partition(|path| is_labels(path));
    let read = |images: &Path| -> Result<ImageExamples> {
        let fits = |labels: &&&PathBuf| is_test(labels) == is_test(images);
        let found = labels.iter().find(fits).or(labels.first().filter(|_| labels.len() == 1));
        let labels = found.ok_or_else(|| {
            WebError::input(format!(
                "{}: no file with `labels` in its name is there for these images",
                images.display()
            ))
        })?;
        let (images, labels) = (files.at(images), files.at(labels));
        Ok(match extension(images.path()) == "npy" {
            true => read_image_npy(images, labels, due)?,
            false => read_image_idx(images, labels, due)?,
        })
    };
    two(&images, read, "files of images")
}

fn hidden(path: &Path) -> bool {
    path.iter().any(|part| part.as_encoded_bytes().starts_with(b".") || part == "__MACOSX")
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// npy, or idx by one of its usual names.
fn is_array(path: &Path) -> bool {
    let name = name(path);
    ["npy", "idx", "gz"].contains(&extension(path).as_str())
        || name.ends_with("-ubyte")
        || name.contains("idx3")
        || name.contains("idx1")
}

fn is_labels(path: &Path) -> bool {
    let name = name(path);
    name.contains("label")
        || name.contains("target")
        || name.contains("idx1")
        || name.starts_with("y.")
        || name.starts_with("y_")
}

fn is_test(path: &Path) -> bool {
    let name = name(path);
    ["test", "t10k", "valid"].iter().any(|part| name.contains(part))
}

/// The folder that all files are in, of those around the folders of classes the innermost.
fn common(paths: &[PathBuf]) -> PathBuf {
    let folder = |path: &PathBuf| path.parent().map(Path::to_owned).unwrap_or_default();
    let mut common = paths.first().map(folder).unwrap_or_default();
    while paths.iter().any(|path| !path.starts_with(&common)) {
        common.pop();
    }
    // Where all are of one class, the folder around it is the one of classes.
    if paths.iter().all(|path| folder(path) == common) && common != Path::new("") {
        common.pop();
    }
    common
}

/// Holds every fifth image of each class back to measure on. Of a class with fewer, all are trained on and measured on:
/// the names of such classes come back too.
pub fn hold_out(set: &ImageSet, classes: &[String]) -> (ImageSet, ImageSet, Vec<String>) {
    let (mut train, mut test, mut few) = (Vec::new(), Vec::new(), Vec::new());
    for (class, name) in (0_u32..).zip(classes) {
        let images: Vec<usize> = (0..set.len()).filter(|&i| set.labels[i] == class).collect();
        if images.len() < HELD_OUT {
            few.push(name.clone());
            test.extend_from_slice(&images);
            train.extend(images);
        } else {
            let held = |at: &usize| at % HELD_OUT == HELD_OUT - 1;
            test.extend(images.iter().enumerate().filter(|(at, _)| held(at)).map(|(_, &i)| i));
            train.extend(images.iter().enumerate().filter(|(at, _)| !held(at)).map(|(_, &i)| i));
        }
    }
    train.sort_unstable();
    test.sort_unstable();
    (set.subset(&train), set.subset(&test), few)
}
