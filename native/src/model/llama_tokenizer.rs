//! A Llama's tokenizer: from `tokenizer.json`, or the byte-level BPE of a GGUF file's metadata.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value as Json, json};
use thiserror::Error;
use tokenizers::Tokenizer;

use crate::formats::gguf::{Gguf, GgufError, Value};

/// Types of tokens in GGUF metadata that are found in a text before it is split.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
/// What ends a text in the vocabularies of Llamas.
const ENDS: [&str; 4] = ["<|endoftext|>", "</s>", "<|end_of_text|>", "<|eot_id|>"];

/// Why a tokenizer could not be made or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file can't be read, or holds no tokenizer.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// A GGUF file's metadata can't be used.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A GGUF file with another kind of tokenizer.
    #[error(
        "{file}: a tokenizer with {what}; byte-level BPE (\"gpt2\") split as \"smollm\" or \"gpt-2\" can be read: take \
             the tokenizer.json of this model instead"
    )]
    Unsupported {
        /// The file.
        file: String,
        /// What it asks for.
        what: String,
    },
    /// A text or tokens that it can't convert.
    #[error("{file}: {reason}")]
    Convert {
        /// The tokenizer's file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// Text to tokens and back.
#[derive(Clone, Debug)]
pub struct LlamaTokenizer {
    file: String,
    inner: Tokenizer,
    /// The token that ends a text, where that is said beside the tokenizer.
    end: Option<u32>,
}

impl LlamaTokenizer {
    /// Reads `tokenizer.json`. What it says of padding and truncation does not apply here.
    pub fn read(path: &Path) -> Result<Self, TokenizerError> {
        let file = path.display().to_string();
        match Tokenizer::from_file(path) {
            Ok(inner) => Self::plain(inner, &file),
            Err(error) => Err(TokenizerError::File { file, reason: error.to_string() }),
        }
    }

    /// Reads the `tokenizer.json` of a folder, and what the files beside it say of the end of a text.
    pub fn read_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let plain = Self::read(&folder.join(super::tokenizer::FILE))?;
        let end = plain.end_by_files(folder)?;
        Ok(Self { end, ..plain })
    }

    /// Makes it from the metadata of a GGUF file.
    pub fn from_gguf(file: &Gguf) -> Result<Self, TokenizerError> {
        const KEY: &str = "tokenizer.ggml.eos_token_id";
        let source = file.source();
        let plain = match Tokenizer::from_bytes(description(file)?.to_string()) {
            Ok(inner) => Self::plain(inner, source)?,
            Err(error) => return Err(TokenizerError::File { file: source.to_owned(), reason: error.to_string() }),
        };
        let end = if file.get(KEY).is_some() { u32::try_from(file.count(KEY, None)?).ok() } else { None };
        Ok(Self { end: end.filter(|id| plain.has(*id)), ..plain })
    }

    fn plain(mut inner: Tokenizer, file: &str) -> Result<Self, TokenizerError> {
        inner.with_padding(None);
        match inner.with_truncation(None) {
            Ok(_) => Ok(Self { file: file.to_owned(), inner, end: None }),
            Err(error) => Err(TokenizerError::File { file: file.to_owned(), reason: error.to_string() }),
        }
    }

    /// The first end of a text that is said beside the tokenizer and that it knows.
    fn end_by_files(&self, folder: &Path) -> Result<Option<u32>, TokenizerError> {
        if let Some(config) = beside(folder, "tokenizer_config.json")? {
            let token = &config["eos_token"];
            let text = token.as_str().or_else(|| token["content"].as_str());
            if let Some(id) = text.and_then(|text| self.id(text)) {
                return Ok(Some(id));
            }
        }
        for file in ["generation_config.json", "config.json"] {
            let Some(config) = beside(folder, file)? else { continue };
            let end = &config["eos_token_id"];
            let id = end.as_u64().or_else(|| end[0].as_u64()).and_then(|id| u32::try_from(id).ok());
            if let Some(id) = id.filter(|id| self.has(*id)) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Its file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The token that ends a text: by what is said beside the tokenizer, or else the first that it has of those known.
    pub fn end(&self) -> Option<u32> {
        self.end.or_else(|| self.ends().next())
    }

    /// All tokens that it has of those known to end a text.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        ENDS.iter().filter_map(|end| self.id(end))
    }

    /// The tokens of a text; `special`: with those that the tokenizer puts around every text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        match self.inner.encode(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// The text of tokens; `special`: also of those that stand for no text.
    pub fn decode(&self, tokens: &[u32], special: bool) -> Result<String, TokenizerError> {
        let text = self.inner.decode(tokens, !special);
        text.map_err(|error| self.fault(error))
    }

    fn fault(&self, error: tokenizers::Error) -> TokenizerError {
        TokenizerError::Convert { file: self.file.clone(), reason: error.to_string() }
    }

    fn has(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }

    /// The number of a token by its text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

/// A JSON file of a model's folder, if it is there.
fn beside(folder: &Path, name: &str) -> Result<Option<Json>, TokenizerError> {
    let path = folder.join(name);
    let fault = |reason| TokenizerError::File { file: path.display().to_string(), reason };
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|error| fault(format!("not JSON: {error}")))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(format!("cannot be read: {error}"))),
    }
}

