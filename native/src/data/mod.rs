//! Images: plain sets of bytes, the transforms that make new tasks of them, and the bundled sequence.

pub mod bundled;
pub mod mix;
pub mod transform;
