//! A run's folder: `adapters.json` and beside it one PEFT folder per task, such as `01-movie`.
//!
//! ```json
//! {"format": "eblora.adapters", "version": 1, "base": "minilm", "family": "bert",
//!  "tasks": [{"name": "movie", "folder": "01-movie", "after": "merge"}]}
//! ```

use std::path::Path;

use eblora_core::adapter::HostAdapters;
use eblora_core::method::After;
use eblora_core::model::Site;
use eblora_core::train::LearntTask;
use serde::{Deserialize, Serialize};

use super::config::parse;
use super::sum::stack;
use super::{PeftAdapter, PeftError};
#[cfg(feature = "cli")]
use crate::formats::atomic;
use crate::formats::files::{At, Files};
use crate::model::Family;

/// The list of a set's adapters.
pub const SET_FILE: &str = "adapters.json";
/// What the file is.
pub const SET_FORMAT: &str = "eblora.adapters";
/// Version of the format; goes up when an older eblora can no longer read it.
pub const SET_VERSION: u32 = 1;
/// Characters of a task's name in its folder's.
const LONGEST_NAME: usize = 48;

/// One task's adapter in a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetTask {
    /// The task.
    pub name: String,
    /// Its PEFT folder, in the set's.
    pub folder: String,
    /// What became of the adapter after the task: merged into the weights, or kept beside them and trained on by the next.
    #[serde(with = "after")]
    pub after: After,
}

/// The adapters of a run, task by task.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSet {
    folder: At,
    /// The model that the run started from: a Hugging Face folder, or a name.
    pub base: Option<String>,
    /// Its architecture.
    pub family: Family,
    tasks: Vec<SetTask>,
}

/// The content of [`SET_FILE`].
#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    base: Option<String>,
    family: Family,
    tasks: Vec<SetTask>,
}

pub(super) mod after {
    use super::{After, Deserialize};
    use serde::{Deserializer, Serializer, de::Error};

    pub fn name(after: After) -> &'static str {
        match after {
            After::Merge => "merge",
            After::Keep => "keep",
        }
    }

    pub fn serialize<S: Serializer>(after: &After, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name(*after))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<After, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "merge" => Ok(After::Merge),
            "keep" => Ok(After::Keep),
            other => Err(D::Error::unknown_variant(other, &["merge", "keep"])),
        }
    }
}

impl AdapterSet {
    /// A new set in `folder`, without a task yet. The list of one that is there is replaced.
    ///
    /// # Errors
    /// When it can't be written.
    #[cfg(feature = "cli")]
    pub fn create(folder: &Path, base: Option<String>, family: Family) -> Result<Self, PeftError> {
        let set = Self { folder: folder.into(), base, family, tasks: Vec::new() };
        atomic::prepare_folder(folder)?;
        set.write_list()?;
        Ok(set)
    }

    /// Writes the adapter of the next task into a folder of its own, and then the list: it never names what isn't there.
    ///
    /// # Errors
    /// When it can't be written.
    #[cfg(feature = "cli")]
    pub fn add(&mut self, name: &str, after: After, adapter: &PeftAdapter) -> Result<(), PeftError> {
        let task = self.next(name, after);
        adapter.write(self.folder.join(&task.folder).path())?;
        self.tasks.push(task);
        self.write_list()
    }

    fn next(&self, name: &str, after: After) -> SetTask {
        SetTask { name: name.to_owned(), folder: folder_name(self.tasks.len() + 1, name), after }
    }

    /// The adapter of a model with these sites, as one of this set.
    fn adapter_of(&self, adapters: &HostAdapters<f32>, sites: &[Site]) -> Result<PeftAdapter, PeftError> {
        let adapter = PeftAdapter::from_host(adapters, sites)?;
        Ok(PeftAdapter { base_model: self.base.clone(), ..adapter })
    }

    /// The same from the adapters of a model with these sites.
    ///
    /// # Errors
    /// When it can't be written, or a site is none of the model's.
    #[cfg(feature = "cli")]
    pub fn add_host(
        &mut self,
        name: &str,
        after: After,
        adapters: &HostAdapters<f32>,
        sites: &[Site],
    ) -> Result<(), PeftError> {
        let adapter = self.adapter_of(adapters, sites)?;
        self.add(name, after, &adapter)
    }

