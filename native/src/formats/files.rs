//! Where files are: on this machine, or in memory, as a browser hands them over. Readers take an [`At`] and are written once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::mapped::SharedBytes;

/// Files in memory, by path; copies share the content.
///
/// ```
/// use eblora::formats::files::Files;
/// let files = Files::new([("pets/cat/1.png", vec![1_u8, 2])]);
/// let pets = files.at("pets");
/// assert!(pets.is_dir() && pets.join("cat").is_dir());
/// assert_eq!(pets.join("./cat/1.png").read().unwrap(), [1, 2]);
/// assert_eq!(pets.entries().unwrap()[0].path().to_str(), Some("pets/cat"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<BTreeMap<PathBuf, SharedBytes>>);

impl Files {
    /// Files under their names, whose folders are separated by `/`; of two of one name, the last.
    pub fn new<N: AsRef<Path>, B: Into<SharedBytes>>(files: impl IntoIterator<Item = (N, B)>) -> Self {
        Self(Arc::new(files.into_iter().map(|(name, bytes)| (plain(name.as_ref()), bytes.into())).collect()))
    }

    /// A place among them; the empty path is the folder of all.
    pub fn at(&self, path: impl AsRef<Path>) -> At {
        At { path: path.as_ref().to_owned(), memory: Some(self.clone()) }
    }

    /// The same files in a folder of this name.
    pub fn within(&self, folder: impl AsRef<Path>) -> Self {
        let inside = |(path, bytes): (&PathBuf, &SharedBytes)| (folder.as_ref().join(path), bytes.clone());
        Self::new(self.0.iter().map(inside))
    }

    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }
}

/// The path without `.`, `..` and what stands before the first folder.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// A file or folder: a path on this machine, or among files in memory.
#[derive(Clone, Debug)]
pub struct At {
    path: PathBuf,
    memory: Option<Files>,
}

impl At {
    /// Its path, for messages and names.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is called so in this folder.
    pub fn join(&self, part: impl AsRef<Path>) -> Self {
        self.with(self.path.join(part))
    }

    /// The folder that it is in.
    pub fn parent(&self) -> Self {
        self.with(self.path.parent().unwrap_or(Path::new("")).to_owned())
    }

    fn with(&self, path: PathBuf) -> Self {
        Self { path, memory: self.memory.clone() }
    }

    /// A file's content.
    ///
    /// # Errors
    /// When it is not there, or is no file.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match &self.memory {
            None => std::fs::read(&self.path),
            Some(_) => self.map().map(|bytes| bytes.to_vec()),
        }
    }

    /// The same, without a copy where that can be had.
    ///
    /// # Errors
    /// As [`At::read`].
    pub fn map(&self) -> io::Result<SharedBytes> {
        let Some(Files(files)) = &self.memory else { return SharedBytes::map(&self.path) };
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it is not among the files given");
        files.get(&plain(&self.path)).cloned().ok_or_else(missing)
    }

    /// Whether there is a file.
    pub fn is_file(&self) -> bool {
        match &self.memory {
            None => self.path.is_file(),
            Some(Files(files)) => files.contains_key(&plain(&self.path)),
        }
    }

    /// Whether there is a folder; in memory, one with a file in it.
    pub fn is_dir(&self) -> bool {
        match &self.memory {
            None => self.path.is_dir(),
            Some(Files(files)) => {
                let folder = plain(&self.path);
                files.keys().any(|path| path != &folder && path.starts_with(&folder))
            }
        }
    }

    /// Whether there is anything.
    pub fn exists(&self) -> bool {
        match &self.memory {
            None => self.path.exists(),
            Some(_) => self.is_file() || self.is_dir(),
        }
    }

    /// What is in a folder, sorted by path.
    ///
    /// # Errors
    /// When it is not there, or is no folder.
    pub fn entries(&self) -> io::Result<Vec<Self>> {
        let mut paths = Vec::new();
        match &self.memory {
            None => {
                for entry in std::fs::read_dir(&self.path)? {
                    paths.push(entry?.path());
                }
            }
            Some(_) if !self.is_dir() => {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such folder is among the files given"));
            }
            Some(Files(files)) => {
                let folder = plain(&self.path);
                let inside = files.keys().filter_map(|path| path.strip_prefix(&folder).ok()?.components().next());
                paths.extend(inside.map(|first| self.path.join(first)));
            }
        }
        paths.sort();
        paths.dedup();
        Ok(paths.into_iter().map(|path| self.with(path)).collect())
    }
}

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Files, &Files)| Arc::ptr_eq(&a.0, &b.0);
        let memory = self.memory.as_ref().zip(other.memory.as_ref());
        self.path == other.path && memory.map_or(self.memory.is_none() && other.memory.is_none(), same)
    }
}

impl From<PathBuf> for At {
    fn from(path: PathBuf) -> Self {
        Self { path, memory: None }
    }
}

impl From<&Path> for At {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<&PathBuf> for At {
    fn from(path: &PathBuf) -> Self {
        path.clone().into()
    }
}

impl From<&At> for At {
    fn from(at: &At) -> Self {
        at.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_disk_read_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["b/2", "b/1", "a/x/3", "top"];
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let files = Files::new(names.map(|name| (name, name.as_bytes())));
        let (disk, memory) = (At::from(folder.path()), files.at(""));
        let told = |at: &At, root: &At| {
            let name = |at: &At| at.path().strip_prefix(root.path()).unwrap().to_owned();
            let entries = at.entries().map(|all| all.iter().map(name).collect::<Vec<_>>());
            (entries.map_err(|e| e.kind()), at.is_dir(), at.is_file(), at.exists(), at.read().ok())
        };
        for place in ["", "a", "a/x", "b", "b/2", "none", "b/none"] {
            let (d, m) = (told(&disk.join(place), &disk), told(&memory.join(place), &memory));
            let kinds = if disk.join(place).is_file() { (m.clone().0, d.1, d.2, d.3, d.4) } else { d };
            assert_eq!(kinds, m, "{place}");
        }
        assert_eq!(memory.join("b/../a/./x/3").read().unwrap(), b"a/x/3");
        assert_eq!(memory.join("b/1").parent(), memory.join("b"));
        assert!(disk != memory && memory != Files::default().at(""));
    }
}
