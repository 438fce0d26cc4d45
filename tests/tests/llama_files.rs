//! A Llama's files: the same model from a folder, from shards and from a GGUF file, its tokenizer, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use eblora::core::backend::Stored;
use eblora::formats::gguf::{Gguf, GgufError};
use eblora::formats::safetensors::SafetensorsError;
use eblora::model::llama::{LlamaError, LlamaFolder};
use eblora::model::llama_tokenizer::{LlamaTokenizer, TokenizerError};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The GGUF file with one text in it replaced by another of its length.
fn changed(from: &str, to: &str) -> Gguf {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path("llama_tied.gguf")).expect("a file");
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("the text is in the file");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    Gguf::from_bytes(bytes, "f.gguf").expect("the header is whole")
}

#[test]
fn folder_and_gguf_hold_the_same_model() {
    let folder = LlamaFolder::read(&path("llama_tied")).expect("a folder");
    let gguf = LlamaFolder::read_gguf(&path("llama_tied.gguf")).expect("a file");
    assert_eq!(gguf.weights, folder.weights);
    // The file holds ε in f32.
    let epsilon = gguf.config.rms_norm_epsilon;
    assert!((epsilon - folder.config.rms_norm_epsilon).abs() < 1e-12);
    assert_eq!(eblora_core::model::llama::LlamaConfig { rms_norm_epsilon: epsilon, ..folder.config }, gguf.config);
    assert_eq!(folder.weights.blocks[1].down.name, "model.layers.1.mlp.down_proj");
    assert!(folder.weights.head.is_none(), "tied");
    assert!(LlamaFolder::read(&path("llama_untied")).expect("a folder").weights.head.is_some());
}

