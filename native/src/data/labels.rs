//! The names of classes and their numbers.

use std::collections::{HashMap, HashSet};

use super::error::{DataError, quote_names};
use super::place::Place;

/// A name further from a known one than this is not taken for a slip of the pen.
const FURTHEST: usize = 2;

/// The classes that a model tells apart: class `i` has the `i`-th name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSpace {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl LabelSpace {
    /// A space of these names, in this order; there is at least one, none is blank, and none comes twice.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, DataError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let fault = |what| Err(DataError::Labels { what });
        if names.is_empty() {
            return fault("there are none".to_owned());
        }
        let mut numbers = HashMap::with_capacity(names.len());
        for (number, name) in (0..).zip(&names) {
            if name.trim().is_empty() {
                return fault(format!("the one of number {number} is empty"));
            }
            if let Some(first) = numbers.insert(name.clone(), number) {
                return fault(format!("`{name}` comes twice, with the numbers {first} and {number}"));
            }
        }
        Ok(Self { names, numbers })
    }

    /// The names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never: there is at least one class.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The number of a class whose name stands at `place`.
    pub fn index(&self, name: &str, place: &Place) -> Result<u32, DataError> {
        self.numbers.get(name).copied().ok_or_else(|| DataError::UnknownLabel {
            place: place.clone(),
            label: name.to_owned(),
            nearest: self.nearest(name),
            known: quote_names(self.names.iter().map(String::as_str)).into(),
        })
    }

    /// The first of the names that are spelt most like this one, if it is close enough. Letter case does not count here.
    fn nearest(&self, name: &str) -> Option<Box<str>> {
        let lower = name.trim().to_lowercase();
        let distance = |known: &String| strsim::levenshtein(&known.to_lowercase(), &lower);
        let (distance, nearest) = self.names.iter().map(|known| (distance(known), known)).min_by_key(|(d, _)| *d)?;
        // Of a name of two letters, all are close to any other.
        (distance <= FURTHEST && distance < lower.chars().count()).then(|| nearest.as_str().into())
    }
}

/// Checks that each class that a task expects has a sample to learn from. A list of tasks is checked one by one.
pub fn check_training_classes<'a>(
    task: &str,
    expected: impl IntoIterator<Item = &'a str>,
    train: impl IntoIterator<Item = &'a str>,
) -> Result<(), DataError> {
    let there: HashSet<&str> = train.into_iter().collect();
    let missing: Vec<&str> = expected.into_iter().filter(|class| !there.contains(class)).collect();
    let (several, word) = if missing.len() > 1 { (true, "classes") } else { (false, "class") };
    match missing.is_empty() {
        true => Ok(()),
        false => Err(DataError::NoTrainingSample {
            task: task.to_owned(),
            classes: format!("{word} {}", quote_names(missing)),
            several,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn space() -> LabelSpace {
        LabelSpace::new(["positive", "negative", "no"]).unwrap()
    }

    #[test]
    fn names_have_their_numbers() {
        let place = Place::file(Path::new("x.csv"));
        assert_eq!((space().index("negative", &place).unwrap(), space().len()), (1, 3));
        assert_eq!(space().names()[2], "no");
    }

    #[test]
    fn an_unknown_label_is_told_with_the_nearest() {
        let place = Place { line: Some(2), column: Some(5), ..Place::file(Path::new("x.csv")) };
        let told = |name: &str| space().index(name, &place).unwrap_err().to_string();
        let known = "known are `positive`, `negative`, `no`";
        assert_eq!(told("positve"), format!("x.csv:2:5: unknown label `positve`; did you mean `positive`? {known}"));
        assert_eq!(
            told("Negative "),
            format!("x.csv:2:5: unknown label `Negative `; did you mean `negative`? {known}")
        );
        assert_eq!(told("neutral"), format!("x.csv:2:5: unknown label `neutral`; {known}"));
        assert_eq!(told("17"), format!("x.csv:2:5: unknown label `17`; {known}"));
    }

    #[test]
    fn a_space_has_each_name_once() {
        let told = |names: &[&str]| LabelSpace::new(names.iter().copied()).unwrap_err().to_string();
        assert_eq!(told(&["a", "b", "a"]), "the labels: `a` comes twice, with the numbers 0 and 2");
        assert_eq!(told(&["a", " "]), "the labels: the one of number 1 is empty");
        assert_eq!(told(&[]), "the labels: there are none");
    }

    #[test]
    fn each_expected_class_needs_a_training_sample() {
        let check = |expected: &[&'static str]| check_training_classes("t", expected.iter().copied(), ["a", "b", "a"]);
        check(&["a", "b"]).unwrap();
        assert_eq!(check(&["a", "x"]).unwrap_err().to_string(), "class `x` of task t has no training sample");
        assert_eq!(check(&["y", "x"]).unwrap_err().to_string(), "classes `y`, `x` of task t have no training sample");
    }
}
