//! The values of GGUF blocks against the `gguf` package's, bit by bit.

use crate::fixtures::{Fixture, path};
use eblora::formats::gguf::{Gguf, GgufError, Value};
use eblora_core::backend::Stored;

const FORMATS: [(&str, usize); 10] = [
    ("F32", 5),
    ("F16", 5),
    ("BF16", 5),
    ("Q4_0", 64),
    ("Q4_1", 64),
    ("Q5_0", 64),
    ("Q5_1", 64),
    ("Q8_0", 64),
    ("Q4_K", 512),
    ("Q6_K", 512),
];
const ROWS: usize = 3;

#[test]
fn every_block_format_has_the_bits_of_the_reference() {
    let (file, reference) = (Gguf::read_file(&path("blocks.gguf")).expect("a file"), Fixture::read("gguf_blocks"));
    for (name, cols) in FORMATS {
        let values = file.tensor_f32(name, &[ROWS, cols]).expect("a tensor");
        let want = &reference.get(name).values;
        assert_eq!((values.len(), want.len()), (ROWS * cols, ROWS * cols), "{name}");
        for (i, (got, &want)) in values.iter().zip(want).enumerate() {
            // The reference is in f32 too; widened, it is exact. 0 and −0 are the same weight.
            assert_eq!(*got, want as f32, "{name}: value {i}");
        }
        let stored = file.tensor(name, &[ROWS, cols]).expect("a tensor");
        let in_16_bits = matches!(stored.plain(), Stored::F16(_) | Stored::Bf16(_));
        assert_eq!(in_16_bits, name.ends_with("F16"), "{name}");
    }
    assert_eq!(file.names().count(), FORMATS.len());
}

#[test]
fn metadata_are_typed_and_what_does_not_fit_is_named() {
    let file = Gguf::read_file(&path("blocks.gguf")).expect("a file");
    assert_eq!(file.text("general.architecture").expect("a text"), "llama");
    assert_eq!(file.count("llama.block_count", None).expect("a count"), 2);
    assert_eq!(file.number("llama.block_count", None).expect("a number"), 2.0);
    assert_eq!(file.count("absent", Some(7)).expect("a default"), 7);
    assert!(!file.flag("absent", false).expect("a default"));
    let tokens = ["a", "é", ""].map(|text| Value::String(text.into()));
    assert_eq!(file.list("tokenizer.ggml.tokens").expect("a list"), tokens);
    let message = |error: GgufError| error.to_string().rsplit_once(".gguf: ").expect("the file is named").1.to_owned();
    let refused = |error: Result<usize, GgufError>| message(error.expect_err("no count"));
    assert_eq!(refused(file.count("absent", None)), "metadatum `absent`: missing");
    let key = "general.architecture";
    assert_eq!(refused(file.count(key, None)), format!("metadatum `{key}`: not a count"));
    assert_eq!(message(file.list(key).expect_err("no list")), format!("metadatum `{key}`: not a list"));
    assert_eq!(message(file.flag(key, true).expect_err("no flag")), format!("metadatum `{key}`: not a truth value"));
    let count = "metadatum `llama.block_count`: not a text";
    assert_eq!(message(file.text("llama.block_count").expect_err("no text")), count);
    assert_eq!(message(file.tensor("w", &[1]).expect_err("no tensor")), "no tensor `w`");
    let shape = message(file.tensor("Q8_0", &[64, 3]).expect_err("turned"));
    assert_eq!(shape, "tensor `Q8_0` has shape [3, 64], where [64, 3] is due");
}

#[test]
fn a_value_that_is_not_finite_is_found() {
    let file = path("blocks.gguf");
    let mut bytes = std::fs::read(&file).expect("a file");
    let whole = Gguf::from_bytes(bytes.clone(), "f").expect("a file");
    let values = whole.tensor_f32("F32", &[ROWS, 5]).expect("a tensor");
    let pattern = values[7].to_le_bytes();
    let at = bytes.windows(4).position(|window| window == pattern).expect("the value is in the file");
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let planted = Gguf::from_bytes(bytes, "f").expect("the header is whole");
    assert!(matches!(planted.tensor("F32", &[ROWS, 5]), Err(GgufError::NonFinite { index: 7, .. })));
}
