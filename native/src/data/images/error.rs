//! What can be wrong with images.

use std::io;
use std::path::PathBuf;

use image::ImageError as DecodeError;
use thiserror::Error;

use crate::formats::idx::IdxError;
use crate::formats::npy::NpyError;

/// What a decoder says, on one line: some say it with line ends.
fn one_line(error: &DecodeError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why images could not be read: what was found, where, and what is due.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The system does not give the file or folder.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else where a folder is due.
    #[error("{} is no folder; a folder with one subfolder per class is due", .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A folder without a subfolder.
    #[error("{} has no subfolder; one per class is due, with its images inside", .folder.display())]
    NoClasses {
        /// The folder.
        folder: PathBuf,
    },
    /// A class without an image.
    #[error("{} is empty; put PNG or JPEG images of its class there, or remove it", .folder.display())]
    EmptyClass {
        /// The class's folder.
        folder: PathBuf,
    },
    /// An image beside the classes.
    #[error("{}: an image without a class; move it into one of the subfolders", .file.display())]
    Unsorted {
        /// The image.
        file: PathBuf,
    },
    /// Something other than an image among the images.
    #[error("{}: not an image by its name; only .png, .jpg and .jpeg are due in a class's folder", .file.display())]
    NotAnImage {
        /// What it is.
        file: PathBuf,
    },
    /// A folder among the images.
    #[error(
        "{} is a folder, where images are due: is {} a class, or a folder of classes?",
        .folder.display(), .class.display()
    )]
    Nested {
        /// The folder.
        folder: PathBuf,
        /// The class's folder.
        class: PathBuf,
    },
    /// A class whose name is not text.
    #[error("{}: the name of a class must be UTF-8; rename the folder", .folder.display())]
    ClassName {
        /// The class's folder.
        folder: PathBuf,
    },
    /// An image that cannot be decoded.
    #[error("{}: cannot be decoded as PNG or JPEG: {}", .file.display(), one_line(.source))]
    Decode {
        /// The image.
        file: PathBuf,
        /// What the decoder says.
        source: DecodeError,
    },
    /// Grey or coloured images for a model that takes something else.
    #[error("{} holds images of {found} channel(s), the model takes {expected}", .file.display())]
    Channels {
        /// The file.
        file: PathBuf,
        /// Channels of the images.
        found: usize,
        /// Channels that the model takes.
        expected: usize,
    },
    /// An array that is no array of images.
    #[error(
        "{file}: shape {found:?}, where [n, height, width], [n, height, width, {channels}] or [n, {channels}, height, \
         width] is due"
    )]
    Shape {
        /// The file.
        file: String,
        /// Its shape.
        found: Vec<usize>,
        /// Channels that the model takes.
        channels: usize,
    },
    /// An array whose channels may come first or last.
    #[error(
        "{file}: shape {found:?} has channels first or last, and it cannot be told which; resize to the model's size"
    )]
    Ambiguous {
        /// The file.
        file: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// An array of labels with more or less than one dimension.
    #[error("{file}: shape {found:?}, where labels have [n]: is it the other file of the pair?")]
    LabelShape {
        /// The file.
        file: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// Elements of a type that pixels or labels do not have.
    #[error("{file}: elements of type {found}, where {expected} are due")]
    Elements {
        /// The file.
        file: String,
        /// The type.
        found: String,
        /// What is due.
        expected: &'static str,
    },
    /// A pixel that is not between black and white.
    #[error(
        "{file}: the value {value} at {index:?}, where floats are due in 0..=1; save bytes, or divide by the largest"
    )]
    Range {
        /// The file.
        file: String,
        /// Where in the array.
        index: Vec<usize>,
        /// The value.
        value: f64,
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
    /// No image.
    #[error("{file} holds no images")]
    NoImages {
        /// The file.
        file: String,
    },
    /// An idx file.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// An npy file.
    #[error(transparent)]
    Npy(#[from] NpyError),
}
