//! What is learnt from: the bundled sequence with its transforms, and users' own files, read so that every fault in them
//! is told by file, line and column.
//!
//! | module | what it holds |
//! |---|---|
//! | [`records`] | named fields out of JSON lines and tables |
//! | [`texts`], [`prompts`] | examples for classifiers and for language models, out of records |
//! | [`images`] | images with labels: folders, idx, npy, records |
//! | [`labels`] | the names of classes and their numbers |
//! | [`place`] | where something stands in a file |
//! | [`bundled`], [`mix`], [`transform`] | the bundled images and what tasks are made of them |

pub mod bundled;
mod error;
pub mod images;
pub mod labels;
pub mod mix;
pub mod place;
pub mod prompts;
pub mod records;
mod source;
pub mod texts;
pub mod transform;

pub use error::DataError;
#[cfg(feature = "cli")]
pub(crate) use source::line_and_column;
