//! Texts for CLIP's text encoder.

use tokenizers::utils::parallelism::set_parallelism;
use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::error::PromptError;
use super::prompter::{MAXIMUM_TEXT_BYTES, MAXIMUM_TOKENIZER_BYTES};
use super::tokenizer_file::{load, shielded};
use crate::guard::files::{contained, read_capped};
use crate::package::ClipPackage;

/// The tokenizer of a CLIP package: lower case, beginning and end added, long texts cut so that the end stays, no padding.
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    vocabulary_size: usize,
}

impl ClipTokenizer {
    /// Opens the tokenizer of a package.
    pub fn open(package: &ClipPackage) -> Result<Self, PromptError> {
        // One short text at a time gains nothing from threads inside the tokenizer.
        set_parallelism(false);
        let json = read_capped(&contained(&package.root, "tokenizer.json")?, MAXIMUM_TOKENIZER_BYTES)?;
        let mut tokenizer = load(&json)?;
        let stage = &package.manifest.text;
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: stage.maximum_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| PromptError::TokenizerFile(error.to_string()))?;
        Ok(Self { tokenizer, vocabulary_size: stage.vocabulary_size })
    }

    /// The token ids of a text, as `CLIPTokenizer(text, truncation=True)` gives them.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        if text.len() > MAXIMUM_TEXT_BYTES {
            return Err(PromptError::TextTooLong { found_bytes: text.len(), limit_bytes: MAXIMUM_TEXT_BYTES });
        }
        let failed = |message: String| PromptError::Tokenizer { doing: "encoding", message };
        let encoding = shielded(|| self.tokenizer.encode(text, true)).map_err(failed)?;
        let ids = encoding.get_ids().to_vec();
        if ids.is_empty() {
            return Err(failed(format!("{text:?} has no tokens; a CLIP tokenizer adds a beginning and an end")));
        }
        match ids.iter().find(|&&id| id as usize >= self.vocabulary_size) {
            Some(id) => Err(failed(format!(
                "{text:?} has the token id {id}, beyond the {} rows of the text encoder's table",
                self.vocabulary_size
            ))),
            None => Ok(ids),
        }
    }
}
