//! A Llama's tokenizer: from `tokenizer.json`, or the byte-level BPE of a GGUF file's metadata.

use std::path::Path;

use serde_json::{Value as Json, json};
use thiserror::Error;
use tokenizers::Tokenizer;

use crate::formats::gguf::{Gguf, GgufError, Value};

/// Types of tokens in GGUF metadata that are found in a text before it is split.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

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
    #[error("tokenizer: {reason}")]
    Convert {
        /// Why.
        reason: String,
    },
}

/// Text to tokens and back.
#[derive(Clone, Debug)]
pub struct LlamaTokenizer {
    inner: Tokenizer,
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

    /// Makes it from the metadata of a GGUF file.
    pub fn from_gguf(file: &Gguf) -> Result<Self, TokenizerError> {
        let source = file.source();
        match Tokenizer::from_bytes(description(file)?.to_string()) {
            Ok(inner) => Self::plain(inner, source),
            Err(error) => Err(TokenizerError::File { file: source.to_owned(), reason: error.to_string() }),
        }
    }

    fn plain(mut inner: Tokenizer, file: &str) -> Result<Self, TokenizerError> {
        inner.with_padding(None);
        match inner.with_truncation(None) {
            Ok(_) => Ok(Self { inner }),
            Err(error) => Err(TokenizerError::File { file: file.to_owned(), reason: error.to_string() }),
        }
    }

    /// The tokens of a text; `special`: with those that the tokenizer puts around every text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        match self.inner.encode(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(TokenizerError::Convert { reason: error.to_string() }),
        }
    }

    /// The text of tokens; `special`: also of those that stand for no text.
    pub fn decode(&self, tokens: &[u32], special: bool) -> Result<String, TokenizerError> {
        let text = self.inner.decode(tokens, !special);
        text.map_err(|error| TokenizerError::Convert { reason: error.to_string() })
    }

    /// The number of a token by its text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
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
