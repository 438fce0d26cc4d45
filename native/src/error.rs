//! Everything that can go wrong, in one type.

use eblora_gpu::GpuError;
use thiserror::Error;

#[cfg(feature = "cli")]
use crate::bench::BenchError;
use crate::checkpoint::CheckpointError;
#[cfg(feature = "cli")]
use crate::config;
use crate::data::DataError;
use crate::demo::DemoError;
#[cfg(feature = "cli")]
use crate::experiment::ExperimentError;
use crate::formats::atomic::WriteError;
use crate::formats::gguf::GgufError;
use crate::formats::idx::IdxError;
use crate::formats::safetensors::SafetensorsError;
#[cfg(feature = "cli")]
use crate::hub::HubError;
use crate::model::bert_folder::BertError;
use crate::model::llama::LlamaError;
#[cfg(feature = "cli")]
use crate::model::llama_tokenizer;
#[cfg(feature = "cli")]
use crate::model::tokenizer::TokenizerError;
use crate::model::vit_config::ConfigError;
use crate::model::vit_folder::VitError;
use crate::peft::PeftError;
use crate::report::result::ResultError;
use crate::report::summary::SummaryError;
use crate::run::RunError;
#[cfg(feature = "cli")]
use crate::serve::ServeError;

/// Any failure of this crate; each message says what was wrong and where.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An idx file.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// A safetensors file.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A model by name.
    #[cfg(feature = "cli")]
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A user's data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model's config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder of a vision transformer.
    #[error(transparent)]
    Vit(#[from] VitError),
    /// The folder of a BERT encoder.
    #[error(transparent)]
    Bert(#[from] BertError),
    /// A tokenizer, or a text for it.
    #[cfg(feature = "cli")]
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A file or folder to write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A `result.json`.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// A GPU.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An adapter in files.
    #[error(transparent)]
    Peft(#[from] PeftError),
    /// The benchmark.
    #[cfg(feature = "cli")]
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A summary.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// A Llama.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// A Llama's tokenizer.
    #[cfg(feature = "cli")]
    #[error(transparent)]
    LlamaTokenizer(#[from] llama_tokenizer::TokenizerError),
    /// A GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A run.
    #[error(transparent)]
    Run(Box<RunError>),
    /// The config of a run.
    #[cfg(feature = "cli")]
    #[error(transparent)]
    RunConfig(#[from] config::ConfigError),
    /// An experiment.
    #[cfg(feature = "cli")]
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The page's server.
    #[cfg(feature = "cli")]
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The demo's settings, or the demo itself.
    #[error(transparent)]
    Demo(#[from] DemoError),
}

// Boxed: it is large, and every function's result would be with it.
impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}
