//! A Llama and its prompts with answers.

use std::path::{Path, PathBuf};

use eblora_core::backend::Backend;
use eblora_core::model::llama::{Llama, TokenSet, Window};
use eblora_core::model::{ModelError, Samples, Targets};
use eblora_core::train::{Fact, Task};

use super::{Named, Subject};
use crate::model::Family;
use crate::model::llama::{LlamaError, LlamaFolder};

/// A Llama and its prompts. The weights stay in their mapped file: every model takes them from there.
#[derive(Clone, Debug)]
pub struct LlamaSubject {
    path: PathBuf,
    folder: LlamaFolder,
    window: Window,
    targets: Targets,
    checkpointing: bool,
    tasks: Vec<Named<'static, TokenSet>>,
}

/// A folder, or a GGUF file.
///
/// # Errors
/// When it is neither.
pub fn read(path: &Path) -> Result<LlamaFolder, LlamaError> {
    if path.is_dir() { LlamaFolder::read(path) } else { LlamaFolder::read_gguf(path) }
}

impl LlamaSubject {
    /// The model at `path`, as [`read`] gives it; `window` holds every prompt with its answer.
    pub fn new(
        path: &Path,
        folder: LlamaFolder,
        window: Window,
        targets: Targets,
        tasks: Vec<Named<'static, TokenSet>>,
    ) -> Self {
        Self { path: path.to_owned(), folder, window, targets, checkpointing: false, tasks }
    }

    /// With or without gradient checkpointing, see [`Llama::checkpointing`].
    #[must_use]
    pub fn checkpointing(self, on: bool) -> Self {
        Self { checkpointing: on, ..self }
    }
}

impl Subject for LlamaSubject {
    type Samples = TokenSet;
    type Model<B: Backend<Scalar = f32>> = Llama<B>;

    fn family(&self) -> Family {
        Family::Llama
    }

    fn base(&self) -> &str {
        &self.folder.source
    }

    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Llama<B>, ModelError> {
        let LlamaFolder { config, weights, .. } = &self.folder;
        let model = Llama::with_targets(backend, config, self.window, weights.clone(), &self.targets)?;
        Ok(model.checkpointing(self.checkpointing))
    }

    fn tasks(&self) -> Vec<Task<'_, TokenSet>> {
        self.tasks.iter().map(Named::task).collect()
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![Fact::new("base model", base_fact(&self.path))];
        for task in &self.tasks {
            let value = format!("{:08x}, {:08x}", tokens(&task.train), tokens(&task.test));
            facts.push(Fact::new(format!("prompts of {}", task.name), value));
        }
        facts
    }
}

/// Reading gigabytes for a checksum would cost more than it tells: the size of the files does.
fn base_fact(path: &Path) -> String {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    let bytes: u64 = match std::fs::read_dir(path) {
        Err(_) => size(path),
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
            .map(|path| size(&path))
            .sum(),
    };
    format!("{bytes} bytes of weights")
}

/// CRC-32 of all tokens, which of them are answers, and the choices.
fn tokens(set: &TokenSet) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut add = |tokens: &[u32]| {
        hasher.update(&(tokens.len() as u32).to_le_bytes());
        tokens.iter().for_each(|token| hasher.update(&token.to_le_bytes()));
    };
    for i in 0..set.len() {
        add(set.tokens(i));
        let answer: Vec<u32> = set.answer(i).iter().map(|&a| u32::from(a)).collect();
        add(&answer);
    }
    set.choices().iter().flat_map(|choices| &choices.answers).for_each(|answer| add(answer));
    hasher.finalize()
}
