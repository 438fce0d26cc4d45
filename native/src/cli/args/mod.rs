//! The verbs and flags.

mod run;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::BenchConfig;
use crate::demo::{DemoConfig, GradientAt, Rates, Split};
use crate::device::Device;
use crate::experiment::Experiment;
use crate::run::{MOST_THREADS, MethodName, Start};

pub use run::{CheckArgs, ConfigArgs, EvalArgs, InitArgs, LearntArgs, PredictArgs, TrainArgs};

/// Continual low-rank adaptation that does not forget. Without a verb: the demo.
#[derive(Debug, Parser)]
#[command(name = "eblora", version, about, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Option<Verb>,
    #[command(flatten)]
    pub demo: DemoArgs,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Take a vision transformer through five tasks, with and without EBLoRA, and report what it remembers.
    Demo(DemoArgs),
    /// Write a commented config to begin with.
    Init(InitArgs),
    /// Read a config with its model and data, and say what is wrong, without training.
    Check(CheckArgs),
    /// Train the tasks of a config, one after the other, by each of its methods.
    Train(TrainArgs),
    /// Measure a run's model after a task.
    Eval(EvalArgs),
    /// Ask a run's model after a task: texts or images in, labels or answers out.
    Predict(PredictArgs),
    /// Time the training step of LoRA and EBLoRA on this machine.
    Bench(BenchArgs),
    /// List what there is to compute on, with drivers, limits and features.
    Devices(DevicesArgs),
    /// Make table, page and picture again from a result.json.
    Report(ReportArgs),
    /// Show the spectra, norms and orthonormality of adapters: a PEFT LoRA folder, or a run's folder of them.
    Inspect(InspectArgs),
    /// Add up PEFT LoRA folders, weighted and perhaps smoothed, into one.
    Merge(MergeArgs),
    /// Write what a run has learnt for stock PEFT, or as a whole model with the adapters merged into its weights.
    Export(ExportArgs),
    /// Test a claim of the paper on real models and data.
    Experiment(ExperimentArgs),
    /// Serve the page that teaches a model in the browser, to this machine.
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// Which claim.
    #[arg(value_enum)]
    pub name: Experiment,
    /// Take model, tasks, budget and methods from this config instead of the bundled sequence.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Seeds to run.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0,1,2")]
    pub seeds: Vec<u64>,
    /// Folder for NAME.json and NAME.html.
    #[arg(long, value_name = "DIR", default_value = "eblora-experiments")]
    pub out: PathBuf,
    /// A fraction of everything, for a first look: its verdict is not to be relied on.
    #[arg(long)]
    pub quick: bool,
    /// Threads; default: as many as the machine has.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Where to compute, as for the demo.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// No progress on standard error.
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The page's folder, as `cargo xtask web` builds it.
    #[arg(default_value = "target/web")]
    pub folder: PathBuf,
    /// Port to listen on; 0: a free one.
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// Address to listen on; 0.0.0.0 lets other machines in.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A PEFT folder, or a folder with an adapters.json.
    pub folder: PathBuf,
    /// Write the figures as JSON to this file; `-`: to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// PEFT folders.
    #[arg(required = true, value_name = "ADAPTER")]
    pub adapters: Vec<PathBuf>,
    /// A weight for each; default: 1.
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_hyphen_values = true, value_parser = finite)]
    pub weights: Vec<f32>,
    /// Make the singular values of each layer's update equal first, at their mean or at equal Frobenius norm.
    #[arg(long, value_enum, default_value_t)]
    pub smooth: Smooth,
    /// Folder for the result: a new or empty one.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What updates are made like before they are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Smooth {
    /// They stay as they are.
    #[default]
    None,
    /// All singular values at their mean.
    Mean,
    /// All singular values equal, and the Frobenius norm as before.
    Frobenius,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Folders with an adapters.json, or PEFT folders; of several the sum is taken.
    #[arg(required = true, value_name = "SET_OR_ADAPTER")]
    pub sources: Vec<PathBuf>,
    /// What to write.
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// The task after which the model is wanted; default: the last one.
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Hugging Face folder, or GGUF file, of the base model; default for merged: the one that the adapters name.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Folder for the result: a new or empty one.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One PEFT folder; with --base, under the names of the base's modules.
    Peft,
    /// The base's whole folder, with the adapters added to its weights; of a GGUF file, one with its weights unpacked.
    Merged,
}

/// What to do with a run that is there already.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Go on with the run that was stopped or broke off; the settings must be the same, the device need not.
    #[arg(long, conflicts_with = "restart")]
    resume: bool,
    /// Discard the run that is there, and start anew.
    #[arg(long)]
    restart: bool,
}

impl StartArgs {
    /// What these flags mean.
    pub fn start(&self) -> Start {
        match (self.resume, self.restart) {
            (true, _) => Start::Resume,
            (_, true) => Start::Restart,
            _ => Start::Anew,
        }
    }
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Devices to measure, as for --device of the demo; default: the CPU and every adapter.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub device: Vec<Device>,
    /// Numbers of threads to measure the CPU with.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2", value_parser = threads)]
    pub threads: Vec<usize>,
    /// Only the figures whose names begin so, such as matmul or vit_step/eblora.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Runs of each figure.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    pub repeats: usize,
    /// Seconds after which a figure is content with fewer runs, at least three.
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = positive)]
    pub patience: f64,
    /// Write the figures as JSON to this file; `-`: to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long, short)]
    pub quiet: bool,
}

