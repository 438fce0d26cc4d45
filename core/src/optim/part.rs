//! What optimiser steps change beside the factors, piece by piece, so that it can be saved and written back.

use crate::backend::Backend;

/// One piece of an optimiser's state, where it lives.
///
/// The same list serves both ways: saving reads the pieces, resuming overwrites them.
pub enum Part<'a, B: Backend> {
    /// Numbers on the device, such as a moment.
    Tensor(&'a mut B::Tensor),
    /// A counter, such as the steps taken.
    Count(&'a mut u32),
}
