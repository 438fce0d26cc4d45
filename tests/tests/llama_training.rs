//! A tiny Llama whose weights stay in bf16, trained through two tasks by the trainer that trains all models.

use std::path::PathBuf;

use eblora::model::llama::LlamaFolder;
use eblora_core::backend::Cpu;
use eblora_core::method::{Eblora, EbloraConfig, LoraConfig, LoraFt, Method};
use eblora_core::model::llama::{Choices, Llama, Ranking, TokenSet};
use eblora_core::model::{HostValues, Model};
use eblora_core::random::Random;
use eblora_core::train::{RunRecord, Silent, Task, TrainConfig, Trainer};
use pollster::block_on;

const TOPICS: u32 = 3;

/// "Noise, topic, noise, marker" is answered by the topic's word and an end token; each task has markers and words of its own.
fn samples(task: u32, count: usize, seed: u64, choices: bool) -> TokenSet {
    let answer = |topic: u32| vec![30 + task * TOPICS + topic, 58];
    let bank = Choices { answers: (0..TOPICS).map(answer).collect(), ranking: Ranking::Sum };
    let mut set = if choices { TokenSet::with_choices(bank).expect("choices") } else { TokenSet::new() };
    let mut random = Random::new(seed, "samples");
    for i in 0..count {
        let topic = i as u32 % TOPICS;
        let mut noise = || random.below(10) as u32;
        let mut prompt = vec![noise(), 20 + topic, noise()];
        if i % 2 == 0 {
            prompt.push(noise());
        }
        prompt.push(50 + task);
        set.push_pair(&prompt, &answer(topic)).expect("an answer");
    }
    set
}

fn run(method: &mut dyn Method<Cpu<f32>>, choices: bool) -> (RunRecord, usize) {
    let cpu = Cpu::<f32>::new();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama_tied");
    let mut folder = LlamaFolder::read(&folder).expect("a model");
    for block in &mut folder.weights.blocks {
        let attention = [&mut block.query, &mut block.key, &mut block.value, &mut block.output];
        for linear in attention.into_iter().chain([&mut block.gate, &mut block.up, &mut block.down]) {
            let plain = linear.weight.to_f32();
            linear.weight = HostValues::Bf16(plain.iter().map(|x| (x.to_bits() >> 16) as u16).collect());
        }
    }
    let sets = [0, 1].map(|task| (samples(task, 60, 1, choices), samples(task, 30, 2, choices)));
    let tasks = [0, 1].map(|task| Task { name: ["a", "b"][task], train: &sets[task].0, test: &sets[task].1 });
    let config = TrainConfig { steps: 60, batch: 12, ..TrainConfig::default() };
    let window = sets[0].0.window();
    let make = || Llama::new(&cpu, &folder.config, window, folder.weights.clone());
    let mut trainer = Trainer::new(&cpu, config, make).expect("memory");
    let record = block_on(trainer.run(method, &tasks, &mut Silent)).expect("a run");
    (record, trainer.model().sites().len())
}

/// Each task is learnt, from nothing right to nearly all, while merges pile up beside the bits.
fn learns(record: &RunRecord, zero_shot: f64) {
    for (task, losses) in record.losses.iter().enumerate() {
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < first / 4.0, "task {task}: from {first} to {last}");
        let cells = &record.accuracy.rows()[task];
        assert!(cells[task] >= Some(90.0), "task {task}: {cells:?}");
    }
    let before = record.accuracy.zero_shot().expect("a row");
    assert!(before.iter().all(|a| a.is_some_and(|a| a <= zero_shot)), "{before:?}");
}

#[test]
fn eblora_teaches_a_language_model_two_tasks() {
    let config = EbloraConfig { rank: 4, step: 0.2, magnitude_rate: 0.03, ..EbloraConfig::default() };
    let (record, sites) = run(&mut Eblora::new(config), false);
    learns(&record, 10.0);
    assert_eq!((sites, record.memory.len()), (14, 28), "a memory of each site after each task");
    assert!(record.orthonormality < 1e-5 && record.overlap < 1e-5, "{} {}", record.orthonormality, record.overlap);
}

#[test]
fn lora_teaches_it_too_and_choices_are_ranked_by_their_likelihood() {
    let config = LoraConfig { rank: 4, rate: 1e-2, ..LoraConfig::default() };
    let (record, _) = run(&mut LoraFt::new(config), true);
    // Of three answers one is right by chance.
    learns(&record, 70.0);
}
