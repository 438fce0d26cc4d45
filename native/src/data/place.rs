//! Where something stands in a file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A file, and, where they are known, the line and the column: `file`, `file:line` or `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The character within the line, from 1.
    pub column: Option<u64>,
}

impl Place {
    /// A file as a whole.
    pub fn file(file: &Path) -> Self {
        Self { file: file.into(), line: None, column: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.display().fmt(f)?;
        let numbers = [self.line, self.column];
        numbers.iter().map_while(|number| *number).try_for_each(|number| write!(f, ":{number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_editors_take_it() {
        let file = Place::file(Path::new("a/b.csv"));
        assert_eq!(file.to_string(), "a/b.csv");
        let line = Place { line: Some(3), ..file };
        assert_eq!(line.to_string(), "a/b.csv:3");
        assert_eq!(Place { column: Some(7), ..line }.to_string(), "a/b.csv:3:7");
    }
}
