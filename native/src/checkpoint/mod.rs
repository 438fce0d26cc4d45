//! Checkpoints on disk: the state of a run as two files, `00000007.safetensors` with its tensors and `00000007.json` with
//! everything else, in a folder of its own. Higher numbers are newer.
//!
//! The tensors are written first and the header, which names them, last; each by a temporary file that is synced and
//! renamed. So a header that is there has its tensors, whenever the power went. Both carry a CRC-32: it finds every torn
//! write and every error burst up to 32 bits, is in the program already (zip and gzip use it), and costs no time. It is no
//! protection against forgery, which a checkpoint in one's own folder does not need.
//!
//! The last two are kept. Where the newest can't be used, the one before is; loading says so.

mod header;
#[cfg(feature = "cli")]
mod keeper;
mod snapshot;
#[cfg(feature = "cli")]
mod store;
mod tensors;

pub use header::{FORMAT, VERSION, checksum};
#[cfg(feature = "cli")]
pub use keeper::Keeper;
pub use snapshot::{Sittings, Snapshot};
#[cfg(feature = "cli")]
pub use store::{Loaded, Store};

use std::path::PathBuf;

use thiserror::Error;

use crate::formats::atomic::WriteError;

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file could not be written.
    #[error("{0}; the checkpoints before are as they were: make room there, and go on with --resume")]
    Write(#[from] WriteError),
    /// A number that no file can hold.
    #[error("{what} is not finite: this state can't go on, and is not saved")]
    NonFinite {
        /// Where it is.
        what: String,
    },
    /// The folder can't be read.
    #[error("cannot read or tidy up the checkpoints in {}: {source}", .folder.display())]
    Read {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is not what was written.
    #[error("{}: {reason}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint of a later version.
    #[error(
        "{}: a checkpoint of format version {version}, and this eblora reads {VERSION}: go on with the eblora that wrote \
         it, or start anew with --restart", .file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There are checkpoints, and none can be used.
    #[error("no checkpoint in {} can be used ({reasons}): start anew with --restart", .folder.display())]
    NoneGood {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with each.
        reasons: String,
    },
}
