//! `tokenizer.model`: reading a SentencePiece model, and writing the `tokenizer.json` that gives the same tokens.
//!
//! LLaVA runs the slow tokenizer of transformers (`use_fast=False`): SentencePiece on the text between added tokens. The
//! tokenizers library runs the same model from `tokenizer.json`; what differs, the prefix space above all, is written into
//! its normalizer. It must not tokenise anything itself.

mod convert;
mod proto;
mod settings;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::ExportError;

/// Name of a SentencePiece model in a checkpoint.
pub(super) const MODEL_FILE: &str = "tokenizer.model";

/// The `tokenizer.json` for a folder with a `tokenizer.model`.
pub(super) fn tokenizer_json(folder: &Path) -> Result<Vec<u8>, ExportError> {
    let model = proto::read(&folder.join(MODEL_FILE))?;
    let settings = settings::Settings::read(folder, &model)?;
    convert::tokenizer(&folder.join(MODEL_FILE), &model, &settings)
}