    /// A whole run's set: the adapters of the tasks it has learnt ([`RunState::learnt`](eblora_core::train::RunState)), whose
    /// names `tasks` starts with.
    ///
    /// # Errors
    /// As [`add_host`](Self::add_host).
    #[cfg(feature = "cli")]
    pub fn write_run(
        folder: &Path,
        base: Option<String>,
        family: Family,
        tasks: &[String],
        learnt: &[LearntTask<f32>],
        sites: &[Site],
    ) -> Result<Self, PeftError> {
        let mut set = Self::create(folder, base, family)?;
        for (name, task) in tasks.iter().zip(learnt) {
            set.add_host(name, task.after, &task.adapters, sites)?;
        }
        Ok(set)
    }

    /// The files of such a set, by their paths in it with `/` between folder and file: what [`write_run`](Self::write_run)
    /// writes, byte for byte.
    ///
    /// # Errors
    /// When a site is none of the model's, or a factor is not finite.
    pub fn run_files(
        base: Option<String>,
        family: Family,
        tasks: &[String],
        learnt: &[LearntTask<f32>],
        sites: &[Site],
    ) -> Result<Vec<(String, Vec<u8>)>, PeftError> {
        let mut set = Self { folder: Files::default().at(""), base, family, tasks: Vec::new() };
        let mut files = Vec::new();
        for (name, task) in tasks.iter().zip(learnt) {
            let next = set.next(name, task.after);
            let adapter = set.adapter_of(&task.adapters, sites)?;
            let named = |(file, bytes)| (format!("{}/{file}", next.folder), bytes);
            files.extend(adapter.files(Path::new(&next.folder))?.map(named));
            set.tasks.push(next);
        }
        files.push((SET_FILE.to_owned(), set.list()?));
        Ok(files)
    }

    #[cfg(feature = "cli")]
    fn write_list(&self) -> Result<(), PeftError> {
        Ok(atomic::write(self.folder.join(SET_FILE).path(), &self.list()?)?)
    }

    /// The content of [`SET_FILE`].
    fn list(&self) -> Result<Vec<u8>, PeftError> {
        let list = File {
            format: SET_FORMAT.to_owned(),
            version: SET_VERSION,
            base: self.base.clone(),
            family: self.family,
            tasks: self.tasks.clone(),
        };
        let json = serde_json::to_string_pretty(&list).map_err(|e| PeftError::Content {
            file: self.folder.join(SET_FILE).path().to_owned(),
            reason: e.to_string(),
        })?;
        Ok((json + "\n").into_bytes())
    }

    /// Whether a folder holds a set.
    pub fn is_in(folder: impl Into<At>) -> bool {
        folder.into().join(SET_FILE).exists()
    }

    /// Reads the list of a set; the adapters themselves when they are asked for.
    ///
    /// # Errors
    /// When it is no such list.
    pub fn read(folder: impl Into<At>) -> Result<Self, PeftError> {
        let folder = folder.into();
        #[derive(Deserialize)]
        struct Head {
            format: Option<String>,
            version: Option<u32>,
        }
        let place = folder.join(SET_FILE);
        let file = place.path().to_owned();
        let bytes = place.read().map_err(|source| PeftError::Read { file: file.clone(), source })?;
        let fault = |reason: String| PeftError::Set { file: file.clone(), reason };
        let head: Head = parse(&bytes, &file)?;
        match (head.format.as_deref(), head.version) {
            (Some(SET_FORMAT), Some(version)) if version > SET_VERSION => {
                return Err(PeftError::Newer { file, version });
            }
            (Some(SET_FORMAT), Some(_)) => {}
            (found, _) => {
                let found = found.map_or("without a format".to_owned(), |found| format!("of the format {found:?}"));
                return Err(fault(format!("a file {found}, where a set of adapters ({SET_FORMAT:?}) is due")));
            }
        }
        let File { base, family, tasks, .. } = parse(&bytes, &file)?;
        // An adapter is in the set's folder, not anywhere on the machine.
        let astray = |task: &&SetTask| Path::new(&task.folder).file_name().is_none_or(|name| name != &*task.folder);
        if let Some(task) = tasks.iter().find(astray) {
            return Err(fault(format!("`{}` is not a plain folder name", task.folder)));
        }
        Ok(Self { folder, base, family, tasks })
    }

