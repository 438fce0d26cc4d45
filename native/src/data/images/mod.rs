//! Users' images with labels, made to fit a model: grey or RGB as it takes them, and of its size.
//!
//! | module | what it reads |
//! |---|---|
//! | [`folder`] | one subfolder per class, PNG and JPEG inside |
//! | [`pair`] | images and labels as a pair of idx or npy files |
//! | [`listed`] | records that name an image and its label |
//!
//! Grey becomes RGB by repetition, RGB grey by its luminance; transparency is dropped. An image of another size is resized
//! bilinearly, smoothed where it shrinks, each side by its own factor.

mod error;
mod fit;
pub mod folder;
pub mod listed;
pub mod pair;

pub use error::ImageError;
pub use fit::ImageShape;

use super::error::DataError;
use super::labels::LabelSpace;
use super::place::Place;
use crate::formats::files::At;
use eblora_core::model::vit::ImageSet;
use std::collections::BTreeSet;

/// Images and the names of their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageExamples {
    /// The images; their labels are indices into `classes`.
    pub set: ImageSet,
    /// The classes' names.
    pub classes: Vec<String>,
}

impl ImageExamples {
    /// The images with the labels of a space that has all of their classes; `place` is where they come from.
    pub fn into_space(self, space: &LabelSpace, place: &Place) -> Result<ImageSet, DataError> {
        let numbers: Vec<u32> = self.classes.iter().map(|class| space.index(class, place)).collect::<Result<_, _>>()?;
        let mut set = self.set;
        set.labels.iter_mut().for_each(|label| *label = numbers[*label as usize]);
        Ok(set)
    }
}

/// Reads one image, channels × height × width, made to fit.
///
/// # Errors
/// When it can't be read, or has other channels than can be made those that are due.
pub fn read_image(file: impl Into<At>, due: ImageShape) -> Result<Vec<u8>, DataError> {
    Ok(fit::file(&file.into(), due)?)
}

/// What `read` makes of each, in order, on all threads where there are threads.
fn each<T: Sync, R: Send>(items: &[T], read: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "cli")]
    {
        use rayon::prelude::*;
        items.par_iter().map(read).collect()
    }
    #[cfg(not(feature = "cli"))]
    items.iter().map(read).collect()
}

/// The distinct labels in order, and the index of each sample's among them.
fn classes_of<T: Ord + Clone>(labels: &[T]) -> (Vec<T>, Vec<u32>) {
    let classes: Vec<T> = labels.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let index = |label| classes.binary_search(label).unwrap_or_default() as u32;
    let indices = labels.iter().map(index).collect();
    (classes, indices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn labels_are_moved_into_a_space() {
        let set = ImageSet { channels: 1, height: 1, width: 1, pixels: vec![7, 8, 9], labels: vec![0, 1, 0] };
        let examples = ImageExamples { set, classes: vec!["cat".to_owned(), "dog".to_owned()] };
        let space = LabelSpace::new(["dog", "fish", "cat"]).unwrap();
        let place = Place::file(Path::new("animals"));
        assert_eq!(examples.clone().into_space(&space, &place).unwrap().labels, [2, 0, 2]);
        let small = LabelSpace::new(["dog"]).unwrap();
        let told = examples.into_space(&small, &place).unwrap_err().to_string();
        assert_eq!(told, "animals: unknown label `cat`; known are `dog`");
    }
}
