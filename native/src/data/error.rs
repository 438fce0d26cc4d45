//! What can be wrong with a user's data.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::images::ImageError;
use super::place::Place;

/// Why data could not be read or used: what was found, where, and what is due.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// The system does not give the file.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not one of the bundled sets of images.
    #[error("{name} is not bundled; there are {known}")]
    Bundled {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A folder where a file is due.
    #[error("{} is a folder, where a file is due", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
    },
    /// The file's name does not say what is in it.
    #[error(
        "{}: the name does not say how it is to be read; it must end in .jsonl, .ndjson, .json, .csv or .tsv",
        .file.display()
    )]
    Extension {
        /// The file.
        file: PathBuf,
    },
    /// The file has no records.
    #[error("{} holds no records: {what}", .file.display())]
    NoRecords {
        /// The file.
        file: PathBuf,
        /// What it holds instead.
        what: &'static str,
    },
    /// The file is not UTF-8; here the column counts bytes.
    #[error("{place}: not UTF-8: the byte 0x{byte:02x} begins no character; save the file as UTF-8")]
    Utf8 {
        /// The first byte that is wrong.
        place: Place,
        /// Its value.
        byte: u8,
    },
    /// What should be JSON is not.
    #[error("{place}: not JSON: {what}")]
    Json {
        /// Where.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// A record that is not an object.
    #[error("{place}: {found}, where an object is due, as in {{\"text\": \"…\", \"label\": \"…\"}}{hint}")]
    NotAnObject {
        /// Where.
        place: Place,
        /// What is there.
        found: String,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// A key that comes twice.
    #[error("{place}: the key `{key}` comes twice in one object; remove one of them")]
    DuplicateKey {
        /// The second one.
        place: Place,
        /// The key.
        key: String,
    },
    /// Two columns of one name.
    #[error("{place}: the name `{name}` is that of column {first} as well; each column needs its own")]
    DuplicateColumn {
        /// The second one.
        place: Place,
        /// The name.
        name: String,
        /// The number of the first one, from 1.
        first: usize,
    },
    /// A row that is longer or shorter than the header.
    #[error(
        "{place}: {found} fields, where the header has {expected}; a field that holds a {separator} must be quoted"
    )]
    RowLength {
        /// The first field too many, or the end of the row.
        place: Place,
        /// Fields in the row.
        found: usize,
        /// Columns in the header.
        expected: usize,
        /// "comma" or "tab".
        separator: &'static str,
    },
    /// A table whose fields something else seems to separate.
    #[error("{place}: the only column is called `{header}`: the fields of this file must be separated by {due}")]
    Separator {
        /// The column's name.
        place: Place,
        /// What it is.
        header: String,
        /// "commas" or "tabs".
        due: &'static str,
    },
    /// A quote without its partner.
    #[error("{place}: this quote never closes")]
    OpenQuote {
        /// The quote.
        place: Place,
    },
    /// Text between a closing quote and the next separator.
    #[error("{place}: a quoted field goes on after its closing quote; a quote inside of one is written twice (\"\")")]
    AfterQuote {
        /// What follows the quote.
        place: Place,
    },
    /// A field that a record does not have.
    #[error("{place}: no field {field}; there are {there}")]
    MissingField {
        /// The record, or the object within it.
        place: Place,
        /// What was asked for.
        field: String,
        /// The fields that there are.
        there: String,
    },
    /// A field of the wrong type, or with a value that is not taken.
    #[error("{place}: `{field}` is {found}, where {expected} is due")]
    Field {
        /// The value.
        place: Place,
        /// The field.
        field: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A field without content.
    #[error("{place}: `{field}` is empty")]
    EmptyField {
        /// The value.
        place: Place,
        /// The field.
        field: String,
    },
    /// A conversation out of which no prompt and answer can be made.
    #[error("{place}: `{field}`: {what}")]
    Conversation {
        /// Where.
        place: Place,
        /// The field.
        field: String,
        /// What is wrong.
        what: String,
    },
    /// A label that is not in the label space.
    #[error("{place}: unknown label `{label}`;{} known are {known}", suggest(nearest))]
    UnknownLabel {
        /// Where it stands.
        place: Place,
        /// The label.
        label: String,
        /// A known one that is spelt almost like it.
        nearest: Option<Box<str>>,
        /// The first few known ones.
        known: Box<str>,
    },
    /// A label space with a name twice, with an empty name, or with none.
    #[error("the labels: {what}")]
    Labels {
        /// What is wrong.
        what: String,
    },
    /// Classes that a task expects but has nothing to learn from.
    #[error("{classes} of task {task} {} no training sample", if *.several { "have" } else { "has" })]
    NoTrainingSample {
        /// The task.
        task: String,
        /// The classes, in words.
        classes: String,
        /// Whether there is more than one.
        several: bool,
    },
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An image that a record names.
    #[error("{place}: {source}")]
    ImageOf {
        /// The image's field.
        place: Place,
        /// What is wrong with the image.
        source: Box<ImageError>,
    },
}

fn suggest(nearest: &Option<Box<str>>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" did you mean `{name}`?"))
}

/// The first few of these names, each in backquotes.
pub(super) fn quote_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let names: Vec<&str> = names.into_iter().collect();
    let told: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > MOST => format!("{} and {} more", told.join(", "), count - MOST),
        _ => told.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_told_by_the_first() {
        assert_eq!(quote_names([]), "none");
        assert_eq!(quote_names(["a", "b"]), "`a`, `b`");
        assert_eq!(quote_names(["x"; 10]), format!("{} and 2 more", ["`x`"; 8].join(", ")));
    }
}
