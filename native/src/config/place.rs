//! Where in a TOML file a key stands.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A step from a table or list to what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A key's place in the tree, such as `method.0.rank`.
pub(super) type Path = Vec<Step>;

/// `method.0.rank` as steps.
pub(super) fn path(text: &str) -> Path {
    text.split('.').map(|part| part.parse().map_or_else(|_| Step::Key(part.to_owned()), Step::Index)).collect()
}

/// Steps as `method.0.rank`.
pub(super) fn shown(path: &[Step]) -> String {
    let parts: Vec<_> = path
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => index.to_string(),
        })
        .collect();
    parts.join(".")
}

/// The bytes of what `path` leads to, or of the last thing on the way that is there.
pub(super) fn span(text: &str, path: &[Step]) -> Range<usize> {
    let Ok(table) = DeTable::parse(text) else { return 0..0 };
    let mut found = 0..0;
    let mut value = &DeValue::Table(table.into_inner());
    for step in path {
        match (step, value) {
            (Step::Key(key), DeValue::Table(table)) => {
                match table.iter().find(|(name, _)| *name.get_ref() == key.as_str()) {
                    Some((name, inner)) => (found, value) = (name.span(), inner.get_ref()),
                    None => break,
                }
            }
            (Step::Index(index), DeValue::Array(list)) => match list.get(*index) {
                Some(inner) => (found, value) = (inner.span(), inner.get_ref()),
                None => break,
            },
            _ => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::line_and_column;

    #[test]
    fn keys_are_found_at_any_depth() {
        let text = "a = 1\n[b]\n\"ü\" = \"x\" # é\n[[c]]\nd = 1\n[[c]]\n  d = { e = [1, 2] }\n";
        let place = |p: &str| line_and_column(text, span(text, &path(p)).start);
        assert_eq!(place("a"), (1, 1));
        assert_eq!(place("b.ü"), (3, 1));
        assert_eq!(place("c.1.d"), (7, 3));
        assert_eq!(place("c.1.d.e.1"), (7, 17));
        assert_eq!(place("c.1.nothing"), place("c.1"));
        assert_eq!(place("nothing"), (1, 1));
        assert_eq!(shown(&path("c.1.d")), "c.1.d");
    }
}
