//! eblora: continual low-rank adaptation, the library behind the command line.
#![deny(missing_docs)]

pub mod formats;
pub mod model;