impl BenchArgs {
    /// The settings that these flags mean.
    pub fn config(&self) -> BenchConfig {
        BenchConfig {
            devices: self.device.clone(),
            threads: self.threads.clone(),
            repeats: self.repeats,
            // Longer than a day is for ever.
            patience: Duration::from_secs_f64(self.patience.min(86_400.0)),
            only: self.only.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// Also have each driver compile every kernel; fails where one is refused.
    #[arg(long, conflicts_with = "json")]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The result.json of a run, or the folder of one with several seeds.
    pub result: PathBuf,
    /// Write means and deviations over the seeds as a Markdown table to this file; `-`: to standard output.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Folder for report.html and forgetting.svg; default: beside the result.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for report.html, result.json and forgetting.svg; made where it is missing.
    #[arg(long, value_name = "DIR", default_value = "eblora-demo")]
    pub out: PathBuf,
    /// Seed of data order, sketches and initialisation.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Methods to compare, in this order.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "lora-ft,ebo,eblora")]
    pub methods: Vec<MethodName>,
    /// Rank of every method's adapters; default: each method's own, 8 for most and 32 for eblora-plus and keeplora.
    #[arg(long, value_name = "R", value_parser = at_least_one)]
    pub rank: Option<usize>,
    /// Share of the gradient's energy that the protected subspace keeps, 0 < E ≤ 1.
    #[arg(long, value_name = "E", default_value_t = DemoConfig::default().epsilon, value_parser = share)]
    pub epsilon: f64,
    /// Most directions that the protected subspace keeps a layer; default: no bound.
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    pub budget: Option<usize>,
    /// Training steps per task.
    #[arg(long, value_name = "N", default_value_t = DemoConfig::default().steps, value_parser = at_least_one)]
    pub steps: usize,
    /// Threads; default: as many as the machine has.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Model at which gradients for initialisation and subspace are taken.
    #[arg(long, value_enum, default_value_t)]
    pub gradient_at: GradientAt,
    /// Hugging Face ViT folder to start from instead of the bundled base.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Images that accuracies are measured on.
    #[arg(long, value_enum, default_value_t)]
    pub split: Split,
    /// Measure on the first N images of each task only: quicker, and less exact.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub test_images: Option<usize>,
    /// Learning rate of LoRA's factors instead of the default.
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub lora_rate: Option<f64>,
    /// Learning rate of the magnitude s instead of the default.
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub s_rate: Option<f64>,
    /// Relative step of U and V at the peak of the schedule instead of the default.
    #[arg(long, value_name = "STEP", value_parser = positive)]
    pub relative_step: Option<f64>,
    /// Where to compute: cpu, gpu, gpu:N by the numbers of `eblora devices`, or a part of an adapter's name.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Device,
    /// Steps between two checkpoints within a task; 0: only at the end of each. They are in DIR/checkpoints until the run
    /// has finished.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub checkpoint_every: usize,
    #[command(flatten)]
    pub start: StartArgs,
    /// No progress on standard error.
    #[arg(long, short)]
    pub quiet: bool,
}

impl DemoArgs {
    /// The settings that these flags mean.
    pub fn config(&self) -> DemoConfig {
        let default = DemoConfig::default();
        DemoConfig {
            seed: self.seed,
            methods: self.methods.clone(),
            rank: self.rank,
            epsilon: self.epsilon,
            budget: self.budget,
            steps: self.steps,
            threads: self.threads.unwrap_or(default.threads),
            gradient_at: self.gradient_at,
            split: self.split,
            test_images: self.test_images,
            rates: Rates { lora: self.lora_rate, s: self.s_rate, relative_step: self.relative_step },
            device: self.device.clone(),
            ..default
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 on is expected".to_owned()),
        Ok(n) => Ok(n),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=MOST_THREADS).contains(n))
        .ok_or(format!("a whole number from 1 to {MOST_THREADS} is expected"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|e: &f64| *e > 0.0 && *e <= 1.0);
    share.ok_or("a number above 0 and at most 1 is expected".to_owned())
}

fn finite(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x: &f32| x.is_finite()).ok_or("a finite number is expected".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|r: &f64| r.is_finite() && *r > 0.0);
    rate.ok_or("a number above 0 is expected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_flags_mean_the_default_settings_with_or_without_the_verb() {
        assert_eq!(Cli::parse_from(["eblora"]).demo.config(), DemoConfig::default());
        let Some(Verb::Demo(args)) = Cli::parse_from(["eblora", "demo"]).verb else { panic!("no demo") };
        assert_eq!((args.config(), args.start.start()), (DemoConfig::default(), Start::Anew));
        assert_eq!(Cli::parse_from(["eblora", "--restart"]).demo.start.start(), Start::Restart);
        assert!(Cli::try_parse_from(["eblora", "--restart", "--resume"]).is_err());
    }

    #[test]
    fn every_flag_reaches_the_settings() {
        let line = "eblora --seed 7 --methods eblora,ebo --rank 4 --epsilon 0.9 --budget 24 --steps 3 --threads 2 \
                    --gradient-at base --split validation --lora-rate 1e-3 --s-rate 2e-3 --relative-step 0.2 --device gpu:1 \
                    --test-images 50 --checkpoint-every 7 --resume";
        let args = Cli::parse_from(line.split_whitespace()).demo;
        assert_eq!((args.checkpoint_every, args.start.start()), (7, Start::Resume));
        let config = args.config();
        let expected = DemoConfig {
            seed: 7,
            methods: vec![MethodName::Eblora, MethodName::Ebo],
            rank: Some(4),
            epsilon: 0.9,
            budget: Some(24),
            steps: 3,
            threads: 2,
            gradient_at: GradientAt::Base,
            split: Split::Validation,
            test_images: Some(50),
            rates: Rates { lora: Some(1e-3), s: Some(2e-3), relative_step: Some(0.2) },
            device: Device::Gpu(eblora_gpu::Wanted::Index(1)),
            ..DemoConfig::default()
        };
        assert_eq!(config, expected);
    }
}