/// The `tokenizer.json` that a GGUF file's metadata amount to.
pub(crate) fn description(file: &Gguf) -> Result<Json, TokenizerError> {
    let unsupported = |what| Err(TokenizerError::Unsupported { file: file.source().to_owned(), what });
    let model = file.text("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return unsupported(format!("the model {model:?}"));
    }
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let split = match file.text("tokenizer.ggml.pre")? {
        "smollm" => {
            let digits = json!({ "type": "Digits", "individual_digits": true });
            json!({ "type": "Sequence", "pretokenizers": [digits, byte_level] })
        }
        "gpt-2" => byte_level.clone(),
        other => return unsupported(format!("the pre-tokenizer {other:?}")),
    };
    let texts = |key: &str| -> Result<Vec<&str>, TokenizerError> {
        let texts = file.list(key)?.iter().map(|value| match value {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(wrong(file, key, "not a list of texts")),
        });
        texts.collect()
    };
    let (tokens, merges) = (texts("tokenizer.ggml.tokens")?, texts("tokenizer.ggml.merges")?);
    let types = file.list("tokenizer.ggml.token_type")?;
    if types.len() != tokens.len() {
        let reason = format!("{} types for {} tokens", types.len(), tokens.len());
        return Err(wrong(file, "tokenizer.ggml.token_type", &reason));
    }
    let whole = |(id, kind): (usize, &Value)| {
        let special = *kind == Value::Signed(CONTROL);
        (special || *kind == Value::Signed(USER_DEFINED)).then(|| {
            json!({ "id": id, "content": tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": special })
        })
    };
    let added: Vec<Json> = types.iter().enumerate().filter_map(whole).collect();
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        match merge.split_once(' ') {
            Some((left, right)) => pairs.push([left, right]),
            None => return Err(wrong(file, "tokenizer.ggml.merges", &format!("{merge:?} is no pair"))),
        }
    }
    let vocabulary: serde_json::Map<String, Json> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": split,
        "post_processor": beginning(file, &tokens)?,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": pairs },
    }))
}

/// What puts the token of the beginning before a text, where the file asks for that.
fn beginning(file: &Gguf, tokens: &[&str]) -> Result<Json, TokenizerError> {
    const KEY: &str = "tokenizer.ggml.bos_token_id";
    if !file.flag("tokenizer.ggml.add_bos_token", false)? {
        return Ok(Json::Null);
    }
    let id = file.count(KEY, None)?;
    let Some(&token) = tokens.get(id) else {
        return Err(wrong(file, KEY, &format!("{id}, but there are {} tokens", tokens.len())));
    };
    let special = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let text = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [special, text("A")],
        "pair": [special, text("A"), text("B")],
        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
    }))
}

fn wrong(file: &Gguf, key: &str, reason: &str) -> TokenizerError {
    GgufError::Key { file: file.source().to_owned(), key: key.to_owned(), reason: reason.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gguf_file_says_what_ends_a_text() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/llama_tied.gguf");
        let mut bytes = fs::read(file).unwrap();
        let end = |bytes: &[u8]| {
            LlamaTokenizer::from_gguf(&Gguf::from_bytes(bytes.to_vec(), "f.gguf").unwrap()).unwrap().end()
        };
        assert_eq!(end(&bytes), None);
        // Its token of the beginning, made that of the end.
        for (from, to) in [("bos_token_id", "eos_token_id"), ("add_bos_token", "add_not_token")] {
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
        assert_eq!(end(&bytes), Some(0));
    }
}
