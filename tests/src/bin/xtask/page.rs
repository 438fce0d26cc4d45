//! Pages of the documentation that are made by a command, section by section.

use std::fmt::Write;
use std::fs;

use crate::process::root;

/// Writes a page: its head, and a section for each of `names`. Those `asked` for (none: all) are made by `make`; the others
/// stay as the page has them.
pub fn write<N: AsRef<str>>(
    file: &str,
    head: &str,
    names: &[N],
    asked: &[String],
    mut make: impl FnMut(&str) -> Result<String, String>,
) -> Result<(), String> {
    let before = fs::read_to_string(root().join(file)).unwrap_or_default();
    let mut page = head.to_owned();
    for name in names.iter().map(AsRef::as_ref) {
        // Writing to a String cannot fail.
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            let _ = write!(page, "\n## {name}\n\n{}", make(name)?);
        } else if let Some(kept) = section(&before, name) {
            let _ = write!(page, "\n{}\n", kept.trim_end());
        }
    }
    fs::write(root().join(file), page).map_err(|e| format!("{file}: {e}"))?;
    println!("{file} is written");
    Ok(())
}

/// What stands in a page under the heading of this name, with it.
fn section<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let start = page.find(&format!("\n## {name}\n"))? + 1;
    let rest = &page[start..];
    Some(&rest[..rest[2..].find("\n## ").map_or(rest.len(), |end| end + 3)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let page = "# Results\n\n## one\n\ntable\n\n## two\n\n### inner\n\nlast\n";
        assert_eq!(section(page, "one"), Some("## one\n\ntable\n\n"));
        assert_eq!(section(page, "two"), Some("## two\n\n### inner\n\nlast\n"));
        assert_eq!(section(page, "three"), None);
    }
}