    /// The set's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its tasks, in order.
    pub fn tasks(&self) -> &[SetTask] {
        &self.tasks
    }

    /// The index of a task, of the last one if several have the name; of the last of all without a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn position(&self, name: Option<&str>) -> Result<usize, PeftError> {
        let found = self.tasks.iter().rposition(|task| name.is_none_or(|name| task.name == name));
        found.ok_or_else(|| {
            let known: Vec<_> = self.tasks.iter().map(|task| task.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            PeftError::NoTask { folder: self.folder().to_owned(), task: name.unwrap_or("at all").to_owned(), known }
        })
    }

    /// The tasks whose adapters add up to the model after task `index` (none if there is no such task): all that were merged
    /// up to it, and the last one if it was kept. A kept adapter goes on in the next task, whose own stands for both.
    pub fn upto(&self, index: usize) -> Vec<&SetTask> {
        let last = self.tasks.get(index).filter(|task| task.after == After::Keep);
        let tasks = self.tasks.iter().take(if index < self.tasks.len() { index + 1 } else { 0 });
        tasks.filter(|task| task.after == After::Merge).chain(last).collect()
    }

    /// Reads the adapter of a task.
    ///
    /// # Errors
    /// As [`PeftAdapter::read`].
    pub fn adapter(&self, task: &SetTask) -> Result<PeftAdapter, PeftError> {
        PeftAdapter::read(self.folder.join(&task.folder))
    }

    /// The sum of what the model has learnt up to task `index`, as one adapter.
    ///
    /// # Errors
    /// When an adapter can't be read, or there is no such task.
    pub fn sum(&self, index: usize) -> Result<PeftAdapter, PeftError> {
        let parts: Vec<_> = self.upto(index).into_iter().map(|task| self.adapter(task)).collect::<Result<_, _>>()?;
        let sum = stack(&parts)?;
        Ok(PeftAdapter { base_model: sum.base_model.or_else(|| self.base.clone()), ..sum })
    }
}