#[test]
fn shards_make_the_same_model_and_bf16_stays_as_stored() {
    let whole = LlamaFolder::read(&path("llama_untied")).expect("a folder");
    let root = tempfile::tempdir().expect("a folder");
    fs::copy(path("llama_untied/config.json"), root.path().join("config.json")).expect("a copy");
    let bytes = fs::read(path("llama_untied/model.safetensors")).expect("a file");
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors").tensors();
    let mut map = Vec::new();
    for (shard, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let file = format!("{shard}.safetensors");
        map.extend(part.iter().map(|(name, _)| format!("\"{name}\":\"{file}\"")));
        let part = part.iter().map(|(name, tensor)| (name.clone(), tensor));
        fs::write(root.path().join(&file), safetensors::serialize(part, None).expect("bytes")).expect("a shard");
    }
    let index = root.path().join("model.safetensors.index.json");
    fs::write(&index, format!("{{\"weight_map\":{{{}}}}}", map.join(","))).expect("a list");
    assert_eq!(LlamaFolder::read(root.path()).expect("a folder").weights, whole.weights);

    fs::remove_file(index).expect("the list");
    let halved: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let upper = tensor.data().as_chunks::<4>().0.iter().flat_map(|b| [b[2], b[3]]).collect();
            (name.clone(), tensor.shape().to_vec(), upper)
        })
        .collect();
    let views = halved.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(safetensors::Dtype::BF16, shape.clone(), bytes).expect("a tensor"))
    });
    let single = root.path().join("model.safetensors");
    fs::write(&single, safetensors::serialize(views, None).expect("bytes")).expect("a file");
    let stored = LlamaFolder::read(root.path()).expect("a folder").weights;
    let Stored::Bf16(bits) = stored.blocks[0].gate.weight.plain() else { panic!("not as stored") };
    let Stored::F32(full) = whole.weights.blocks[0].gate.weight.plain() else { panic!("not in f32") };
    assert!(bits.iter().zip(full).all(|(&b, x)| b == (x.to_bits() >> 16) as u16));

    fs::write(single, safetensors::serialize(std::iter::empty::<(String, TensorView<'_>)>(), None).expect("bytes"))
        .expect("a file");
    let missing = LlamaFolder::read(root.path()).expect_err("nothing is there");
    assert!(
        matches!(missing, LlamaError::Weights(SafetensorsError::Missing { tensor, .. }) if tensor.contains("embed"))
    );
    assert!(matches!(LlamaFolder::read(Path::new("no/such/folder")), Err(LlamaError::Read { .. })));
}

#[test]
fn a_gguf_file_of_something_else_is_refused_by_name() {
    let message = |from: &str, to: &str| LlamaFolder::from_gguf(&changed(from, to)).expect_err("refused").to_string();
    let architecture = "\u{5}\0\0\0\0\0\0\0llama";
    let other = message(architecture, &architecture.replace("llama", "gemma"));
    assert_eq!(other, "f.gguf: a model of the architecture \"gemma\"; \"llama\" can be read");
    assert!(message("none", "yarn").contains("rope scaling of type \"yarn\""));
    let renamed = LlamaFolder::from_gguf(&changed("blk.1.ffn_gate.weight", "blk.1.ffn_goat.weight"));
    let lost = |tensor: &str| tensor == "blk.1.ffn_gate.weight";
    assert!(matches!(renamed, Err(LlamaError::Gguf(GgufError::Missing { tensor, .. })) if lost(&tensor)));
    let key = message("llama.embedding_length", "llama.embedding_strength".get(..22).expect("22 bytes"));
    assert!(key.contains("metadatum `llama.embedding_length`: missing"), "{key}");
}

#[test]
fn the_tokenizer_of_a_gguf_file_splits_digits_and_finds_its_special_tokens() {
    let file = Gguf::read_file(&path("llama_tied.gguf")).expect("a file");
    let tokenizer = LlamaTokenizer::from_gguf(&file).expect("a tokenizer");
    let ids = tokenizer.encode("ab ab12<|end|>b<tag>", false).expect("tokens");
    assert_eq!(ids, [3, 5, 6, 7, 0, 2, 9], "digits one by one, though \"12\" is a token");
    assert_eq!(tokenizer.encode("ab", true).expect("tokens"), [0, 3], "the file asks for its token of the beginning");
    assert_eq!(tokenizer.decode(&ids, true).expect("a text"), "ab ab12<|end|>b<tag>");
    assert_eq!(tokenizer.decode(&ids, false).expect("a text"), "ab ab12b<tag>");
    assert_eq!((tokenizer.id("<|end|>"), tokenizer.id("c")), (Some(0), None));
    let gpt2 = LlamaTokenizer::from_gguf(&changed("smollm", "gpt-2\0")).expect_err("not exactly gpt-2");
    assert!(matches!(&gpt2, TokenizerError::Unsupported { what, .. } if what.contains("pre-tokenizer")), "{gpt2}");
    let unigram = LlamaTokenizer::from_gguf(&changed("gpt2", "spm1")).expect_err("another model");
    assert!(unigram.to_string().contains("a tokenizer with the model \"spm1\""), "{unigram}");
    let pair = LlamaTokenizer::from_gguf(&changed("a b", "a_b")).expect_err("no pair");
    assert!(pair.to_string().contains("`tokenizer.ggml.merges`: \"a_b\" is no pair"), "{pair}");
}

#[test]
fn a_tokenizer_json_is_read_without_its_padding_and_truncation() {
    let root = tempfile::tempdir().expect("a folder");
    let file = root.path().join("tokenizer.json");
    let json = r#"{"version":"1.0",
        "truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0},
        "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,
                   "pad_token":"a"},
        "added_tokens":[],"normalizer":null,"post_processor":null,
        "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
        "decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
        "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}"#;
    fs::write(&file, json).expect("a file");
    let tokenizer = LlamaTokenizer::read(&file).expect("a tokenizer");
    assert_eq!(tokenizer.encode("ababb", false).expect("tokens"), [2, 2, 1]);
    fs::write(&file, "{}").expect("a file");
    for file in [file, root.path().join("absent.json")] {
        let error = LlamaTokenizer::read(&file).expect_err("no tokenizer");
        assert!(matches!(&error, TokenizerError::File { file: named, .. } if *named == file.display().to_string()));
    }
}
