//! JSON in which every value knows where it stands, so that a fault in it can be told by line and column.
//!
//! serde_json reads each level as pieces of the text, and the pieces' places in memory are their places in the text.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::ops::Range;

/// Deeper nesting is no data; the reader calls itself for each level.
const DEEPEST: usize = 64;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The byte at which it begins.
    pub at: usize,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object, in its own order; no key comes twice.
    Object(Vec<Member>),
}

/// A key of an object, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// Its value.
    pub node: Node,
}

/// Why a text is not read as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// The byte at which the fault shows.
    pub at: usize,
    /// What the fault is.
    pub kind: JsonFaultKind,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonFaultKind {
    /// It breaks the grammar; in serde_json's words.
    Syntax(String),
    /// A key that its object has already.
    DuplicateKey(String),
}

impl Value {
    /// The value in a few words, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => format!("the number {}", excerpt(number)),
            Self::Text(text) => format!("the text {:?}", excerpt(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

/// The beginning of a text that may be long.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads `text[range]`, which must be one value; all places are counted from the beginning of `text`.
pub fn parse(text: &str, range: Range<usize>) -> Result<Node, JsonFault> {
    let (piece, from) = (&text[range.clone()], range.start);
    let raw: &RawValue = serde_json::from_str(piece).map_err(|error| syntax(&error, piece, from))?;
    read(raw, from + offset(raw, piece), 0)
}

/// One value that is known to be well-formed, but for what its strings escape.
fn read(raw: &RawValue, at: usize, depth: usize) -> Result<Node, JsonFault> {
    let text = raw.get();
    let fault = |error: serde_json::Error| syntax(&error, text, at);
    if depth > DEEPEST {
        let what = format!("values nested more than {DEEPEST} deep");
        return Err(JsonFault { at, kind: JsonFaultKind::Syntax(what) });
    }
    let value = match text.as_bytes()[0] {
        b'"' => Value::Text(serde_json::from_str(text).map_err(fault)?),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(fault)?;
            let read = |item: &RawValue| read(item, at + offset(item, text), depth + 1);
            Value::List(items.into_iter().map(read).collect::<Result<_, _>>()?)
        }
        b'{' => object(text, at, depth)?,
        b'n' => Value::Null,
        b't' => Value::Bool(true),
        b'f' => Value::Bool(false),
        _ => Value::Number(text.to_owned()),
    };
    Ok(Node { at, value })
}

fn object(text: &str, at: usize, depth: usize) -> Result<Value, JsonFault> {
    let Pieces(pieces) = serde_json::from_str(text).map_err(|error| syntax(&error, text, at))?;
    let mut members: Vec<Member> = Vec::with_capacity(pieces.len());
    // Looking back through the list is quicker than hashing for as few keys as a record has; more are hashed.
    let mut seen = std::collections::HashSet::new();
    for (key, value) in pieces {
        let key_at = at + offset(key, text);
        let key: String = serde_json::from_str(key.get()).map_err(|error| syntax(&error, key.get(), key_at))?;
        if !seen.insert(key.clone()) {
            return Err(JsonFault { at: key_at, kind: JsonFaultKind::DuplicateKey(key) });
        }
        members.push(Member { key, node: read(value, at + offset(value, text), depth + 1)? });
    }
    Ok(Value::Object(members))
}

/// Keys and values of an object as pieces of the text.
struct Pieces<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pieces<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pieces<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = map.next_entry()? {
                    pieces.push(piece);
                }
                Ok(Pieces(pieces))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Where a piece begins within the text that it is borrowed from.
fn offset(piece: &RawValue, text: &str) -> usize {
    piece.get().as_ptr() as usize - text.as_ptr() as usize
}

/// serde_json's error with its place counted in bytes, and its message without it.
fn syntax(error: &serde_json::Error, text: &str, from: usize) -> JsonFault {
    let (line, column) = (error.line(), error.column());
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let at = text.floor_char_boundary((before + column.saturating_sub(1)).min(text.len()));
    let message = error.to_string();
    let what = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    let what = if error.is_eof() { format!("it ends too early ({what})") } else { what.to_owned() };
    JsonFault { at: from + at, kind: JsonFaultKind::Syntax(what) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Result<Node, JsonFault> {
        parse(text, 0..text.len())
    }

    fn fault(text: &str) -> (usize, String) {
        match whole(text).unwrap_err() {
            JsonFault { at, kind: JsonFaultKind::Syntax(what) } => (at, what),
            JsonFault { at, kind: JsonFaultKind::DuplicateKey(key) } => (at, format!("twice {key}")),
        }
    }

    #[test]
    fn every_value_knows_its_place() {
        let text = r#" {"a": [1.0, true , null], "é\n": {"b": "ü"}} "#;
        let Node { at: 1, value: Value::Object(members) } = whole(text).unwrap() else { panic!("an object at 1") };
        let Value::List(items) = &members[0].node.value else { panic!("a list") };
        assert_eq!(items[0], Node { at: 8, value: Value::Number("1.0".to_owned()) });
        assert_eq!(items[1], Node { at: 13, value: Value::Bool(true) });
        assert_eq!(items[2], Node { at: 20, value: Value::Null });
        assert_eq!(members[1].key, "é\n");
        let Value::Object(inner) = &members[1].node.value else { panic!("an object") };
        assert_eq!(inner[0].node, Node { at: text.find("\"ü").unwrap(), value: Value::Text("ü".to_owned()) });
        assert_eq!(parse("x[2]", 1..4).unwrap().at, 1);
    }

    #[test]
    fn faults_know_their_place() {
        assert_eq!(fault(r#"{"a": 1,}"#), (8, "key must be a string".to_owned()));
        assert_eq!(fault(r#"{"a": x}"#), (6, "expected value".to_owned()));
        assert_eq!(fault("[1] 2"), (4, "trailing characters".to_owned()));
        assert_eq!(fault("[\n1,\n2 3]"), (7, "expected `,` or `]`".to_owned()));
        assert_eq!(fault(r#"{"a": "b"#), (7, "it ends too early (EOF while parsing a string)".to_owned()));
        assert_eq!(fault(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#), (23, "twice c".to_owned()));
        assert_eq!(fault(r#"{"a": 1, "\u0061": 2}"#), (9, "twice a".to_owned()), "the same key, escaped");
        let half = fault(r#"["\ud800"]"#); // of a pair
        assert!((1..10).contains(&half.0) && half.1.contains("hex escape"), "{half:?}");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(fault(&deep), (65, "values nested more than 64 deep".to_owned()));
    }

    #[test]
    fn long_values_are_told_by_their_beginning() {
        assert_eq!(Value::Text("ü".repeat(50)).describe(), format!("the text \"{}…\"", "ü".repeat(40)));
    }

    /// serde_json's own tree, to compare with.
    fn same(node: &Node, other: &serde_json::Value) -> bool {
        match (&node.value, other) {
            (Value::Null, serde_json::Value::Null) => true,
            (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
            (Value::Number(a), serde_json::Value::Number(b)) => {
                serde_json::from_str::<serde_json::Number>(a).unwrap() == *b
            }
            (Value::Text(a), serde_json::Value::String(b)) => a == b,
            (Value::List(a), serde_json::Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), serde_json::Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|m| b.get(&m.key).is_some_and(|b| same(&m.node, b)))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", json in "[\\[\\]{}:,\"\\\\u0-9a-f.\\-ent \\n é]*") {
            for text in [text, json] {
                if let Err(fault) = whole(&text) {
                    prop_assert!(text.is_char_boundary(fault.at));
                }
            }
        }

        #[test]
        fn it_reads_what_serde_json_reads(json in "[\\[\\]{}:,\"0-9a \\n]{0,12}") {
            let node = whole(&json);
            if let Ok(node) = &node {
                prop_assert!(same(node, &serde_json::from_str(&json).unwrap()));
            } else if !matches!(node, Err(JsonFault { kind: JsonFaultKind::DuplicateKey(_), .. })) {
                // Numbers are kept as they are written: ones beyond every float are not refused here.
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_err());
            }
        }
    }
}
