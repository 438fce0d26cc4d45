//! The flags of runs that a config describes.

use std::path::PathBuf;

use clap::Args;

use super::{StartArgs, at_least_one, threads};
use crate::config::Override;
use crate::device::Device;
use crate::model::Family;

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to write.
    #[arg(default_value = "eblora.toml")]
    pub file: PathBuf,
    /// Kind of model.
    #[arg(long, value_enum, default_value = "bert")]
    pub family: Family,
    /// The base model: a folder, a GGUF file, or OWNER/NAME on a model hub.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The config.
    pub config: PathBuf,
    /// Changes of the config, such as train.steps=50, method.0.rank=4 or seeds=[0,1].
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<Override>,
    /// The base model in place of the config's: a folder, a GGUF file, or OWNER/NAME on a model hub.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub start: StartArgs,
    /// No progress on standard error.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Which model of a run.
#[derive(Debug, Args)]
pub struct LearntArgs {
    /// The folder of a run (of one seed).
    pub run: PathBuf,
    /// The method, where the run has several.
    #[arg(long, value_name = "LABEL")]
    pub method: Option<String>,
    /// The model after this task; default: after the last one.
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// The base model, before any task.
    #[arg(long)]
    pub base: bool,
    /// Where to compute; default: as the run.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Threads; default: as the run.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub learnt: LearntArgs,
    /// Measure on this task only.
    #[arg(long, value_name = "NAME")]
    pub on: Option<String>,
    /// Measure on the first N samples of each task only.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub test_samples: Option<usize>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    #[command(flatten)]
    pub learnt: LearntArgs,
    /// Texts, or paths of images; `-`: a line of standard input each.
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// Answers to tell of each.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub top: usize,
    /// As JSON, a line each.
    #[arg(long)]
    pub json: bool,
}
