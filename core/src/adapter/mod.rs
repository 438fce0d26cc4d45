//! The updates of one linear layer `y = W x`: factored, never out×in until they are merged.
//!
//! | file | what |
//! |---|---|
//! | [`spectral`] | `ΔW = s·U·Vᵀ` with orthonormal factors and one magnitude (EBO, EBLoRA) |
//! | [`lora`] | `ΔW = scale·B·A` (LoRA and its relatives, and the form that is exported) |
//! | [`init`] | `U₀`, `V₀` from the gradient off the subspace of earlier tasks |
//! | [`depth`] | the initial magnitude by depth |
//! | [`smoothing`] | an update with its singular values made equal, and merges of several |
//! | [`stack`] | all adapters of a model on a device, layers of equal shape stacked |
//! | [`host`] | all adapters of a model on the host |
//!
//! `W` is out×in, `U` and `B` are out×r, `V` and `Aᵀ` are in×r.

use faer::MatRef;
use thiserror::Error;

use crate::backend::BackendError;
use crate::{Real, gpm, linalg};

pub mod depth;
pub mod host;
pub mod init;
pub mod lora;
pub mod smoothing;
pub mod spectral;
pub mod stack;

pub use depth::DepthSchedule;
pub use host::HostAdapters;
pub use init::Init;
pub use lora::LoraAdapter;
pub use smoothing::Smoothing;
pub use spectral::SpectralAdapter;
pub use stack::{AdapterGrads, AdapterStack, Adapters, HostFactors, Magnitude};

/// Why an adapter cannot be made, checked or merged.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A matrix has the wrong shape.
    #[error("{what}: expected a {}x{} matrix, got {}x{}", expected.0, expected.1, got.0, got.1)]
    Shape {
        /// Which matrix.
        what: &'static str,
        /// The rows and columns it must have.
        expected: (usize, usize),
        /// The rows and columns it has.
        got: (usize, usize),
    },
    /// More orthonormal columns were asked for than the dimension has.
    #[error("{what}: rank {rank} is more than {most}")]
    Rank {
        /// Which factor.
        what: &'static str,
        /// The rank.
        rank: usize,
        /// The most there can be.
        most: usize,
    },
    /// A matrix or number holds NaN or infinity.
    #[error("{what} holds NaN or infinity")]
    NonFinite {
        /// Which one.
        what: &'static str,
    },
    /// The columns of a factor are not orthonormal.
    #[error("{what}: max |XᵀX − I| is {error:e}, more than {tolerance:e}")]
    NotOrthonormal {
        /// Which factor.
        what: &'static str,
        /// The deviation found.
        error: f64,
        /// The deviation allowed.
        tolerance: f64,
    },
    /// A setting is outside its range.
    #[error("{what} must be {range}, got {value}")]
    Range {
        /// Which setting.
        what: &'static str,
        /// The values it can take.
        range: &'static str,
        /// The value it has.
        value: f64,
    },
    /// There is no layer of this index.
    #[error("layer {layer} of {layers} (counted from 0)")]
    Layer {
        /// The index.
        layer: usize,
        /// The number of layers.
        layers: usize,
    },
    /// Nothing was given to stack or merge, or not one weight each.
    #[error("{updates} updates and {weights} weights: there must be at least one, and as many of each")]
    Count {
        /// The number of updates.
        updates: usize,
        /// The number of weights.
        weights: usize,
    },
    /// A layer that has an adapter on one side only.
    #[error("site {site} has an adapter here and none there")]
    Site {
        /// The model's site.
        site: usize,
    },
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Gradient and memory do not fit together, or the gradient's decomposition failed.
    #[error(transparent)]
    Gpm(#[from] gpm::GpmError),
    /// A decomposition failed.
    #[error(transparent)]
    Linalg(#[from] linalg::LinalgError),
}

fn shape<T: Real>(what: &'static str, expected: (usize, usize), a: MatRef<'_, T>) -> Result<(), AdapterError> {
    if a.shape() == expected { Ok(()) } else { Err(AdapterError::Shape { what, expected, got: a.shape() }) }
}

fn finite<T: Real>(what: &'static str, a: MatRef<'_, T>) -> Result<(), AdapterError> {
    if linalg::is_finite(a) { Ok(()) } else { Err(AdapterError::NonFinite { what }) }
}
