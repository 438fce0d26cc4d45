//! A text file as it was read, for as long as places in it may have to be told.

use std::path::Path;
use std::sync::Arc;

use super::error::DataError;
use super::place::Place;
use crate::formats::files::At;

/// A file and its text, without a byte order mark. Where no line ends with `\n`, the `\r` of old spreadsheets is taken
/// for it.
#[derive(Debug)]
pub(super) struct Source {
    pub file: Arc<Path>,
    pub text: String,
}

impl Source {
    /// Reads a file that must be UTF-8.
    pub fn read(at: impl Into<At>) -> Result<Self, DataError> {
        let at = at.into();
        let file = at.path();
        if at.is_dir() {
            return Err(DataError::Folder { folder: file.to_owned() });
        }
        let bytes = at.read().map_err(|source| DataError::Read { file: file.to_owned(), source })?;
        Self::from_bytes(bytes, file)
    }

    /// The same for bytes; `file` names them in errors.
    pub fn from_bytes(bytes: Vec<u8>, file: &Path) -> Result<Self, DataError> {
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).map_or((bytes, at), |rest| (rest, at - 3));
            utf8_fault(bytes.0, bytes.1, file)
        })?;
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        if text.contains('\r') && !text.contains('\n') {
            text = text.replace('\r', "\n"); // as long, so that all places stay
        }
        Ok(Self { file: file.into(), text })
    }

    /// Line and column of a byte.
    pub fn place(&self, at: usize) -> Place {
        let (line, column) = line_and_column(&self.text, at);
        Place { file: self.file.clone(), line: Some(line), column: Some(column) }
    }
}

/// Line and column of a byte, from 1; columns count characters.
pub(crate) fn line_and_column(text: &str, at: usize) -> (u64, u64) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (line_of(before.as_bytes()), before[line_start..].chars().count() as u64 + 1)
}

/// The line, from 1, that comes after these bytes.
fn line_of(before: &[u8]) -> u64 {
    before.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1
}

/// Characters cannot be counted in what is not UTF-8: the column is in bytes.
fn utf8_fault(bytes: &[u8], at: usize, file: &Path) -> DataError {
    let line_start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let place =
        Place { file: file.into(), line: Some(line_of(&bytes[..at])), column: Some((at - line_start) as u64 + 1) };
    DataError::Utf8 { place, byte: bytes[at] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        Source::from_bytes(bytes.to_vec(), Path::new("x.csv")).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_utf_8_is_told_by_its_byte() {
        let due = "not UTF-8: the byte 0xff begins no character; save the file as UTF-8";
        assert_eq!(error(b"ab\n\xc3\xa9\xff"), format!("x.csv:2:3: {due}"));
        assert_eq!(error(b"\xef\xbb\xbfab\xff"), format!("x.csv:1:3: {due}"));
        assert_eq!(error(b"\xff\xfea\0"), format!("x.csv:1:1: {due}"), "UTF-16");
    }

    #[test]
    fn columns_count_characters_after_the_byte_order_mark() {
        let source = Source::from_bytes("\u{feff}é,b\nü,d".as_bytes().to_vec(), Path::new("x.csv")).unwrap();
        assert_eq!(source.place(3).to_string(), "x.csv:1:3");
        assert_eq!(source.place(source.text.len()).to_string(), "x.csv:2:4");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("none.csv");
        let told = Source::read(&missing).unwrap_err().to_string();
        assert!(told.starts_with(&format!("cannot read {}: ", missing.display())), "{told}");
        let told = Source::read(root.path()).unwrap_err().to_string();
        assert_eq!(told, format!("{} is a folder, where a file is due", root.path().display()));
    }
}
