//! What can go wrong with adapters in files.

use std::io;
use std::path::PathBuf;

use eblora_core::adapter::AdapterError;
use thiserror::Error;

use super::folder::{CONFIG_FILE, TENSOR_FILE};
use super::set::{SET_FILE, SET_VERSION};
use crate::formats::atomic::WriteError;
use crate::formats::safetensors::SafetensorsError;

/// Why an adapter could not be read, written or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeftError {
    /// The system refused.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file or folder.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder holds no adapter.
    #[error("{}: no {CONFIG_FILE} is there{hint}", .folder.display())]
    NoAdapter {
        /// The folder.
        folder: PathBuf,
        /// What to do where that can be guessed; starts with "; ".
        hint: &'static str,
    },
    /// The folder holds a config, but no tensors.
    #[error("{}: no {TENSOR_FILE} is there{hint}", .folder.display())]
    NoTensors {
        /// The folder.
        folder: PathBuf,
        /// What to do where that can be guessed; starts with "; ".
        hint: &'static str,
    },
    /// Not JSON, or a key of the wrong type.
    #[error("{}: at `{path}`: {reason}", .file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// The key.
        path: String,
        /// What the parser says.
        reason: String,
    },
    /// A key of the config that is missing, or asks for what can't be done.
    #[error("{}: `{key}`: {reason}", .file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The tensors can't be read.
    #[error(transparent)]
    Tensors(#[from] SafetensorsError),
    /// A tensor that is no factor of a linear layer's LoRA.
    #[error("{}: tensor `{key}`: {reason}", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The tensor.
        key: String,
        /// What it is, as far as known.
        reason: String,
    },
    /// One factor without the other.
    #[error("{}: `{key}` is there, but no {missing} of `{module}`: half of a pair; save the adapter again", .file.display())]
    HalfPair {
        /// The file.
        file: PathBuf,
        /// The tensor that is there.
        key: String,
        /// The factor that isn't: `lora_A` or `lora_B`.
        missing: &'static str,
        /// The layer.
        module: String,
    },
    /// Factors that can't be multiplied.
    #[error(
        "{}: `{module}`: lora_A is {a:?} and lora_B is {b:?}, where [r, in] and [out, r] with one r are due",
        .file.display()
    )]
    Factors {
        /// The file.
        file: PathBuf,
        /// The layer.
        module: String,
        /// Shape of A.
        a: Vec<usize>,
        /// Shape of B.
        b: Vec<usize>,
    },
    /// Factors of another rank than the config says: the scale `lora_alpha / r` would be a guess.
    #[error("{}: `{module}` has rank {found}, but {CONFIG_FILE} says {due} (`r` or `rank_pattern`)", .file.display())]
    Rank {
        /// The file.
        file: PathBuf,
        /// The layer.
        module: String,
        /// The rank of its factors.
        found: usize,
        /// That of the config.
        due: usize,
    },
    /// A file without any layer.
    #[error("{}: no LoRA layer is in it, though the config has `target_modules`", .file.display())]
    NoLayers {
        /// The file.
        file: PathBuf,
    },
    /// Nothing is left that could be written or used.
    #[error("{what}: the adapter has no layer of rank 1 or more, so that it changes nothing and PEFT can't load it")]
    Empty {
        /// Which adapter.
        what: String,
    },
    /// A layer that the model doesn't have.
    #[error("{place}: nothing is called `{module}` there; an example of what is: `{example}`")]
    NoModule {
        /// The model.
        place: String,
        /// The adapter's name of the layer.
        module: String,
        /// A name that would fit.
        example: String,
    },
    /// A name that could mean several layers.
    #[error("{place}: `{module}` could be `{first}` or `{second}`; give the adapter's layers their full names")]
    Ambiguous {
        /// The model.
        place: String,
        /// The adapter's name of the layer.
        module: String,
        /// One of those it could be.
        first: String,
        /// Another one.
        second: String,
    },
    /// Two names for one layer.
    #[error("{place}: `{first}` and `{second}` both mean `{target}`")]
    Twice {
        /// The model or adapter.
        place: String,
        /// One name.
        first: String,
        /// The other one.
        second: String,
        /// The layer.
        target: String,
    },
    /// A layer of another size.
    #[error("{place}: the update of `{module}` is {}x{}, but the layer is {}x{}: the adapter of another model", .found.0, .found.1, .due.0, .due.1)]
    Misfit {
        /// The model.
        place: String,
        /// The layer.
        module: String,
        /// Outputs and inputs of the adapter.
        found: (usize, usize),
        /// Outputs and inputs of the layer.
        due: (usize, usize),
    },
    /// A site that the model doesn't have.
    #[error("an adapter for site {site} of a model that has {sites}")]
    Site {
        /// The site.
        site: usize,
        /// How many there are.
        sites: usize,
    },
    /// A layer's factors can't be used.
    #[error("`{module}`: {source}")]
    Layer {
        /// The layer.
        module: String,
        /// Why.
        source: AdapterError,
    },
    /// Adapters of models that have nothing in common.
    #[error(
        "one adapter is for the base `{first}`, another one for `{second}`, and they have no layer in common: only \
         adapters of one model add up; if these are one, write the same `base_model_name_or_path` into \
         each {CONFIG_FILE}"
    )]
    OtherBase {
        /// The base that one of them names.
        first: String,
        /// That of another one.
        second: String,
    },
    /// Nothing was given, or not one weight for each adapter.
    #[error("{adapters} adapters and {weights} weights: there must be at least one adapter, and a weight for each")]
    Count {
        /// The adapters.
        adapters: usize,
        /// The weights.
        weights: usize,
    },
    /// A set of adapters that is none.
    #[error("{}: {reason}", .file.display())]
    Set {
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A set of a later version.
    #[error(
        "{}: a set of format version {version}, and this eblora reads {SET_VERSION}: use the eblora that wrote it",
        .file.display()
    )]
    Newer {
        /// Its file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A task that the set doesn't have.
    #[error("{}: no task `{task}`; there are: {known}", .folder.display())]
    NoTask {
        /// The set's folder.
        folder: PathBuf,
        /// The task.
        task: String,
        /// Those it has.
        known: String,
    },
    /// A task was asked for where there is no set.
    #[error("--task {task}: none of the folders is a set of adapters with a {SET_FILE}")]
    TaskOfNoSet {
        /// The task.
        task: String,
    },
    /// The place of the result is taken.
    #[error("{}: the folder is not empty; choose a new one", .folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Content that no file can hold.
    #[error("{}: cannot be written: {reason}", .file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The base model is needed and not known.
    #[error("{what}: the base model is needed: say where its Hugging Face folder is with --base DIR")]
    NoBase {
        /// What is known instead.
        what: String,
    },
    /// A sum that the base's own number type can't hold.
    #[error("{}: tensor `{tensor}` with the update added is not finite in {dtype}: save the base in a wider type first", .file.display())]
    Overflow {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
}
