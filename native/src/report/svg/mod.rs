//! The figures of the report, as SVG written by hand: a handful of shapes, colours from one theme, no scripts.
//!
//! Each figure is a function from results to a [`Canvas`]; that is put into the page as it is, or, with a background of
//! its own, into a file.

mod canvas;
mod forgetting;
mod frame;
mod growth;
mod heatmap;
mod lines;
mod spectra;
pub mod theme;

pub use canvas::{Canvas, escape};
pub use forgetting::{forgetting, forgetting_poster, mean_of_seen};
pub use growth::growth;
pub use heatmap::heatmap;
pub use lines::lines;
pub use spectra::spectra;

/// Width of a plot that stands among others of its kind.
pub const PANEL_WIDTH: f64 = 400.0;
/// Height of such a plot.
pub const PANEL_HEIGHT: f64 = 250.0;
