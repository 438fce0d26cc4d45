//! MiniLM-L6, a BERT encoder of 22 million parameters: token numbers and sentence embeddings.

use crate::{fixture, model};
use eblora::model::bert_folder::BertFolder;
use eblora::model::tokenizer::Tokenizer;
use eblora_core::Real;
use eblora_core::backend::Cpu;
use eblora_core::model::bert::{Encoder, EncoderOptions, TextSet};
use pollster::block_on;
use safetensors::SafeTensors;
use serde_json::Value;

const MODEL: &str = "minilm-l6-v2";
const WIDTH: usize = 384;

/// What stock transformers gives in double precision.
struct Reference {
    texts: Vec<String>,
    max_tokens: usize,
    truncated: usize,
    whole: Vec<Vec<u32>>,
    ids: Vec<Vec<u32>>,
    embeddings: Vec<f64>,
}

impl Reference {
    fn read() -> Self {
        let json: Value = serde_json::from_slice(&fixture("minilm.json")).expect("JSON");
        let number = |key: &str| json[key].as_u64().expect("a number") as usize;
        let list = |value: &Value| value.as_array().expect("a list").clone();
        let rows = |key: &str| -> Vec<Vec<u32>> {
            let row = |row: &Value| list(row).iter().map(|id| id.as_u64().expect("a token") as u32).collect();
            list(&json[key]).iter().map(row).collect()
        };
        let bytes = fixture("minilm.safetensors");
        let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
        let stored = tensors.tensor("embeddings").expect("embeddings");
        let embeddings = stored.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        Self {
            texts: list(&json["texts"]).iter().map(|text| text.as_str().expect("a text").to_owned()).collect(),
            max_tokens: number("max_tokens"),
            truncated: number("truncated"),
            whole: rows("whole"),
            ids: rows("ids"),
            embeddings,
        }
    }
}

#[test]
fn token_numbers_are_those_of_python() {
    let (reference, tokenizer) = (Reference::read(), Tokenizer::read(&model(MODEL)).expect("a tokenizer"));
    let whole = tokenizer.encode(&reference.texts, 512).expect("tokens");
    assert_eq!((&whole.ids, whole.truncated), (&reference.whole, 0));
    let cut = tokenizer.encode(&reference.texts, reference.max_tokens).expect("tokens");
    assert_eq!((&cut.ids, cut.truncated), (&reference.ids, reference.truncated));
    assert!(reference.truncated > 0 && reference.truncated < reference.texts.len(), "the fixture has both kinds");
}

/// The largest error of an embedding, relative to its largest value.
fn worst(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let rows = got.chunks(WIDTH).zip(want.chunks(WIDTH));
    let error = |(got, want): (&[f64], &[f64])| {
        let size = want.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        // A NaN is no small error.
        got.iter().zip(want).map(|(g, w)| (g - w).abs() / size).fold(0.0, |m, e| if e <= m { m } else { e })
    };
    rows.map(error).fold(0.0, |m, e| if e <= m { m } else { e })
}

#[test]
fn the_comparison_finds_planted_errors() {
    let want = Reference::read().embeddings;
    assert_eq!(worst(&want, &want), 0.0);
    for (at, wrong) in [(0, 1e-3), (WIDTH + 7, -1e-3), (want.len() - 1, f64::NAN)] {
        let mut got = want.clone();
        got[at] += wrong;
        let error = worst(&got, &want);
        assert!(error.is_nan() || error > 1e-4, "{error}");
    }
}

fn embeddings<T: Real>(bound: f64) {
    let (reference, cpu) = (Reference::read(), Cpu::<T>::new());
    let read = BertFolder::read(&model(MODEL)).expect("the model");
    let options = EncoderOptions::new(reference.max_tokens);
    let encoder = Encoder::new(&cpu, &read.config, &read.weights, &options).expect("an encoder");
    assert_eq!((encoder.sites().len(), read.config.hidden), (36, WIDTH));
    let mut texts = TextSet::new();
    reference.ids.iter().for_each(|ids| texts.push(ids, 0));
    // In one batch, where the shorter ones are filled up, and by threes.
    for batch in [texts.len(), 3] {
        let got = block_on(encoder.embed(&cpu, &texts, batch, None)).expect("embeddings");
        let got: Vec<f64> = got.into_iter().map(Real::f64).collect();
        let error = worst(&got, &reference.embeddings);
        println!("{}, batch {batch}: worst error {error:.1e}", T::NAME);
        assert!(error <= bound, "{}: {error:e} is more than {bound:e}", T::NAME);
    }
}

/// The same formula: rounding alone, of which 2e-15 is seen.
#[test]
fn embeddings_are_those_of_transformers_in_f64() {
    embeddings::<f64>(1e-13);
}

/// Sums of up to 1536 rounded products; 9e-7 is seen, and 7e-7 with PyTorch in f32. Six times that, for other machines.
#[test]
fn embeddings_are_those_of_transformers_in_f32() {
    embeddings::<f32>(6e-6);
}
