//! The tiny models of `tests/fixtures` with a PEFT adapter: what our own forward pass makes of it.

use std::fs;
use std::path::{Path, PathBuf};

use eblora::model::bert_folder::BertFolder;
use eblora::model::llama::LlamaFolder;
use eblora::model::vit::{config, weights};
use eblora::model::vit_folder::VitFolder;
use eblora::peft::PeftAdapter;
use eblora_core::backend::{Backend, Cpu};
use eblora_core::model::bert::{Bert, Encoder, EncoderOptions, Head, TextSet};
use eblora_core::model::llama::{Llama, TokenSet};
use eblora_core::model::vit::Vit;
use eblora_core::model::{Model, Site};
use pollster::block_on;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// A file of the folder of references.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures")).join(name)
}

/// Inputs of a model, and the logits that are due.
#[derive(Clone)]
pub struct Case {
    pub bytes: Vec<u8>,
    pub logits: Vec<f32>,
}

impl Case {
    pub fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let case = Self { bytes, logits: Vec::new() };
        Self { logits: case.floats("logits"), ..case }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let stored = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = stored.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn numbers(&self, name: &str) -> Vec<u32> {
        let stored = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = stored.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::I64, "{name}");
        tensor.data().as_chunks::<8>().0.iter().map(|b| u32::try_from(i64::from_le_bytes(*b)).unwrap()).collect()
    }

    /// The sequences of a batch without what fills them up.
    fn sequences(&self) -> Vec<Vec<u32>> {
        let (ids, lengths) = (self.numbers("ids"), self.numbers("lengths"));
        let longest = ids.len() / lengths.len();
        ids.chunks(longest).zip(lengths).map(|(row, length)| row[..length as usize].to_vec()).collect()
    }
}

/// How a model comes to its adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Attached,
    Merged,
}

/// Logits and their number of rows of one of our models; `adapter` makes its adapter for the model's sites.
pub fn logits_with(
    family: &str,
    base: &Path,
    case: &Case,
    how: How,
    adapter: impl FnOnce(&[Site]) -> Option<PeftAdapter>,
) -> (Vec<f32>, usize) {
    let cpu = Cpu::<f32>::new();
    match family {
        "vit" => {
            let folder = VitFolder::read(base).unwrap();
            let model = Vit::new(&cpu, &config(&folder), &weights(&folder)).unwrap();
            let pixels = case.floats("pixels");
            let shape = &folder.config;
            let batch = pixels.len() / (shape.num_channels * shape.image_size * shape.image_size);
            let load = |model: &Vit<_>, work: &mut _| {
                model.load_normalized(&cpu, work, &pixels, &vec![0; batch]).unwrap();
            };
            pass(&cpu, model, batch, batch, load, how, adapter)
        }
        "bert" => {
            let folder = BertFolder::read(base).unwrap();
            let d = folder.config.hidden;
            let encoder = Encoder::new(&cpu, &folder.config, &folder.weights, &EncoderOptions::new(12)).unwrap();
            // With the identity as its head the logits are the mean states.
            let identity = (0..d * d).map(|i| if i % (d + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let model = Bert::new(&cpu, encoder, &Head::Linear { weight: identity, bias: None }).unwrap();
            let mut texts = TextSet::new();
            case.sequences().iter().for_each(|ids| texts.push(ids, 0));
            let (batch, all) = (texts.len(), (0..texts.len()).collect::<Vec<_>>());
            let load = |model: &Bert<_>, work: &mut _| model.load(&cpu, work, &texts, &all).unwrap();
            pass(&cpu, model, batch, batch, load, how, adapter)
        }
        _ => {
            let folder = LlamaFolder::read(base).unwrap();
            let mut set = TokenSet::new();
            let sequences = case.sequences();
            for tokens in &sequences {
                set.push(tokens, &(0..tokens.len()).map(|i| i > 0).collect::<Vec<_>>()).unwrap();
            }
            let model = Llama::new(&cpu, &folder.config, set.window(), folder.weights).unwrap();
            let (rows, all) = (sequences.iter().map(|s| s.len() - 1).sum(), (0..sequences.len()).collect::<Vec<_>>());
            let load = |model: &Llama<_>, work: &mut _| model.load(&cpu, work, &set, &all).unwrap();
            pass(&cpu, model, sequences.len(), rows, load, how, adapter)
        }
    }
}

fn pass<M: Model<Cpu<f32>>>(
    cpu: &Cpu<f32>,
    mut model: M,
    batch: usize,
    rows: usize,
    load: impl Fn(&M, &mut M::Workspace),
    how: How,
    adapter: impl FnOnce(&[Site]) -> Option<PeftAdapter>,
) -> (Vec<f32>, usize) {
    let sites = model.sites().to_vec();
    let host = adapter(&sites).map(|adapter| adapter.to_host(&sites).unwrap());
    let mut adapters = host.map(|host| host.upload(cpu, sites.len()).unwrap());
    if how == How::Merged
        && let Some(merged) = adapters.take()
    {
        model.merge(cpu, &merged).unwrap();
    }
    let mut work = model.workspace(cpu, batch).unwrap();
    if let Some(adapters) = &adapters {
        model.attach(cpu, &mut work, adapters).unwrap();
    }
    load(&model, &mut work);
    model.forward(cpu, &mut work, adapters.as_ref());
    let mut logits = block_on(cpu.read(model.logits(&work))).unwrap();
    logits.truncate(rows * model.classes());
    (logits, rows)
}

/// The largest difference, relative to the largest value due.
pub fn difference(got: &[f32], due: &[f32]) -> f32 {
    assert_eq!(got.len(), due.len());
    assert!(got.iter().all(|x| x.is_finite()));
    let largest = due.iter().fold(0f32, |m, x| m.max(x.abs()));
    got.iter().zip(due).fold(0f32, |m, (x, y)| m.max((x - y).abs())) / largest
}
