//! Everything that can go wrong, in one type.

use eblora_gpu::GpuError;
use thiserror::Error;

use crate::bench::BenchError;
use crate::checkpoint::CheckpointError;
use crate::config;
use crate::data::DataError;
use crate::demo::DemoError;
use crate::experiment::ExperimentError;
use crate::formats::atomic::WriteError;
use crate::formats::gguf::GgufError;
use crate::formats::idx::IdxError;
use crate::formats::safetensors::SafetensorsError;
use crate::hub::HubError;
use crate::model::bert_folder::BertError;
use crate::model::llama::LlamaError;
use crate::model::llama_tokenizer;
use crate::model::tokenizer::TokenizerError;
use crate::model::vit_config::ConfigError;
use crate::model::vit_folder::VitError;
use crate::peft::PeftError;
use crate::report::result::ResultError;
use crate::report::summary::SummaryError;
use crate::run::RunError;
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
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A summary.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// A Llama.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// A Llama's tokenizer.
    #[error(transparent)]
    LlamaTokenizer(#[from] llama_tokenizer::TokenizerError),
    /// A GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A run.
    #[error(transparent)]
    Run(Box<RunError>),
    /// The config of a run.
    #[error(transparent)]
    RunConfig(#[from] config::ConfigError),
    /// An experiment.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The page's server.
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
