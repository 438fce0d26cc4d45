//! Files that are there whole or not at all: a temporary file in the same folder, synced, renamed, folder synced.

use std::io;
use std::path::PathBuf;
#[cfg(feature = "cli")]
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

#[cfg(feature = "cli")]
use tempfile::NamedTempFile;
use thiserror::Error;

/// Why a file or folder could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The folder does not exist and cannot be made.
    #[error("cannot make the folder {}: {source}; choose another one", .folder.display())]
    CreateFolder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The path of the folder is taken by something else.
    #[error("{} is not a folder; choose another one", .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder takes no new files.
    #[error("cannot write into the folder {}: {source}; choose another one", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// This file could not be written.
    #[error("cannot write {}: {source}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Makes `folder` where it is missing, and proves by a short-lived file that it can be written.
#[cfg(feature = "cli")]
pub fn prepare_folder(folder: &Path) -> Result<(), WriteError> {
    if folder.exists() && !folder.is_dir() {
        return Err(WriteError::NotAFolder { path: folder.to_owned() });
    }
    fs::create_dir_all(folder).map_err(|source| WriteError::CreateFolder { folder: folder.to_owned(), source })?;
    let refused = |source| WriteError::Folder { folder: folder.to_owned(), source };
    temporary(folder).and_then(|mut probe| probe.write_all(b"eblora")).map_err(refused)
}

/// Writes `bytes` to `file` so that a crash leaves either the old content or the new, never a part.
#[cfg(feature = "cli")]
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError::File { file: file.to_owned(), source };
    write_by(file, |temporary| temporary.write_all(bytes).map_err(failed))
}

/// The same for a content too large for memory, which `fill` puts into the temporary file.
///
/// # Errors
/// As [`write()`], and what `fill` fails with; `file` is as it was then.
#[cfg(feature = "cli")]
pub fn write_by<E: From<WriteError>>(file: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let failed = |source| WriteError::File { file: file.to_owned(), source };
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if file.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()).into());
    }
    let mut temporary = temporary(folder).map_err(failed)?;
    fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(file).map_err(|e| failed(e.error))?;
    Ok(sync_folder(folder).map_err(failed)?)
}

/// Removes temporary files of [`write()`] that a process which was killed has left in `folder`.
#[cfg(feature = "cli")]
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if ours && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// How temporary files are called.
#[cfg(feature = "cli")]
const PREFIX: &str = ".eblora-";
#[cfg(feature = "cli")]
const SUFFIX: &str = ".tmp";

/// A new file in `folder`, removed again when dropped, with the permissions that any new file gets.
#[cfg(feature = "cli")]
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    fs::metadata(folder)?; // an error of the library would name the temporary file
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666)); // less the umask, as for any new file
    }
    builder.tempfile_in(folder)
}

/// Makes the rename itself durable; only unix can sync a folder.
#[cfg(feature = "cli")]
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn writes_and_replaces_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        prepare_folder(&folder).unwrap();
        prepare_folder(&folder).unwrap();
        let file = folder.join("f");
        write(&file, b"one").unwrap();
        write(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        let failed = write_by(&file, |part| {
            part.write_all(b"three").unwrap();
            Err(WriteError::NotAFolder { path: file.clone() })
        });
        assert!(matches!(failed, Err(WriteError::NotAFolder { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"two", "a failed write changes nothing");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for name in [".eblora-a1B2c3.tmp", "x.tmp", ".eblora-notes", "file"] {
            fs::write(root.path().join(name), "x").unwrap();
        }
        remove_leftovers(root.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".eblora-notes", "file", "x.tmp"]);
        remove_leftovers(&root.path().join("none")).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("plain");
        fs::write(&file, "x").unwrap();
        assert!(matches!(prepare_folder(&file), Err(WriteError::NotAFolder { .. })));
        assert!(matches!(prepare_folder(&file.join("below")), Err(WriteError::CreateFolder { .. })));
        assert!(matches!(write(&file.join("below"), b""), Err(WriteError::File { .. })));
        assert!(matches!(write(root.path(), b""), Err(WriteError::File { .. })), "a folder is no file");
    }
}
