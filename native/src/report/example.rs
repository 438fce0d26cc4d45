//! An invented result for tests: shaped like a real one, but every number is made up.

use eblora_core::random::Random;

use super::result::{LossPoint, MethodResult, RunConfig, RunResult, SCHEMA, Spectrum, SubspaceSize, VERSION};
use crate::data::mix;
use crate::model::Family;
use crate::model::vit_names::Site;

const STEPS: usize = 150;
const RANK: usize = 8;

/// Three methods over the five tasks.
pub fn result() -> RunResult {
    RunResult {
        schema: SCHEMA.to_owned(),
        version: VERSION,
        eblora_version: "0.0.0-invented".to_owned(),
        seed: 0,
        device: "cpu".to_owned(),
        threads: 2,
        platform: "linux x86_64, 2 cores".to_owned(),
        config: RunConfig {
            base: "bundled".to_owned(),
            family: Family::Vit,
            steps: STEPS,
            batch: 32,
            gradient_at: "merged".to_owned(),
            split: "test".to_owned(),
            train_samples: 3000,
            measured_samples: 1000,
            resolved: None,
        },
        facts: [("base model".to_owned(), "one of checksum 00000000".to_owned())].into(),
        tasks: mix::NAMES.map(str::to_owned).to_vec(),
        methods: vec![method("lora-ft", 0.45, 0.75), method("ebo", 0.62, 0.0), method("eblora", 0.95, 0.0)],
    }
}

/// `keep` is the share of a task's gain that survives each later task, `slope` how fast the spectrum falls.
fn method(name: &str, keep: f64, slope: f64) -> MethodResult {
    let mut noise = Random::new(1, name);
    let zero_shot = [2.1, 22.4, 3.0, 31.5, 12.2].to_vec();
    let best = [78.4, 92.1, 77.0, 93.5, 84.9];
    let accuracy: Vec<Vec<f64>> = (0..5)
        .map(|i| {
            let after = |j: usize| {
                let share = if j <= i { keep.powi((i - j) as i32) } else { 0.1 };
                (zero_shot[j] + (best[j] - zero_shot[j]) * share + noise.normal()).clamp(0.0, 100.0)
            };
            (0..5).map(after).collect()
        })
        .collect();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let seen = |i: usize| mean(accuracy[i][..=i].to_vec());
    let upper = |j: usize| (0..j).map(|i| accuracy[i][j]).collect::<Vec<_>>();
    let has_subspace = name == "eblora";
    let masked = |a: &f64| (a + 5.0).min(100.0);
    MethodResult {
        name: name.to_owned(),
        method: name.to_owned(),
        settings: [("rank".to_owned(), RANK.to_string())].into(),
        learning_rates: [("s".to_owned(), 3e-3), ("relative_step".to_owned(), 0.1)].into(),
        trainable_parameters: 46_104,
        stored: Some(if name == "eblora" { 110_900 } else { 0 }),
        masked_accuracy: Some(accuracy.iter().map(|row| row.iter().map(masked).collect()).collect()),
        mft: mean((0..5).map(|j| accuracy[j][j]).collect()),
        mfn: mean(accuracy[4].clone()),
        maa: mean((0..5).map(seen).collect()),
        bwt: mean((0..4).map(|j| accuracy[4][j] - accuracy[j][j]).collect()),
        fwt_mtil: mean((1..5).map(|j| mean(upper(j))).collect()),
        fwt_cells: mean((1..5).flat_map(upper).collect()),
        spectra: spectra(slope),
        subspace: if has_subspace { subspace() } else { Vec::new() },
        loss: (0..5)
            .flat_map(|task| {
                (10..=STEPS).step_by(10).map(move |step| LossPoint {
                    task,
                    step,
                    loss: 2.0 * (-(step as f64) / 40.0).exp(),
                })
            })
            .collect(),
        orthonormality_error: (slope == 0.0).then_some(4.2e-7),
        subspace_leak: has_subspace.then_some(3.1e-8),
        seconds: 14.25,
        peak_memory_bytes: Some(91 << 20),
        zero_shot,
        accuracy,
    }
}

fn sites() -> impl Iterator<Item = (usize, Site)> {
    (0..4).flat_map(|layer| Site::ALL.map(|site| (layer, site)))
}

fn spectra(slope: f64) -> Vec<Spectrum> {
    let mut all = Vec::new();
    for task in 0..5 {
        for step in [0, 5, 15, 30, 60, 100, STEPS] {
            for (layer, site) in sites() {
                let collapse = slope * (1.0 - (-(step as f64) / 15.0).exp()) * (1.0 + 0.05 * layer as f64);
                let zero = slope > 0.0 && step == 0; // LoRA's B starts at zero
                let sigma: Vec<f64> = (0..RANK)
                    .map(|i| if zero { 0.0 } else { (-collapse * i as f64).exp() * (0.002 + 1e-4 * step as f64) })
                    .collect();
                all.push(spectrum(task, step, site.name(layer), sigma));
            }
        }
    }
    all
}

fn spectrum(task: usize, step: usize, site: String, sigma: Vec<f64>) -> Spectrum {
    let energy: f64 = sigma.iter().map(|s| s * s).sum();
    let shares: Vec<f64> = sigma.iter().map(|s| if energy > 0.0 { s * s / energy } else { 0.0 }).collect();
    let entropy: f64 = -shares.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
    let mean = sigma.iter().sum::<f64>() / sigma.len() as f64;
    let variance = sigma.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / sigma.len() as f64;
    Spectrum { task, step, site, top_share: shares[0], effective_rank: entropy.exp(), variance, sigma }
}

fn subspace() -> Vec<SubspaceSize> {
    let mut all = Vec::new();
    for task in 0..5 {
        for (layer, site) in sites() {
            let dim = if site == Site::Fc2 { 192 } else { 96 };
            let limit = if matches!(site, Site::Q | Site::K) { 0.5 } else { 0.75 } - 0.06 * layer as f64;
            let k = (dim as f64 * limit * (1.0 - 0.6f64.powi(task as i32 + 1))) as usize;
            all.push(SubspaceSize { task, site: site.name(layer), k, dim });
        }
    }
    all
}
