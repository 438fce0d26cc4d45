//! Adapters out of a learner and into one, in PEFT's layout.

use std::path::{Path, PathBuf};

use eblora::formats::files::Files;
use eblora::model::Family;
use eblora::peft::folder::CONFIG_FILE;
use eblora::peft::set::SET_FILE;
use eblora::peft::{AdapterSet, PeftAdapter};
use eblora_core::method::After;
use eblora_core::model::Site;
use eblora_core::train::LearntTask;

use crate::base::Base;
use crate::error::{Result, WebError};
use crate::learner::{Imported, Learner};

/// A file on its way to JavaScript.
pub type NamedBytes = (String, Vec<u8>);

/// What a learner has learnt, one folder a task: what was imported first, then the tasks that have ended.
///
/// # Errors
/// When nothing is learnt yet, or an adapter can't be written.
pub fn export(learner: &Learner, base: &Base) -> Result<Vec<NamedBytes>> {
    let (mut names, mut learnt) = imported(learner);
    if let Some(state) = learner.course.state.borrow().as_ref() {
        names.extend(learner.tasks.borrow().iter().map(|task| task.task.name.clone()));
        learnt.extend(state.learnt.iter().cloned());
    }
    if learnt.is_empty() {
        return Err(WebError::input("this learner has learnt no task yet: there is no adapter"));
    }
    Ok(AdapterSet::run_files(Some(base.folder.source.clone()), Family::Vit, &names, &learnt, &base.sites())?)
}

/// The names and adapters of what was imported.
pub fn imported(learner: &Learner) -> (Vec<String>, Vec<LearntTask<f32>>) {
    let imported = learner.imported.borrow();
    let learnt = |imported: &Imported| LearntTask { adapters: imported.adapters.clone(), after: After::Merge };
    (imported.iter().map(|imported| imported.name.clone()).collect(), imported.iter().map(learnt).collect())
}

/// Reads all adapters among files: sets of ours, and PEFT folders beside them.
///
/// # Errors
/// When there is none, or one can't be used on the base.
pub fn read(files: &Files, base: &Base) -> Result<Vec<Imported>> {
    let folders_of = |name: &str| -> Vec<PathBuf> {
        let found = files.paths().filter(|path| path.file_name().is_some_and(|file| file == name));
        found.map(|path| path.parent().unwrap_or(Path::new("")).to_owned()).collect()
    };
    let (sets, sites) = (folders_of(SET_FILE), base.sites());
    let mut all = Vec::new();
    for folder in &sets {
        let set = AdapterSet::read(files.at(folder))?;
        if set.family != Family::Vit {
            return Err(WebError::input(format!("{}: adapters of another kind of model", folder.display())));
        }
        for task in set.upto(set.tasks().len().saturating_sub(1)) {
            all.push(onto(&task.name, &set.adapter(task)?, &sites)?);
        }
    }
    let alone = folders_of(CONFIG_FILE).into_iter().filter(|folder| {
        let around = folder.parent().unwrap_or(Path::new(""));
        !sets.iter().any(|set| set == around)
    });
    for folder in alone {
        let name = folder.file_name().map_or_else(|| "adapter".to_owned(), |name| name.to_string_lossy().into_owned());
        all.push(onto(&name, &PeftAdapter::read(files.at(&folder))?, &sites)?);
    }
    if all.is_empty() {
        return Err(WebError::input(format!("no adapter is among the files: neither {SET_FILE} nor {CONFIG_FILE}")));
    }
    Ok(all)
}

fn onto(name: &str, adapter: &PeftAdapter, sites: &[Site]) -> Result<Imported> {
    Ok(Imported { name: name.to_owned(), adapters: adapter.to_host(sites)? })
}