/// `01-movie`: a name for any file system, and in order.
fn folder_name(number: usize, task: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c.to_ascii_lowercase() } else { '-' };
    let name: String = task.chars().take(LONGEST_NAME).map(safe).collect();
    match name.trim_matches('-') {
        "" => format!("{number:02}-task"),
        name => format!("{number:02}-{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peft::PeftLayer;
    use eblora_core::adapter::{HostFactors, LoraAdapter};
    use eblora_core::faer::{Mat, mat};
    use std::fs;

    fn adapter(size: f32) -> PeftAdapter {
        let lora = LoraAdapter::new(mat![[size, 0.0]], mat![[1.0], [2.0]], 1.0).unwrap();
        let layers = vec![PeftLayer { module: "encoder.layer.0.q".to_owned(), lora }];
        PeftAdapter { layers, ..PeftAdapter::default() }
    }

    fn size(adapter: &PeftAdapter) -> f32 {
        adapter.layers[0].lora.delta()[(0, 0)]
    }

    #[test]
    fn what_was_learnt_adds_up_task_by_task() {
        let folder = tempfile::tempdir().unwrap();
        let mut set = AdapterSet::create(folder.path(), Some("base".to_owned()), Family::Bert).unwrap();
        assert!(matches!(set.position(None), Err(PeftError::NoTask { .. })));
        use After::{Keep, Merge};
        for (i, after) in [Merge, Keep, Keep, Merge, Keep].into_iter().enumerate() {
            set.add(&format!("Task {i}"), after, &adapter(10f32.powi(i as i32))).unwrap();
        }
        let read = AdapterSet::read(folder.path()).unwrap();
        assert_eq!(read, set);
        assert_eq!(read.tasks()[4].folder, "05-task-4");
        let sums = [1.0, 11.0, 101.0, 1001.0, 11001.0];
        for (index, sum) in sums.into_iter().enumerate() {
            let position = read.position(Some(&format!("Task {index}"))).unwrap();
            let total = read.sum(position).unwrap();
            assert_eq!((position, size(&total), total.base_model.as_deref()), (index, sum, Some("base")));
        }
        assert_eq!(read.position(None).unwrap(), 4);
        assert!(read.upto(5).is_empty());
        let message = read.position(Some("task")).unwrap_err().to_string();
        assert!(message.contains("no task `task`; there are: Task 0, Task 1"), "{message}");
    }

    #[test]
    fn a_run_is_written_from_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let sites = [Site { name: "layers.0.q".to_owned(), out: 2, inp: 2, depth: 0 }];
        let factors = |rank, s| HostFactors { site: 0, u: Mat::full(2, rank, 1.0), v: Mat::full(2, rank, 1.0), s };
        let task = |rank, after| LearntTask {
            adapters: HostAdapters { factors: vec![factors(rank, 3.0)], fixed: None },
            after,
        };
        // A layer may have shrunk to rank 0, even the only one.
        let learnt = [task(1, After::Merge), task(0, After::Merge), task(2, After::Merge)];
        let names = ["a", "b", "c"].map(String::from);
        AdapterSet::write_run(folder.path(), None, Family::Vit, &names, &learnt, &sites).unwrap();
        let set = AdapterSet::read(folder.path()).unwrap();
        assert_eq!(set.adapter(&set.tasks()[1]).unwrap().layers, []);
        let sum = set.sum(2).unwrap();
        assert_eq!((size(&sum), sum.layers[0].lora.rank()), (9.0, 3));
        assert_eq!(sum.layers[0].module, "vit.layers.0.attention.q_proj");
        // In memory it is the same, byte for byte.
        let files = AdapterSet::run_files(None, Family::Vit, &names, &learnt, &sites).unwrap();
        for (name, bytes) in &files {
            assert_eq!(&fs::read(folder.path().join(name)).unwrap(), bytes, "{name}");
        }
        assert_eq!(files.len(), 1 + 2 * names.len());
        let memory = AdapterSet::read(Files::new(files).at("")).unwrap();
        assert_eq!(memory.sum(2).unwrap(), sum);
    }

    #[test]
    fn folders_are_safe_on_any_system() {
        for (task, folder) in [
            ("movie", "07-movie"),
            ("CUB-200 / birds", "07-cub-200---birds"),
            ("../../etc", "07-etc"),
            ("日本", "07-task"),
            ("", "07-task"),
        ] {
            assert_eq!(folder_name(7, task), folder);
        }
        assert!(folder_name(123, &"x".repeat(500)).len() < 60);
    }

    #[test]
    fn lists_that_are_none_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let message = |content: &str| {
            fs::write(folder.path().join(SET_FILE), content).unwrap();
            AdapterSet::read(folder.path()).unwrap_err().to_string()
        };
        let list = |version: u32, folder: &str, after: &str| {
            format!(
                r#"{{"format":"eblora.adapters","version":{version},"base":null,"family":"vit",
                "tasks":[{{"name":"a","folder":"{folder}","after":"{after}"}}]}}"#
            )
        };
        assert!(message("{").contains("adapters.json: at `"));
        assert!(message("{}").contains("a file without a format"));
        assert!(message(r#"{"format":"x","version":1}"#).contains("of the format \"x\", where a set of adapters"));
        assert!(message(&list(2, "a", "merge")).contains("format version 2, and this eblora reads 1"));
        assert!(message(&list(1, "../a", "merge")).contains("`../a` is not a plain folder name"));
        assert!(message(&list(1, "a", "drop")).contains("at `tasks[0].after`: unknown variant `drop`"));
        assert!(message(&list(1, "a", "merge").replace("vit", "gpt")).contains("at `family`"));
        fs::remove_file(folder.path().join(SET_FILE)).unwrap();
        assert!(matches!(AdapterSet::read(folder.path()), Err(PeftError::Read { .. })));
        assert!(!AdapterSet::is_in(folder.path()));
    }
}
