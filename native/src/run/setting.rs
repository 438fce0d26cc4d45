//! The core's choices under the names that configs give them.

use eblora_core::manifold::{Retraction, TangentMap};
use eblora_core::method::{Continuation, Init};
use eblora_core::optim::StepConvention;
use serde::{Deserialize, Serialize};

/// An enum of the core under the names that configs give its values.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident = $core:ident { $($(#[$what:meta])* $variant:ident),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$what])* $variant),+ }

        impl From<$name> for $core {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant),+ }
            }
        }
    };
}

named! {
    /// [`Continuation`] by name.
    BetweenTasks = Continuation {
        /// Merged into the weights; the next task starts a fresh one.
        Merge,
        /// One adapter is trained on through all tasks.
        Continue,
        /// Each task starts from the base anew.
        Individual
    }
}
named! {
    /// [`StepConvention`] by name.
    Convention = StepConvention {
        /// ‖Δ‖/‖X‖.
        Relative,
        /// The rate of each entry.
        Raw,
        /// A raw rate times √(4096/r).
        Authors
    }
}
named! {
    /// [`Init`] by name.
    Initial = Init {
        /// From the gradient.
        Gradient,
        /// Random.
        Random
    }
}
named! {
    /// [`TangentMap`] by name.
    Tangent = TangentMap {
        /// Δ − X·sym(XᵀΔ).
        Euclidean,
        /// Δ − X·ΔᵀX.
        Canonical
    }
}
named! {
    /// [`Retraction`] by name.
    WayBack = Retraction {
        /// Y·(YᵀY)^−½.
        Whitening,
        /// UVᵀ of the SVD.
        Polar,
        /// Q of QR.
        Qr
    }
}
