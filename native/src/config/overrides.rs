//! `key=value` on the command line, over what the file says.

use std::str::FromStr;

use toml::{Table, Value};

use super::place::{Path, Step, path, shown};
use crate::hub;

/// A key of the config and what it is set to, such as `train.steps=50`, `method.0.rank=4` or `seeds=[0,1]`.
///
/// ```
/// use eblora::config::Override;
/// assert!("train.steps=50".parse::<Override>().is_ok());
/// assert!("train.steps".parse::<Override>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    pub(super) path: Path,
    value: Value,
    /// As it was written.
    pub(super) text: String,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err("KEY=VALUE is expected, such as train.steps=50".to_owned());
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(format!("`{key}` is no key; `train.steps` and `method.0.rank` are"));
        }
        // What is no TOML value is meant as text: a path, a name. What can only be one must be right.
        let parsed = toml::from_str::<Table>(&format!("v = {value}"));
        let is_number = |c: char| c.is_ascii_digit() || "+-_.".contains(c);
        if let Err(error) = &parsed
            && (value.starts_with(['[', '{']) || (!value.is_empty() && value.chars().all(is_number)))
        {
            return Err(format!("{value}: {}", error.message()));
        }
        let parsed = parsed.ok().filter(|table| table.len() == 1);
        let value = parsed.and_then(|mut table| table.remove("v")).unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self { path: path(key), value, text: text.to_owned() })
    }
}

impl Override {
    /// Another base model: a path, from where the command runs, or a name on a hub.
    ///
    /// ```
    /// use eblora::config::{Override, RunConfig, template};
    /// let text = template(eblora::model::Family::Bert);
    /// let config = RunConfig::parse(&text, "run.toml", "/data".as_ref(), &[Override::base("hf:owner/name")])?;
    /// assert_eq!(config.model.base, "hf:owner/name");
    /// # Ok::<(), eblora::config::ConfigError>(())
    /// ```
    pub fn base(model: &str) -> Self {
        let is_name = model.starts_with(hub::PREFIX) || model.starts_with('~');
        let here = || std::path::absolute(model).map_or_else(|_| model.to_owned(), |path| path.display().to_string());
        let base = if is_name { model.to_owned() } else { here() };
        Self { path: path("model.base"), value: Value::String(base), text: format!("model.base={model}") }
    }

    /// Sets the key; tables on the way are made, entries of lists must be there.
    pub(super) fn apply(&self, table: &mut Table) -> Result<(), String> {
        let mut root = Value::Table(std::mem::take(table));
        let done = self.set(&mut root);
        if let Value::Table(whole) = root {
            *table = whole;
        }
        done
    }

    fn set(&self, root: &mut Value) -> Result<(), String> {
        let mut value = root;
        for (depth, step) in self.path.iter().enumerate() {
            let way = || shown(&self.path[..depth]);
            value = match (step, value) {
                (Step::Key(key), Value::Table(table)) => {
                    table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()))
                }
                (Step::Index(index), Value::Array(list)) => {
                    let len = list.len();
                    list.get_mut(*index).ok_or_else(|| format!("`{}` has {len} entries, counted from 0", way()))?
                }
                (Step::Index(index), Value::Table(table)) => {
                    table.entry(index.to_string()).or_insert_with(|| Value::Table(Table::new()))
                }
                (Step::Key(key), Value::Array(_)) => {
                    return Err(format!("`{0}` is a list: `{0}.0.{key}` is a key of its first entry", way()));
                }
                (_, other) => return Err(format!("`{}` is a {}, which has no keys", way(), other.type_str())),
            };
        }
        *value = self.value.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, change: &str) -> Result<String, String> {
        let mut table: Table = toml::from_str(text).unwrap();
        change.parse::<Override>()?.apply(&mut table)?;
        Ok(toml::to_string(&table).unwrap())
    }

    #[test]
    fn values_of_every_type_are_set_at_any_depth() {
        assert_eq!(apply("a = 1", "a=2").unwrap(), "a = 2\n");
        assert_eq!(apply("a = 1", "a=[1, 2]").unwrap(), "a = [1, 2]\n");
        assert_eq!(apply("", "a.b = 0.5").unwrap(), "[a]\nb = 0.5\n");
        assert_eq!(apply("", "a=some/path with = in it").unwrap(), "a = \"some/path with = in it\"\n");
        assert_eq!(apply("[[m]]\nr = 1\n[[m]]\nr = 2", "m.1.r=3").unwrap(), "[[m]]\nr = 1\n\n[[m]]\nr = 3\n");
        assert_eq!(apply("", "a=1\nb=2").unwrap(), "a = \"\"\"\n1\nb=2\"\"\"\n", "no second key by the back door");
    }

    #[test]
    fn wrong_keys_are_told() {
        assert!(apply("", "a").unwrap_err().contains("KEY=VALUE"));
        assert!(apply("", "a..b=1").unwrap_err().contains("`a..b` is no key"));
        assert_eq!(apply("[[m]]\nr = 1", "m.1.r=3").unwrap_err(), "`m` has 1 entries, counted from 0");
        assert_eq!(apply("[[m]]\nr = 1", "m.r=3").unwrap_err(), "`m` is a list: `m.0.r` is a key of its first entry");
        assert_eq!(apply("a = 1", "a.b=3").unwrap_err(), "`a` is a integer, which has no keys");
    }
}
