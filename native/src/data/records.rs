//! Records out of JSON lines, JSON arrays and tables: named fields that know their file, line and column.
//!
//! | the name ends in | it holds |
//! |---|---|
//! | `.jsonl`, `.ndjson` | an object a line; blank lines are skipped |
//! | `.json` | an array of objects, or an object a line |
//! | `.csv`, `.tsv` | a line of column names, then a row a record, separated by commas or tabs |

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::error::{DataError, quote_names};
use super::place::Place;
use super::source::Source;
use crate::formats::csv::{self, CsvFault};
use crate::formats::files::At;
use crate::formats::json_tree::{self, JsonFault, JsonFaultKind, Member, Node, Value};

/// One record of a file.
#[derive(Clone, Debug)]
pub struct Record {
    source: Arc<Source>,
    /// Counted once: errors are few, but each example keeps its record's line.
    line: u64,
    members: Vec<Member>,
}

/// A value inside of a record.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    record: &'a Record,
    node: &'a Node,
    /// Its way from the record, as in `messages[2].content`.
    name: Cow<'a, str>,
}

/// Reads all records of a file, in order; there is at least one.
pub fn read_records(file: impl Into<At>) -> Result<Vec<Record>, DataError> {
    let file = file.into();
    let format = Format::of(&file)?;
    parse(Source::read(&file)?, format)
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Lines,
    ArrayOrLines,
    Table { separator: u8 },
}

impl Format {
    fn of(at: &At) -> Result<Self, DataError> {
        let file = at.path();
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Ok(Self::Lines),
            "json" => Ok(Self::ArrayOrLines),
            "csv" => Ok(Self::Table { separator: b',' }),
            "tsv" => Ok(Self::Table { separator: b'\t' }),
            _ if at.is_dir() => Err(DataError::Folder { folder: file.to_owned() }),
            _ => Err(DataError::Extension { file: file.to_owned() }),
        }
    }
}

fn parse(source: Source, format: Format) -> Result<Vec<Record>, DataError> {
    let source = Arc::new(source);
    let empty = |what| DataError::NoRecords { file: source.file.to_path_buf(), what };
    if source.text.trim().is_empty() {
        return Err(empty("it is empty"));
    }
    let records = match format {
        Format::ArrayOrLines if source.text.trim_start().starts_with('[') => array(&source)?,
        Format::Lines | Format::ArrayOrLines => lines(&source)?,
        Format::Table { separator } => table(&source, separator)?,
    };
    match (records.is_empty(), format) {
        (false, _) => Ok(records),
        (true, Format::Table { .. }) => Err(empty("no row follows the column names")),
        (true, _) => Err(empty("its array is empty")),
    }
}

fn lines(source: &Arc<Source>) -> Result<Vec<Record>, DataError> {
    let (mut records, mut start) = (Vec::new(), 0);
    for (line, text) in (1..).zip(source.text.split_inclusive('\n')) {
        let range = start..start + text.trim_end_matches(['\r', '\n']).len();
        start += text.len();
        if !text.trim().is_empty() {
            let hint = "; a file that is one array must end in .json";
            records.push(object(source, json(source, range)?, line, hint)?);
        }
    }
    Ok(records)
}

fn array(source: &Arc<Source>) -> Result<Vec<Record>, DataError> {
    let Node { at, value } = json(source, 0..source.text.len())?;
    let items = match value {
        Value::List(items) => items,
        value => vec![Node { at, value }],
    };
    let (mut line, mut counted) = (1, 0);
    let record = |node: Node| {
        line += source.text[counted..node.at].matches('\n').count() as u64;
        counted = node.at;
        object(source, node, line, "")
    };
    items.into_iter().map(record).collect()
}

fn json(source: &Source, range: Range<usize>) -> Result<Node, DataError> {
    json_tree::parse(&source.text, range).map_err(|JsonFault { at, kind }| match kind {
        JsonFaultKind::Syntax(what) => DataError::Json { place: source.place(at), what },
        JsonFaultKind::DuplicateKey(key) => DataError::DuplicateKey { place: source.place(at), key },
    })
}

