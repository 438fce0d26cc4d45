//! What a run leaves for its reader: `result.json`, the table on the terminal, the HTML page and its figures.

#[cfg(test)]
pub(crate) mod example;
pub mod html;
pub mod result;
pub mod svg;
pub mod table;
