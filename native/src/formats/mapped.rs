//! The bytes of a file without a copy of them: mapped into memory where the system can, so that weights cost no memory of
//! their own until they are touched, and none that the system can't take back.
//!
//! The one place of this crate with `unsafe`: the compiler can't know that nobody changes the file meanwhile. A model
//! that is overwritten in place while it is in use gives wrong numbers, and one that is cut off ends the process;
//! replacing a file by another one, as package managers and our own writer do, is harmless.
#![allow(unsafe_code)]

use std::fmt;
#[cfg(feature = "cli")]
use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "cli")]
use memmap2::Mmap;

/// Bytes that many can share: those of a mapped file, or in memory.
#[derive(Clone)]
pub struct SharedBytes(Arc<Bytes>);

enum Bytes {
    #[cfg(feature = "cli")]
    Mapped(Mmap),
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

impl SharedBytes {
    /// Maps a file; where that can't be done, reads it.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let folder = tempfile::tempdir()?;
    /// let file = folder.path().join("weights");
    /// std::fs::write(&file, b"1234")?;
    /// assert_eq!(&eblora::formats::mapped::SharedBytes::map(&file)?[1..3], b"23");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it can't be opened or read.
    #[cfg(feature = "cli")]
    pub fn map(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the file is only read, and what it means if others change it meanwhile is said above.
        match unsafe { Mmap::map(&file) } {
            Ok(map) => Ok(Self(Arc::new(Bytes::Mapped(map)))),
            // Empty files, some file systems, and folders, which reading tells of.
            Err(_) => Ok(std::fs::read(path)?.into()),
        }
    }

    /// Reads a file: nothing can be mapped here.
    ///
    /// # Errors
    /// When it can't be read.
    #[cfg(not(feature = "cli"))]
    pub fn map(path: &Path) -> std::io::Result<Self> {
        Ok(std::fs::read(path)?.into())
    }

    /// Bytes that are part of the program.
    pub fn of_program(bytes: &'static [u8]) -> Self {
        Self(Arc::new(Bytes::Static(bytes)))
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes::Owned(bytes)))
    }
}

impl From<&[u8]> for SharedBytes {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            #[cfg(feature = "cli")]
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
            Bytes::Static(bytes) => bytes,
        }
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match *self.0 {
            #[cfg(feature = "cli")]
            Bytes::Mapped(_) => "mapped",
            Bytes::Owned(_) => "owned",
            Bytes::Static(_) => "static",
        };
        write!(f, "{} {kind} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_mapped_and_faults_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, [7; 5000]).unwrap();
        let bytes = SharedBytes::map(&file).unwrap();
        assert_eq!((&bytes[..], format!("{bytes:?}").as_str()), (&[7; 5000][..], "5000 mapped bytes"));
        // Replaced, as atomic writes do: those who have the old one keep it.
        crate::formats::atomic::write(&file, b"new").unwrap();
        assert_eq!((bytes[4999], &SharedBytes::map(&file).unwrap()[..]), (7, &b"new"[..]));
        std::fs::write(folder.path().join("empty"), b"").unwrap();
        assert!(SharedBytes::map(&folder.path().join("empty")).unwrap().is_empty());
        assert!(SharedBytes::map(folder.path()).is_err(), "a folder");
        assert!(SharedBytes::map(&folder.path().join("none")).is_err());
    }
}