fn object(source: &Arc<Source>, node: Node, line: u64, hint: &'static str) -> Result<Record, DataError> {
    match node.value {
        Value::Object(members) => Ok(Record { source: source.clone(), line, members }),
        other => {
            let hint = if matches!(other, Value::List(_)) { hint } else { "" };
            Err(DataError::NotAnObject { place: source.place(node.at), found: other.describe(), hint })
        }
    }
}

fn table(source: &Arc<Source>, separator: u8) -> Result<Vec<Record>, DataError> {
    let rows = csv::rows(&source.text, separator).map_err(|fault| match fault {
        CsvFault::OpenQuote(at) => DataError::OpenQuote { place: source.place(at) },
        CsvFault::AfterQuote(at) => DataError::AfterQuote { place: source.place(at) },
    })?;
    let mut rows = rows.into_iter();
    let header = rows.next().map_or_else(Vec::new, |row| row.cells);
    let mut first = HashMap::new();
    // Columns without a name can't be asked for, and there may be several: spreadsheets leave them behind.
    for (number, cell) in (1..).zip(&header).filter(|(_, cell)| !nameless(cell)) {
        if let Some(first) = first.insert(&*cell.text, number) {
            return Err(DataError::DuplicateColumn { place: source.place(cell.at), name: cell.text.clone(), first });
        }
    }
    let (mut line, mut counted, mut records) = (1, 0, Vec::new());
    for row in rows {
        let (found, expected) = (row.cells.len(), header.len());
        if found != expected {
            if let [only] = &header[..] {
                other_separator(source, &only.text, separator)?;
            }
            let place = source.place(row.cells.get(expected).map_or(row.end, |cell| cell.at));
            let separator = if separator == b'\t' { "tab" } else { "comma" };
            return Err(DataError::RowLength { place, found, expected, separator });
        }
        let start = row.cells.first().map_or(row.end, |cell| cell.at);
        line += source.text[counted..start].matches('\n').count() as u64;
        counted = start;
        let member = |(name, cell): (&csv::Cell, csv::Cell)| Member {
            key: name.text.clone(),
            node: Node { at: cell.at, value: Value::Text(cell.text) },
        };
        records.push(Record {
            source: source.clone(),
            line,
            members: header.iter().zip(row.cells).filter(|(name, _)| !nameless(name)).map(member).collect(),
        });
    }
    Ok(records)
}

fn nameless(name: &csv::Cell) -> bool {
    name.text.trim().is_empty()
}

/// The error that a table's only column, of this name, looks like several that another character separates.
fn other_separator(source: &Source, name: &str, separator: u8) -> Result<(), DataError> {
    let due = if separator == b'\t' { "tabs" } else { "commas" };
    match [';', '\t', ','].into_iter().any(|other| other != char::from(separator) && name.contains(other)) {
        true => {
            let at = source.text.len() - source.text.trim_start_matches(['\r', '\n']).len();
            Err(DataError::Separator { place: source.place(at), header: name.to_owned(), due })
        }
        false => Ok(()),
    }
}

impl Record {
    /// Its file and the line on which it begins.
    pub fn place(&self) -> Place {
        Place { file: self.source.file.clone(), line: Some(self.line), column: None }
    }

    /// The names of its fields, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &*member.key)
    }

    fn format(&self) -> Result<Format, DataError> {
        Format::of(&(&*self.source.file).into())
    }

    /// A field, if it is there.
    pub fn find<'a>(&'a self, field: &'a str) -> Option<Field<'a>> {
        let member = self.members.iter().find(|member| member.key == field)?;
        Some(Field { record: self, node: &member.node, name: Cow::Borrowed(field) })
    }

    /// A field of any type.
    pub fn value<'a>(&'a self, field: &'a str) -> Result<Field<'a>, DataError> {
        self.find(field).ok_or_else(|| self.missing(format!("`{field}`")))
    }

    /// A field that holds text.
    pub fn text<'a>(&'a self, field: &'a str) -> Result<&'a str, DataError> {
        self.value(field)?.text()
    }

    /// A field that names a class: text, or a number or boolean as it is written.
    pub fn label<'a>(&'a self, field: &'a str) -> Result<&'a str, DataError> {
        self.value(field)?.label()
    }

    /// A field that holds a list.
    pub fn list<'a>(&'a self, field: &'a str) -> Result<Vec<Field<'a>>, DataError> {
        self.value(field)?.list()
    }

    /// The error that `what` (in backquotes, if it is one name) is not among the fields.
    pub(super) fn missing(&self, what: String) -> DataError {
        if let ([Member { key, .. }], Ok(Format::Table { separator })) = (&self.members[..], self.format())
            && let Err(error) = other_separator(&self.source, key, separator)
        {
            return error;
        }
        DataError::MissingField { place: self.place(), field: what, there: quote_names(self.names()) }
    }
}

