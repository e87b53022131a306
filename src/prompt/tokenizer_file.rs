//! Loading `tokenizer.json`, which anybody may have written.
//!
//! A tokenizer can amplify text: a normalizer may replace one space by megabytes, again and again. What it may do is
//! bounded here before the tokenizers crate sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::Tokenizer;

use super::error::PromptError;

/// Largest section other than the vocabulary, in bytes; the largest real one is the character map of a multilingual
/// SentencePiece model, about 0.4 MB.
const MAXIMUM_SECTION_BYTES: usize = 4 << 20;

/// Most that the replacements of a normalizer or decoder may lengthen a text together; LLaMA's normalizer has 4.
const MAXIMUM_GROWTH: usize = 256;

/// Longest text that a normalizer may put before each chunk, in bytes.
const MAXIMUM_PREPEND_BYTES: usize = 1024;

#[derive(Deserialize)]
struct Sections<'a> {
    #[serde(borrow, default)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    decoder: Option<&'a RawValue>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f64>,
}

/// Reads a tokenizer. Its own truncation and padding are switched off, as transformers does for every call that does not
/// ask for them.
pub(super) fn load(bytes: &[u8]) -> Result<Tokenizer, PromptError> {
    let refused = |message: String| PromptError::TokenizerFile(message);
    let sections: Sections<'_> = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
    if sections.model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(refused("model.dropout must be absent or 0: with it the same prompt gives different tokens".to_owned()));
    }
    for (name, section) in [
        ("normalizer", sections.normalizer),
        ("pre_tokenizer", sections.pre_tokenizer),
        ("post_processor", sections.post_processor),
        ("decoder", sections.decoder),
    ] {
        let Some(section) = section else { continue };
        if section.get().len() > MAXIMUM_SECTION_BYTES {
            return Err(refused(format!("{name} is larger than {MAXIMUM_SECTION_BYTES} bytes")));
        }
        let value = serde_json::from_str(section.get()).map_err(|error| refused(format!("{name}: {error}")))?;
        if growth(&value) > MAXIMUM_GROWTH {
            return Err(refused(format!("{name} may lengthen a text more than {MAXIMUM_GROWTH} times")));
        }
    }
    let mut tokenizer = shielded(|| Tokenizer::from_bytes(bytes)).map_err(refused)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| refused(error.to_string()))?;
    Ok(tokenizer)
}

/// Runs a step of the tokenizers crate; a panic that strange data provokes in it becomes an error.
pub(super) fn shielded<T>(step: impl FnOnce() -> Result<T, Box<dyn std::error::Error + Send + Sync>>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("internal failure: {}", text.unwrap_or("no message")))
        }
    }
}

/// Upper bound of (bytes after) / (bytes before) for the steps below `section`, itself saturating.
fn growth(section: &Value) -> usize {
    match section {
        Value::Array(items) => items.iter().map(growth).fold(1, usize::saturating_mul),
        Value::Object(fields) => {
            let own = match fields.get("type").and_then(Value::as_str) {
                Some("Replace") => replacement_growth(fields),
                Some("Prepend") if text_bytes(fields.get("prepend")) > MAXIMUM_PREPEND_BYTES => usize::MAX,
                _ => 1,
            };
            fields.values().map(growth).fold(own, usize::saturating_mul)
        }
        _ => 1,
    }
}

fn replacement_growth(fields: &serde_json::Map<String, Value>) -> usize {
    let content = text_bytes(fields.get("content"));
    let pattern = fields.get("pattern");
    match pattern.and_then(|pattern| pattern.get("String")).or(pattern).and_then(Value::as_str) {
        // An empty pattern, like a regular expression, may match between any two characters.
        Some(literal) if !literal.is_empty() => content.div_ceil(literal.len()).max(1),
        _ => content.saturating_add(1),
    }
}

fn text_bytes(value: Option<&Value>) -> usize {
    value.and_then(Value::as_str).map_or(0, str::len)
}
