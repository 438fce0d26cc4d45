//! Texts to token numbers, by the `tokenizer.json` of a Hugging Face folder.

use std::fs;
use std::path::Path;

use eblora_core::model::bert::TextSet;
use thiserror::Error;
use tokenizers::{PostProcessor, Tokenizer as Library, TruncationDirection};

/// The file of a folder.
pub const FILE: &str = "tokenizer.json";

/// Why texts could not be turned into tokens.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The system refused.
    #[error(
        "cannot read {file}: {source}; a tokenizer.json is expected (save it with a fast tokenizer of transformers)"
    )]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no tokenizer that can be used.
    #[error("{file}: not a tokenizer: {reason}")]
    Parse {
        /// The file.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// No room for text.
    #[error("at most {max_tokens} tokens leave no room for text: {special} of them are special ones")]
    MaxTokens {
        /// The limit given.
        max_tokens: usize,
        /// Tokens that go with every text.
        special: usize,
    },
    /// A text that the tokenizer can't take.
    #[error("{file}: text {text}: {reason}")]
    Encode {
        /// The tokenizer's file.
        file: String,
        /// Index of the text.
        text: usize,
        /// What the tokenizer says.
        reason: String,
    },
}

/// Texts as token numbers, special tokens included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The tokens of each text.
    pub ids: Vec<Vec<u32>>,
    /// Texts that were longer than allowed and lost their end.
    pub truncated: usize,
}

impl Encoded {
    /// As the model's samples; a text without a label gets 0.
    pub fn texts(&self, labels: &[u32]) -> TextSet {
        let mut texts = TextSet::new();
        let labels = labels.iter().copied().chain(std::iter::repeat(0));
        self.ids.iter().zip(labels).for_each(|(ids, label)| texts.push(ids, label));
        texts
    }
}

/// A tokenizer without padding or truncation of its own.
pub struct Tokenizer {
    file: String,
    library: Library,
    direction: TruncationDirection,
}

impl Tokenizer {
    /// Reads the [`FILE`] of a folder.
    ///
    /// # Errors
    /// When it can't be read or is no tokenizer.
    pub fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join(FILE);
        let file = path.display().to_string();
        let bytes = fs::read(&path).map_err(|source| TokenizerError::Read { file: file.clone(), source })?;
        Self::from_bytes(&bytes, &file)
    }

    /// Parses a `tokenizer.json`; `file` names it in errors.
    ///
    /// # Errors
    /// When it is no tokenizer.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self, TokenizerError> {
        let refuse = |e: tokenizers::Error| TokenizerError::Parse { file: file.to_owned(), reason: e.to_string() };
        let mut library = Library::from_bytes(bytes).map_err(refuse)?;
        let direction = library.get_truncation().map_or(TruncationDirection::Right, |t| t.direction);
        // The file's own limits are those of its author's run: ours are given with each call.
        library.with_padding(None).with_truncation(None).map_err(refuse)?;
        Ok(Self { file: file.to_owned(), library, direction })
    }

    /// Its file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Number of special tokens that go with every text.
    pub fn special(&self) -> usize {
        self.library.get_post_processor().map_or(0, |p| p.added_tokens(false))
    }

    /// Number of tokens, those added to the vocabulary included.
    pub fn vocabulary(&self) -> usize {
        self.library.get_vocab_size(true)
    }

    /// The tokens of each text, cut to `max_tokens` with the special ones.
    ///
    /// # Errors
    /// When `max_tokens` leaves no room for text, or the tokenizer can't take one.
    pub fn encode<S: AsRef<str>>(&self, texts: &[S], max_tokens: usize) -> Result<Encoded, TokenizerError> {
        let special = self.special();
        let Some(room) = max_tokens.checked_sub(special).filter(|room| *room > 0) else {
            return Err(TokenizerError::MaxTokens { max_tokens, special });
        };
        let mut encoded = Encoded { ids: Vec::with_capacity(texts.len()), truncated: 0 };
        for (text, content) in texts.iter().enumerate() {
            let refuse =
                |e: tokenizers::Error| TokenizerError::Encode { file: self.file.clone(), text, reason: e.to_string() };
            let mut tokens = self.library.encode_fast(content.as_ref(), false).map_err(refuse)?;
            if tokens.len() > room {
                encoded.truncated += 1;
                tokens.truncate(room, 0, self.direction);
                // What was cut off would get special tokens of its own.
                tokens.take_overflowing();
            }
            let whole = self.library.post_process(tokens, None, true).map_err(refuse)?;
            encoded.ids.push(whole.get_ids().to_vec());
        }
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words "a", "b", "##c" between `[CLS]` and `[SEP]`, with padding to 6 and truncation to 3 of the file's own.
    const SMALL: &str = r###"{"version":"1.0",
        "truncation":{"direction":"Right","max_length":3,"strategy":"LongestFirst","stride":0},
        "padding":{"strategy":{"Fixed":6},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,
            "pad_token":"[PAD]"},
        "added_tokens":[],
        "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,
            "lowercase":true},
        "pre_tokenizer":{"type":"BertPreTokenizer"},
        "post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},
        "decoder":null,
        "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
            "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,"b":5,"##c":6}}}"###;

    fn small() -> Tokenizer {
        Tokenizer::from_bytes(SMALL.as_bytes(), "tokenizer.json").unwrap()
    }

    #[test]
    fn texts_keep_their_own_length_up_to_the_limit() {
        let encoded = small().encode(&["A bc", "b", "", "x a", "a a a a"], 5).unwrap();
        let want: [&[u32]; 5] = [&[2, 4, 5, 6, 3], &[2, 5, 3], &[2, 3], &[2, 1, 4, 3], &[2, 4, 4, 4, 3]];
        assert_eq!(encoded.ids, want);
        assert_eq!(encoded.truncated, 1);
        assert_eq!(small().vocabulary(), 7);
        let all = small().encode(&["a a a a"], 6).unwrap();
        assert_eq!((all.ids[0].len(), all.truncated), (6, 0), "just room enough");
    }

    #[test]
    fn samples_have_the_labels_given() {
        let encoded = small().encode(&["a", "b"], 8).unwrap();
        let texts = encoded.texts(&[3]);
        assert_eq!((texts.tokens(1), texts.labels()), (&[2, 5, 3][..], &[3, 0][..]));
    }

    #[test]
    fn faults_are_told() {
        for max_tokens in [0, 1, 2] {
            let error = small().encode(&["a"], max_tokens).unwrap_err();
            assert!(matches!(error, TokenizerError::MaxTokens { special: 2, .. }), "{error}");
        }
        for bad in ["", "{", "[]", r#"{"model":{"type":"Unheard"}}"#, &SMALL[..SMALL.len() - 3]] {
            let error = Tokenizer::from_bytes(bad.as_bytes(), "tokenizer.json").err().expect("an error");
            assert!(error.to_string().starts_with("tokenizer.json: not a tokenizer: "), "{error}");
        }
        let unknown = SMALL.replacen("\"[UNK]\":1,", "", 1);
        let error = Tokenizer::from_bytes(unknown.as_bytes(), "m/tokenizer.json").unwrap().encode(&["a", "x"], 9);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("m/tokenizer.json: text 1: WordPiece error: Missing [UNK] token"), "{error}");
        let missing = Tokenizer::read(Path::new("no/such/folder")).err().expect("an error");
        assert!(matches!(missing, TokenizerError::Read { .. }));
    }
}