impl<'a> Field<'a> {
    /// Its name, for messages: its way from the record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, line and column.
    pub fn place(&self) -> Place {
        self.record.source.place(self.node.at)
    }

    /// What it holds.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Text.
    pub fn text(&self) -> Result<&'a str, DataError> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.unfit("text")),
        }
    }

    /// Text with something in it other than white space.
    pub fn filled(&self) -> Result<&'a str, DataError> {
        self.text().and_then(|text| self.not_blank(text))
    }

    /// The name of a class, which is not blank: text, or a number or boolean as it is written.
    pub fn label(&self) -> Result<&'a str, DataError> {
        match &self.node.value {
            Value::Text(text) => self.not_blank(text),
            Value::Number(number) => Ok(number),
            Value::Bool(value) => Ok(if *value { "true" } else { "false" }),
            _ => Err(self.unfit("a label (text, number or boolean)")),
        }
    }

    /// The items of a list.
    pub fn list(&self) -> Result<Vec<Field<'a>>, DataError> {
        let Value::List(items) = &self.node.value else { return Err(self.unfit("a list")) };
        let item = |(i, node): (usize, &'a Node)| Field {
            record: self.record,
            node,
            name: Cow::Owned(format!("{}[{i}]", self.name)),
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// A member of an object.
    pub fn member(&self, key: &str) -> Result<Field<'a>, DataError> {
        let Value::Object(members) = &self.node.value else { return Err(self.unfit("an object")) };
        let name = format!("{}.{key}", self.name);
        match members.iter().find(|member| member.key == key) {
            Some(member) => Ok(Field { record: self.record, node: &member.node, name: Cow::Owned(name) }),
            None => Err(DataError::MissingField {
                place: self.place(),
                field: format!("`{name}`"),
                there: quote_names(members.iter().map(|member| &*member.key)),
            }),
        }
    }

    /// The error that something else is due here.
    pub fn unfit(&self, expected: &'static str) -> DataError {
        DataError::Field {
            place: self.place(),
            field: self.name.to_string(),
            found: self.node.value.describe(),
            expected,
        }
    }

    fn not_blank(&self, text: &'a str) -> Result<&'a str, DataError> {
        if text.trim().is_empty() {
            return Err(DataError::EmptyField { place: self.place(), field: self.name.to_string() });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn records(name: &str, bytes: impl AsRef<[u8]>) -> Result<Vec<Record>, DataError> {
        let file = Path::new(name);
        parse(Source::from_bytes(bytes.as_ref().to_vec(), file)?, Format::of(&file.into())?)
    }

    fn error(name: &str, bytes: impl AsRef<[u8]>) -> String {
        records(name, bytes).unwrap_err().to_string()
    }

    #[test]
    fn each_format_gives_the_same_records() {
        let lines = "\u{feff}{\"text\": \"a b\", \"label\": \"1\"}\r\n  \r\n{\"text\": \"c\", \"label\": 2}";
        let array = "\n[{\"text\": \"a b\", \"label\": \"1\"},\n\n{\"text\": \"c\", \"label\": 2}]";
        let table = "text,label\r\n\"a b\",1\r\n\r\nc,2\r\n";
        let tabs = "text\tlabel\na b\t1\n\nc\t2";
        for (name, text, places) in [
            ("x.jsonl", lines, [1, 3]),
            ("x.NDJSON", lines, [1, 3]),
            ("x.json", lines, [1, 3]),
            ("x.json", array, [2, 4]),
            ("x.csv", table, [2, 4]),
            ("x.tsv", tabs, [2, 4]),
        ] {
            let records = records(name, text).unwrap();
            let told = |r: &Record| (r.text("text").unwrap().to_owned(), r.label("label").unwrap().to_owned());
            let found: Vec<_> = records.iter().map(told).collect();
            assert_eq!(found, [("a b".to_owned(), "1".to_owned()), ("c".to_owned(), "2".to_owned())], "{name}");
            assert_eq!(records.iter().map(|r| r.place().line.unwrap()).collect::<Vec<_>>(), places, "{name}");
            assert_eq!(records[0].names().collect::<Vec<_>>(), ["text", "label"]);
        }
    }

    #[test]
    fn a_file_without_records_says_so() {
        assert_eq!(error("x.jsonl", ""), "x.jsonl holds no records: it is empty");
        assert_eq!(error("x.csv", "\u{feff}\r\n"), "x.csv holds no records: it is empty");
        assert_eq!(error("x.csv", "text,label\n"), "x.csv holds no records: no row follows the column names");
        assert_eq!(error("x.json", "[ ]"), "x.json holds no records: its array is empty");
    }

    #[test]
    fn the_name_must_say_the_format() {
        let told = read_records(Path::new("x.txt")).unwrap_err().to_string();
        let due = "it must end in .jsonl, .ndjson, .json, .csv or .tsv";
        assert_eq!(told, format!("x.txt: the name does not say how it is to be read; {due}"));
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(read_records(root.path()), Err(DataError::Folder { .. })));
        let odd = root.path().join("folder.csv");
        std::fs::create_dir(&odd).unwrap();
        assert!(matches!(read_records(&odd), Err(DataError::Folder { .. })));
        assert!(matches!(read_records(root.path().join("none.csv")), Err(DataError::Read { .. })));
        std::fs::write(root.path().join("some.csv"), "text\na\n").unwrap();
        assert_eq!(read_records(root.path().join("some.csv")).unwrap().len(), 1);
    }

    #[test]
    fn faults_of_json_are_told_by_line_and_column() {
        assert_eq!(error("x.jsonl", "{\"a\": 1}\n\n{\"é\": x}\n"), "x.jsonl:3:7: not JSON: expected value");
        assert_eq!(error("x.json", "[{\"a\": 1},\n {\"b\"}]"), "x.json:2:6: not JSON: expected `:`");
        let object = "where an object is due, as in {\"text\": \"…\", \"label\": \"…\"}";
        assert_eq!(
            error("x.jsonl", "[{\"a\": 1}]"),
            format!("x.jsonl:1:1: a list, {object}; a file that is one array must end in .json")
        );
        assert_eq!(error("x.json", "[{\"a\": 1}, 7]"), format!("x.json:1:12: the number 7, {object}"));
        assert_eq!(
            error("x.jsonl", "{}\n{\"a\": 1, \"a\": 2}"),
            "x.jsonl:2:10: the key `a` comes twice in one object; remove one of them"
        );
        assert_eq!(
            error("x.jsonl", "{\"text\": \"a\r\n{}"),
            "x.jsonl:1:11: not JSON: it ends too early (EOF while parsing a string)"
        );
    }

    #[test]
    fn faults_of_tables_are_told_by_line_and_column() {
        let quoted = "a field that holds a comma must be quoted";
        let surplus = error("x.csv", "a,b\n\"1\n2\",3,4\n");
        assert_eq!(surplus, format!("x.csv:3:6: 3 fields, where the header has 2; {quoted}"));
        let short = error("x.csv", "a,b\n1\n");
        assert_eq!(short, format!("x.csv:2:2: 1 fields, where the header has 2; {quoted}"));
        assert!(error("x.tsv", "a\tb\n1\n").ends_with("holds a tab must be quoted"));
        assert_eq!(
            error("x.csv", "a,b,a\n"),
            "x.csv:1:5: the name `a` is that of column 1 as well; each column needs its own"
        );
        let other = "the only column is called `text;label`: the fields of this file must be separated by commas";
        assert_eq!(error("x.csv", "\ntext;label\na, b;c\n"), format!("x.csv:2:1: {other}"));
        let semicolons = records("x.csv", "text;label\na;b\n").unwrap();
        assert_eq!(semicolons[0].text("text").unwrap_err().to_string(), format!("x.csv:1:1: {other}"));
        let commas = records("x.tsv", "text,label\na,b\n").unwrap();
        assert!(commas[0].text("text").unwrap_err().to_string().ends_with("must be separated by tabs"));
        assert_eq!(error("x.csv", "a,b\n1,\"2\n3,4\n"), "x.csv:2:3: this quote never closes");
        assert_eq!(
            error("x.csv", "a,b\n1,\"2\"3\n"),
            "x.csv:2:6: a quoted field goes on after its closing quote; a quote inside of one is written twice (\"\")"
        );
        assert!(error("x.csv", b"a,b\n1,\xff\n").starts_with("x.csv:2:3: not UTF-8: the byte 0xff"));
    }

    #[test]
    fn faults_of_fields_are_told_by_line_and_column() {
        let line = "\n{\"text\": 1, \"label\": null, \"e\": \" \", \"l\": [true, {\"a\": 0.50}]}";
        let records = records("x.jsonl", line).unwrap();
        let r = &records[0];
        let told = |e: DataError| e.to_string();
        assert_eq!(told(r.text("text").unwrap_err()), "x.jsonl:2:10: `text` is the number 1, where text is due");
        assert_eq!(
            told(r.label("label").unwrap_err()),
            "x.jsonl:2:22: `label` is null, where a label (text, number or boolean) is due"
        );
        assert_eq!(told(r.label("e").unwrap_err()), "x.jsonl:2:33: `e` is empty");
        assert_eq!(told(r.list("e").unwrap_err()), "x.jsonl:2:33: `e` is the text \" \", where a list is due");
        assert_eq!(
            told(r.text("body").unwrap_err()),
            "x.jsonl:2: no field `body`; there are `text`, `label`, `e`, `l`"
        );
        let items = r.list("l").unwrap();
        assert_eq!((items[0].label().unwrap(), items[1].member("a").unwrap().label().unwrap()), ("true", "0.50"));
        let member = |item: &Field<'_>| told(item.member("b").unwrap_err());
        assert_eq!(member(&items[0]), "x.jsonl:2:44: `l[0]` is true, where an object is due");
        assert_eq!(member(&items[1]), "x.jsonl:2:50: no field `l[1].b`; there are `a`");
    }

    #[test]
    fn columns_without_a_name_are_passed_over() {
        let records = records("x.csv", ",text,label,, \n0,a,b,,\n").unwrap();
        assert_eq!(records[0].names().collect::<Vec<_>>(), ["text", "label"]);
        assert_eq!(records[0].text("label").unwrap(), "b");
        assert_eq!(records[0].text("").unwrap_err().to_string(), "x.csv:2: no field ``; there are `text`, `label`");
    }

    #[test]
    fn lines_may_end_as_on_an_old_mac() {
        let table = records("x.csv", "text,label\ra,b\rc,d\r").unwrap();
        assert_eq!((table.len(), table[1].text("text").unwrap(), table[1].place().line), (2, "c", Some(3)));
        assert_eq!(records("x.jsonl", "{\"a\": 1}\r{\"a\": 2}").unwrap().len(), 2);
    }

    #[test]
    fn a_line_may_be_long() {
        let long = "é".repeat(3_000_000);
        let one = records("x.jsonl", format!("{{\"text\": \"{long}\", \"n\": 1}}")).unwrap();
        assert_eq!(one[0].text("text").unwrap().len(), long.len());
        let told = one[0].text("n").unwrap_err().to_string();
        assert_eq!(told, "x.jsonl:1:3000019: `n` is the number 1, where text is due");
        assert!(error("x.csv", format!("a\n\"{long}")).len() < 100);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..64),
                "[\\[\\]{}:,\"\\\\a1\\r\\n\té\u{feff}]{0,64}".prop_map(String::into_bytes),
            ],
        ) {
            for name in ["x.jsonl", "x.json", "x.csv", "x.tsv"] {
                for record in records(name, &bytes).unwrap_or_default() {
                    for name in record.names() {
                        let field = record.value(name).unwrap();
                        let _ = (field.text(), field.label(), field.list(), field.member("a"));
                    }
                }
            }
        }
    }
}
