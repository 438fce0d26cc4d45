//! Texts with labels, for classifiers.

use super::error::DataError;
use super::place::Place;
use super::records::{Record, read_records};
use crate::formats::files::At;

/// A text and the name of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextExample {
    /// The text, not blank.
    pub text: String,
    /// Its class, not blank.
    pub label: String,
    /// Where its record begins.
    pub place: Place,
}

/// The fields in which text and label stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFields {
    /// That of the text.
    pub text: String,
    /// That of the label; numbers and booleans are labels too.
    pub label: String,
}

impl Default for TextFields {
    fn default() -> Self {
        Self { text: "text".to_owned(), label: "label".to_owned() }
    }
}

/// Reads all examples of a file of records, in order; there is at least one.
pub fn read_texts(file: impl Into<At>, fields: &TextFields) -> Result<Vec<TextExample>, DataError> {
    read_records(file)?.iter().map(|record| example(record, fields)).collect()
}

fn example(record: &Record, fields: &TextFields) -> Result<TextExample, DataError> {
    Ok(TextExample {
        text: record.value(&fields.text)?.filled()?.to_owned(),
        label: record.label(&fields.label)?.to_owned(),
        place: record.place(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, fields: &TextFields) -> Result<Vec<TextExample>, String> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(name);
        std::fs::write(&file, text).unwrap();
        let folder = format!("{}{}", root.path().display(), std::path::MAIN_SEPARATOR);
        read_texts(&file, fields).map_err(|error| error.to_string().replace(&folder, ""))
    }

    #[test]
    fn text_and_label_stand_in_fields_of_any_name() {
        let default = read("x.csv", "label,text\n1, a \n", &TextFields::default()).unwrap();
        assert_eq!((&*default[0].text, &*default[0].label, default[0].place.line), (" a ", "1", Some(2)));
        let named = TextFields { text: "sentence".to_owned(), label: "y".to_owned() };
        let named = read("x.jsonl", "{\"sentence\": \"a\", \"y\": true}", &named).unwrap();
        assert_eq!((&*named[0].text, &*named[0].label), ("a", "true"));
    }

    #[test]
    fn faults_are_told_by_their_place() {
        let told = |name: &str, text: &str| read(name, text, &TextFields::default()).unwrap_err();
        assert_eq!(told("x.csv", "text,label\na,b\n \t,b\n"), "x.csv:3:1: `text` is empty");
        assert_eq!(told("x.csv", "text,label\na,\n"), "x.csv:2:3: `label` is empty");
        assert_eq!(told("x.csv", "txt,label\na,b\n"), "x.csv:2: no field `text`; there are `txt`, `label`");
        assert_eq!(
            told("x.jsonl", "{\"text\": [\"a\"], \"label\": 1}"),
            "x.jsonl:1:10: `text` is a list, where text is due"
        );
    }
}
