//! A real language model, SmolLM2-135M-Instruct from a GGUF file: its tokens, logits and greedy continuations against those
//! of transformers (`tests/python/make_smollm2.py`).

use std::sync::OnceLock;

use crate::{fixture, model};
use eblora::formats::gguf::Gguf;
use eblora::model::chat::{ChatTemplate, Message, Role};
use eblora::model::llama::LlamaFolder;
use eblora::model::llama_tokenizer::LlamaTokenizer;
use eblora::peft::{PeftAdapter, PeftLayer, write_unpacked};
use eblora_core::adapter::LoraAdapter;
use eblora_core::backend::Cpu;
use eblora_core::model::llama::{Llama, Window};
use eblora_core::random::Random;
use pollster::block_on;
use serde_json::Value;

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Both sides compute in f32, in different orders, through 30 blocks with sums of up to 1536 products: measured, 2.2e-6 of
/// the largest logit; ten times that for other machines' orders.
const BOUND: f64 = 2.2e-5;

/// The file in the cache, read once.
fn model_file() -> &'static Gguf {
    static MODEL: OnceLock<Gguf> = OnceLock::new();
    MODEL.get_or_init(|| Gguf::read_file(&model(FILE)).unwrap_or_else(|error| panic!("{error}")))
}

fn reference() -> Value {
    serde_json::from_slice(&fixture("smollm2.json")).expect("JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key}"))
}

fn tokens(value: &Value, key: &str) -> Vec<u32> {
    list(value, key).iter().map(|id| id.as_u64().expect("a token") as u32).collect()
}

#[test]
fn texts_have_pythons_tokens() {
    let tokenizer = LlamaTokenizer::from_gguf(model_file()).expect("a tokenizer");
    let reference = reference();
    let sentences = list(&reference, "sentences");
    assert_eq!(sentences.len(), 6);
    for sentence in sentences {
        let text = sentence["text"].as_str().expect("a text");
        let ids = tokenizer.encode(text, false).expect("tokens");
        assert_eq!(ids, tokens(sentence, "ids"), "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).expect("a text"), text, "byte-level: nothing is lost");
    }
    assert_eq!((tokenizer.id("<|im_end|>"), tokenizer.id("no such token")), (Some(2), None));
}

#[test]
fn logits_and_greedy_continuations_are_those_of_transformers() {
    let (file, reference) = (model_file(), reference());
    let tokenizer = LlamaTokenizer::from_gguf(file).expect("a tokenizer");
    let folder = LlamaFolder::from_gguf(file).expect("a model");
    let cpu = Cpu::<f32>::new();
    let vocabulary = folder.config.vocabulary;
    // Of its 8192 positions no more than these are used.
    let config = eblora_core::model::llama::LlamaConfig { positions: 96, ..folder.config };
    let model = Llama::new(&cpu, &config, Window { tokens: 2, answer: 1 }, folder.weights).expect("a model");
    let mut decoder = model.decoder(&cpu, 48, 96).expect("memory");
    let question = [Message { role: Role::User, text: reference["question"].as_str().expect("a question") }];
    let chat = ChatTemplate::SmolLm2.prompt(&question);
    let stop = tokenizer.encode(ChatTemplate::SmolLm2.end(), false).expect("one token");
    let cases = list(&reference, "cases");
    assert_eq!(cases.len(), 2);
    assert_eq!(cases[1]["text"], chat, "the template");
    for case in cases {
        let text = case["text"].as_str().expect("a text");
        let prompt = tokenizer.encode(text, false).expect("tokens");
        assert_eq!(prompt, tokens(case, "ids"));
        let logits = block_on(model.begin(&cpu, &mut decoder, None, &prompt)).expect("logits");
        assert_eq!(logits.len(), vocabulary);
        let places = tokens(&case["logits"], "tokens");
        let values: Vec<f64> = list(&case["logits"], "values").iter().map(|x| x.as_f64().expect("a number")).collect();
        assert!(places.len() == values.len() && places.len() > 500);
        let largest = values.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let mut worst = 0.0_f64;
        for (&place, &want) in places.iter().zip(&values) {
            let off = (f64::from(logits[place as usize]) - want).abs() / largest;
            assert!(off <= BOUND, "{text:?}: logit {place} is {}, not {want}", logits[place as usize]);
            worst = worst.max(off);
        }
        println!("{text:?}: worst logit off by {worst:.1e} of the largest, {largest}");
        let mut said = tokens(case, "said");
        // transformers returns the token that stopped it.
        if said.last().is_some_and(|last| stop.contains(last)) {
            said.pop();
        }
        let got = block_on(model.generate(&cpu, &mut decoder, None, &prompt, (16, &stop))).expect("tokens");
        println!("{:?}", tokenizer.decode(&got, true));
        assert_eq!(got, said, "{text:?}");
    }
}

#[test]
fn a_merged_folder_holds_the_unpacked_weights_and_the_update() {
    let before = LlamaFolder::from_gguf(model_file()).expect("a model");
    let module = "model.layers.7.self_attn.k_proj";
    let adapted = before.weights.blocks[7].linears().into_iter().find(|w| w.name == module).expect("a layer");
    let (inp, mut rng) = (before.config.hidden, Random::new(5, "unpacked"));
    let out = adapted.weight.to_f32().len() / inp;
    let lora = LoraAdapter::new(rng.normal_matrix(3, inp), rng.normal_matrix(out, 3), 0.01).expect("an adapter");
    let delta = lora.delta();
    let adapter = PeftAdapter { layers: vec![PeftLayer { module: module.to_owned(), lora }], ..PeftAdapter::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let merged = folder.path().join("merged");
    write_unpacked(&model(FILE), &adapter, &merged).expect("a folder");
    let after = LlamaFolder::read(&merged).expect("a Hugging Face folder");
    let epsilon = before.config.rms_norm_epsilon; // f32 in the file
    assert_eq!(eblora_core::model::llama::LlamaConfig { rms_norm_epsilon: epsilon, ..after.config }, before.config);
    for (old, new) in before.weights.blocks.iter().zip(&after.weights.blocks) {
        for (old, new) in old.linears().into_iter().zip(new.linears()) {
            assert_eq!(old.name, new.name);
            let update = |i: usize| if old.name == module { delta[(i / inp, i % inp)] } else { 0.0 };
            for (i, (x, y)) in old.weight.to_f32().into_iter().zip(new.weight.to_f32()).enumerate() {
                let due = x + update(i);
                // Half a unit in the last place of 16 bits, and the smallest steps near 0.
                assert!((due - y).abs() <= due.abs() * 4.9e-4 + 6e-8, "{}: {i}: {due} {y}", old.name);
            }
        }
        assert_eq!(old.norm1.len(), new.norm1.len());
    }
    let (own, theirs) = (
        LlamaTokenizer::from_gguf(model_file()).expect("a tokenizer"),
        LlamaTokenizer::read(&merged.join("tokenizer.json")).expect("a tokenizer"),
    );
    let text = "Merged: naïve 123 tokens\n<|im_end|>";
    assert_eq!(own.encode(text, false).expect("tokens"), theirs.encode(text, false).expect("tokens"));
    // A folder that is there stays; another model's adapter is none of this one's.
    assert!(write_unpacked(&model(FILE), &adapter, &merged).unwrap_err().to_string().contains("not empty"));
    let mut other = adapter;
    other.layers[0].module = "model.layers.99.self_attn.k_proj".to_owned();
    let message = write_unpacked(&model(FILE), &other, &folder.path().join("other")).unwrap_err().to_string();
    assert!(message.contains("model.layers.99") && !folder.path().join("other").exists(), "{message}");
}
