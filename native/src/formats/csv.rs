//! Comma- or tab-separated values, of which every cell knows where it stands.
//!
//! A cell that begins with a quote ends with one; it may hold separators, line ends and, written twice, quotes. Lines end
//! with `\n` or `\r\n`; empty ones are skipped. Well-formed text reads as it does with the crate `csv`, which takes
//! ill-formed text as well, and tells no cell's place.

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The byte at which it begins, its quote included.
    pub at: usize,
    /// What it holds, without quotes.
    pub text: String,
}

/// A line, or several where a quoted cell goes over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its cells, at least one.
    pub cells: Vec<Cell>,
    /// The byte after its last cell.
    pub end: usize,
}

/// Why a text is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvFault {
    /// The quote at this byte is never closed.
    OpenQuote(usize),
    /// At this byte a quoted cell goes on after its closing quote.
    AfterQuote(usize),
}

/// All rows of a text; `separator` is a comma or a tab.
pub fn rows(text: &str, separator: u8) -> Result<Vec<Row>, CsvFault> {
    let bytes = text.as_bytes();
    let (mut rows, mut cells, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        if cells.is_empty() && line_end(bytes, at).is_some_and(|length| length > 0) {
            at += line_end(bytes, at).unwrap_or(1);
            continue;
        }
        let cell = cell(text, at, separator)?;
        at = cell.1;
        cells.push(cell.0);
        match line_end(bytes, at) {
            Some(length) => {
                rows.push(Row { cells: std::mem::take(&mut cells), end: at });
                at += length;
            }
            // A separator; when it is the last byte of all, an empty cell follows it.
            None => {
                at += 1;
                if at == bytes.len() {
                    cells.push(Cell { at, text: String::new() });
                    rows.push(Row { cells: std::mem::take(&mut cells), end: at });
                }
            }
        }
    }
    Ok(rows)
}

/// How long the line end at this byte is, if one is there; that of the text has no length.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes[at..] {
        [] => Some(0),
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

/// The cell at this byte, and the byte after it: a separator or a line end.
fn cell(text: &str, at: usize, separator: u8) -> Result<(Cell, usize), CsvFault> {
    let bytes = text.as_bytes();
    if bytes[at] != b'"' {
        let ends = |&end: &usize| bytes[end] == separator || line_end(bytes, end).is_some();
        let end = (at..bytes.len()).find(ends).unwrap_or(bytes.len());
        return Ok((Cell { at, text: text[at..end].to_owned() }, end));
    }
    let (mut content, mut from) = (String::new(), at + 1);
    loop {
        let quote = from + text[from..].find('"').ok_or(CsvFault::OpenQuote(at))?;
        content.push_str(&text[from..quote]);
        from = quote + 1;
        if bytes.get(from) != Some(&b'"') {
            break;
        }
        content.push('"');
        from += 1;
    }
    let ends = bytes.get(from) == Some(&separator) || line_end(bytes, from).is_some();
    if ends { Ok((Cell { at, text: content }, from)) } else { Err(CsvFault::AfterQuote(from)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str, separator: u8) -> Vec<Vec<String>> {
        let rows = rows(text, separator).unwrap();
        rows.into_iter().map(|row| row.cells.into_iter().map(|cell| cell.text).collect()).collect()
    }

    #[test]
    fn cells_quotes_and_line_ends() {
        assert_eq!(
            texts("a,b\r\n\r\n1,\"x, \"\"y\"\"\nz\"\n\n,\n", b','),
            [["a", "b"], ["1", "x, \"y\"\nz"], ["", ""]]
        );
        assert_eq!(texts("a\tb,c\n1\t", b'\t'), [["a", "b,c"], ["1", ""]]);
        assert_eq!(texts("5\" nail,x\ry", b','), [["5\" nail", "x\ry"]]);
        assert_eq!(texts("", b','), [[""; 0]; 0]);
        assert_eq!(texts("\n\n", b','), [[""; 0]; 0]);
    }

    #[test]
    fn cells_know_their_place() {
        let rows = rows("a,b\n\"x\ny\",é,z", b',').unwrap();
        assert_eq!(rows[1].cells.iter().map(|cell| cell.at).collect::<Vec<_>>(), [4, 10, 13]);
        assert_eq!((rows[0].end, rows[1].end), (3, 14));
    }

    #[test]
    fn faults_know_their_place() {
        assert_eq!(rows("a,b\n1,\"x\n2,y\n", b','), Err(CsvFault::OpenQuote(6)));
        assert_eq!(rows("a,\"b\"c\n", b','), Err(CsvFault::AfterQuote(5)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", marks in "[a,\"\\r\\n\té]*") {
            for text in [text, marks] {
                let _ = (rows(&text, b','), rows(&text, b'\t'));
            }
        }

        #[test]
        fn what_it_reads_the_crate_csv_reads_the_same(text in "([ab,]|\"[ab,\\n]*\"|\\r?\\n|\"\"){0,12}") {
            if let Ok(ours) = rows(&text, b',') {
                let mut reader =
                    csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
                let theirs: Vec<Vec<String>> =
                    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
                let ours: Vec<Vec<String>> =
                    ours.into_iter().map(|row| row.cells.into_iter().map(|cell| cell.text).collect()).collect();
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
