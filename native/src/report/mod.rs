//! What a run leaves for its reader: `result.json`, the table on the terminal, the HTML page and its figures.

pub mod adapter_table;
#[cfg(test)]
pub(crate) mod example;
pub mod finding;
pub mod finding_page;
pub mod html;
pub mod paired;
pub mod result;
pub mod summary;
pub mod svg;
pub mod table;
