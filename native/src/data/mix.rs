//! The vision sequence "mix": five tasks, one label space (digits 0–9, clothes 10–19).

use super::DataError;
use super::bundled::{BASE, Images, Source};
use super::transform;
use eblora_core::model::vit::ImageSet;
#[cfg(feature = "bundled")]
use {super::bundled, crate::Error};

/// One task of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name in reports.
    pub name: String,
    /// What it is trained on.
    pub train: ImageSet,
    /// What choices are made on.
    pub validation: ImageSet,
    /// What accuracies are reported on.
    pub test: ImageSet,
}

/// The tasks' names, in order.
pub const NAMES: [&str; 5] = ["fashion", "mnist-rot90", "fashion-rot180", "mnist-inverted", "mnist-permuted"];
/// Images of a source that a task trains on; the rest of its training part is for validation.
const TRAIN: usize = 3000;
/// Side of an image.
const SIDE: usize = 28;
/// Side of a patch.
const PATCH: usize = 7;
/// The permutation is part of the task and the same in every run.
const PATCH_SEED: u64 = 2602;
/// Clothes come after the digits.
const FASHION_SHIFT: u32 = 10;

/// Whether this names something of the bundle instead of a path.
///
/// ```
/// use eblora::data::mix::is_bundled;
/// assert!(is_bundled("bundled") && is_bundled("bundled:fashion/test"));
/// assert!(!is_bundled("./bundled"));
/// ```
pub fn is_bundled(path: &str) -> bool {
    path == BASE || images_named(path).is_some()
}

/// The task and the split that a name of bundled images has, such as `bundled:fashion/test`.
fn images_named(path: &str) -> Option<&str> {
    path.strip_prefix(BASE)?.strip_prefix(':')
}

/// The images that `bundled:TASK/SPLIT` names among these tasks; `None`: it names none of the bundle.
///
/// # Errors
/// When there is no such task or split.
pub fn named<'a>(tasks: &'a [Task], path: &str) -> Result<Option<&'a ImageSet>, DataError> {
    let Some(name) = images_named(path) else { return Ok(None) };
    let found = name.split_once('/').and_then(|(task, split)| {
        let task = tasks.iter().find(|known| known.name == task)?;
        match split {
            "train" => Some(&task.train),
            "validation" => Some(&task.validation),
            "test" => Some(&task.test),
            _ => None,
        }
    });
    let known = || NAMES.map(|task| format!("{BASE}:{task}/train, …/validation, …/test")).join("; ");
    found.map(Some).ok_or_else(|| DataError::Bundled { name: path.to_owned(), known: known() })
}

/// Makes the five tasks from the bundled images.
#[cfg(feature = "bundled")]
pub fn tasks() -> Result<Vec<Task>, Error> {
    let (mnist, fashion) = (bundled::mnist()?, bundled::fashion()?);
    let source = |images| if images == Images::Mnist { &mnist } else { &fashion };
    Ok((0..NAMES.len()).filter_map(|i| Some(make(i, source(images_of(i)?)))).collect())
}

/// What the task of this number, from 0, is made of.
pub fn images_of(number: usize) -> Option<Images> {
    [Images::Fashion, Images::Mnist, Images::Fashion, Images::Mnist, Images::Mnist].get(number).copied()
}

/// Makes the task of this number from its images; the fifth for any number that is none.
pub fn make(number: usize, source: &Source) -> Task {
    let [first, second, third, fourth, fifth] = NAMES;
    match number {
        0 => task(first, source, FASHION_SHIFT, <[u8]>::to_vec),
        1 => task(second, source, 0, |image| transform::rotate90(image, SIDE, SIDE)),
        2 => task(third, source, FASHION_SHIFT, transform::rotate180),
        3 => task(fourth, source, 0, transform::invert),
        _ => {
            let order = transform::patch_order(PATCH_SEED, (SIDE / PATCH).pow(2));
            task(fifth, source, 0, |image| transform::permute_patches(image, SIDE, PATCH, &order))
        }
    }
}

fn task(name: &str, source: &Source, shift: u32, change: impl Fn(&[u8]) -> Vec<u8>) -> Task {
    let train = source.train.map(&change, shift);
    Task {
        name: name.to_owned(),
        validation: train.slice(TRAIN..train.len()),
        train: train.slice(0..TRAIN),
        test: source.test.map(&change, shift),
    }
}

#[cfg(all(test, feature = "bundled"))]
mod tests {
    use super::*;

    #[test]
    fn five_tasks_in_one_label_space() {
        let tasks = tasks().unwrap();
        assert_eq!(tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), NAMES);
        for task in &tasks {
            assert_eq!((task.train.len(), task.validation.len(), task.test.len()), (3000, 500, 1000));
            let clothes = task.name.starts_with("fashion");
            assert!(task.test.labels.iter().all(|&label| (label >= 10) == clothes && label < 20));
        }
        let first = tasks[0].test.image(0);
        assert_eq!(tasks[2].test.image(0), transform::rotate180(first));
        let digit = transform::invert(tasks[3].test.image(5));
        assert_eq!(tasks[1].test.image(5), transform::rotate90(&digit, 28, 28));
    }

    #[test]
    fn images_have_names() {
        let tasks = tasks().unwrap();
        assert_eq!(named(&tasks, "bundled:fashion-rot180/validation").unwrap(), Some(&tasks[2].validation));
        assert_eq!(named(&tasks, "data/fashion").unwrap(), None);
        for wrong in ["bundled:fashion", "bundled:shoes/test", "bundled:fashion/all"] {
            let message = named(&tasks, wrong).unwrap_err().to_string();
            assert!(message.contains(wrong) && message.contains("bundled:mnist-rot90/train"), "{message}");
        }
    }

    /// The benchmark's fifth task is this very permutation; a change of the random stream would change the task.
    #[test]
    fn the_permutation_is_fixed() {
        let order = transform::patch_order(PATCH_SEED, 16);
        assert_eq!(order, [11, 14, 6, 15, 0, 2, 1, 10, 3, 4, 5, 8, 9, 13, 7, 12]);
        assert!(order.iter().enumerate().filter(|(i, p)| i == *p).count() <= 2);
    }
}
