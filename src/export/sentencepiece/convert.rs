//! The `tokenizer.json` of a SentencePiece model.
//!
//! Vocabulary and merges are as `SentencePieceExtractor` of transformers 4.37.2 writes them. The prefix space is not: the
//! conversions of transformers put it before a stretch only if that does not begin with a space, which the slow tokenizer
//! never asks. Here it is a replacement at the beginning of the normalised text, which is exact for both behaviours.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use serde_json::{Map, Value, json};

use super::proto::{Model, ModelType, PieceType};
use super::settings::{AddedToken, Settings};
use crate::export::ExportError;

/// The character that stands for a space in pieces.
const SPACE: &str = "\u{2581}";

/// The file for a model and its settings; `path` is for messages.
pub(super) fn tokenizer(path: &Path, model: &Model, settings: &Settings) -> Result<Vec<u8>, ExportError> {
    let unsupported = |key: &str, found: &str, supported: &str| ExportError::Unsupported {
        file: path.to_path_buf(),
        key: key.to_owned(),
        found: found.to_owned(),
        supported: supported.to_owned(),
    };
    if !settings.legacy {
        // The slow tokenizer then runs the model without its own prefix on stretches that it prepared itself.
        if !model.character_map().is_empty() || model.remove_extra_whitespaces() {
            let supported = "\"legacy\": true for models that change characters or white space";
            return Err(unsupported(
                "normalizer_spec with \"legacy\": false",
                "a character map or remove_extra_whitespaces",
                supported,
            ));
        }
        if let Some(token) = settings.added.values().find(|token| token.lstrip || token.rstrip || token.single_word) {
            let key = format!("added token {:?} with \"legacy\": false", token.content);
            return Err(unsupported(&key, "lstrip, rstrip or single_word", "tokens without them"));
        }
    }
    // Symbols of the model are cut out of the normalised text, and so are added tokens where only the beginning of the
    // whole text gets a prefix: cut out before, they would leave stretches that each look like a beginning.
    let symbols = model
        .pieces
        .iter()
        .enumerate()
        .filter(|(id, piece)| piece.kind() == PieceType::UserDefined && !settings.added.contains_key(id));
    let symbols: Vec<(usize, &str)> = symbols.map(|(id, piece)| (id, piece.text())).collect();
    let mut added: Vec<(usize, Value)> =
        settings.added.iter().map(|(&id, token)| (id, entry(id, token, !settings.legacy))).collect();
    added.extend(symbols.iter().map(|&(id, text)| {
        let token = AddedToken { content: text.to_owned(), special: false, lstrip: false, rstrip: false, single_word: false };
        (id, entry(id, &token, true))
    }));
    added.sort_by_key(|(id, _)| *id);

    let mut steps = Vec::new();
    if !model.character_map().is_empty() {
        let map = base64::engine::general_purpose::STANDARD.encode(model.character_map());
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
    }
    if model.remove_extra_whitespaces() {
        steps.push(replace(r"\A +|[ ▁]+\z", ""));
        steps.push(replace(" {2,}", " "));
    }
    let prefix = if settings.legacy { model.dummy_prefix() } else { settings.add_prefix_space };
    if prefix {
        steps.push(replace(&beginning(settings, &symbols), SPACE));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    // The slow tokenizer takes one space from the beginning of every text, whether or not it put one there.
    decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(),
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": null,
        "post_processor": post_processor(settings),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": match model.model_type() {
            ModelType::Bpe => bpe(model, settings),
            _ => unigram(model, settings),
        },
    });
    let mut bytes = file.to_string().into_bytes();
    bytes.push(b'\n');
    Ok(bytes)
}

fn entry(id: usize, token: &AddedToken, normalized: bool) -> Value {
    json!({
        "id": id,
        "content": token.content,
        "single_word": token.single_word,
        "lstrip": token.lstrip,
        "rstrip": token.rstrip,
        "normalized": normalized,
        "special": token.special,
    })
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

/// A pattern that matches, without any character, where the prefix space belongs. An empty text gets none, nor does, in the
/// new behaviour, one that begins with a special token. Contents of tokens that are looked for in normalised text are
/// normalised too, so that a text which is nothing but such a token must stay as it is.
fn beginning(settings: &Settings, symbols: &[(usize, &str)]) -> String {
    let mut pattern = r"\A(?=[\s\S])".to_owned();
    let mut alone: Vec<String> = symbols.iter().map(|(_, text)| escaped(text)).collect();
    if !settings.legacy {
        let specials: Vec<String> =
            settings.added.values().filter(|token| token.special).map(|token| escaped(&token.content)).collect();
        if !specials.is_empty() {
            pattern += &format!("(?!{})", specials.join("|"));
        }
        alone.extend(settings.added.values().filter(|token| !token.special).map(|token| escaped(&token.content)));
    }
    if !alone.is_empty() {
        pattern += &format!(r"(?!(?:{})\z)", alone.join("|"));
    }
    pattern
}

/// A text for a regular expression that matches just it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_ascii_punctuation() && !matches!(character, '<' | '>' | '_') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn post_processor(settings: &Settings) -> Value {
    let content = |id: usize| settings.added.get(&id).map(|token| token.content.clone()).unwrap_or_default();
    let special = |id: usize| json!({"SpecialToken": {"id": content(id), "type_id": 0}});
    let template = |sequences: &[&str]| {
        let mut steps = Vec::new();
        for sequence in sequences {
            steps.extend(settings.before.map(special));
            steps.push(json!({"Sequence": {"id": sequence, "type_id": 0}}));
            steps.extend(settings.after.map(special));
        }
        steps
    };
    let tokens: Map<String, Value> = [settings.before, settings.after]
        .into_iter()
        .flatten()
        .map(|id| (content(id), json!({"id": content(id), "ids": [id], "tokens": [content(id)]})))
        .collect();
    json!({"type": "TemplateProcessing", "single": template(&["A"]), "pair": template(&["A", "B"]), "special_tokens": tokens})
}

fn bpe(model: &Model, settings: &Settings) -> Value {
    let vocabulary: Map<String, Value> =
        model.pieces.iter().enumerate().map(|(id, piece)| (piece.text().to_owned(), json!(id))).collect();
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": settings.unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": model.byte_fallback(),
        "ignore_merges": false,
        "vocab": vocabulary,
        "merges": merges(model),
    })
}

/// Every way to make a piece of two others, the piece of the highest score first, then by the numbers of piece, left and
/// right part.
fn merges(model: &Model) -> Vec<[&str; 2]> {
    let plain = |kind: PieceType| matches!(kind, PieceType::Normal | PieceType::UserDefined);
    let known: HashMap<&str, usize> =
        model.pieces.iter().enumerate().filter(|(_, piece)| plain(piece.kind())).map(|(id, piece)| (piece.text(), id)).collect();
    let mut found = Vec::new();
    for (id, piece) in model.pieces.iter().enumerate().filter(|(_, piece)| piece.kind() == PieceType::Normal) {
        let text = piece.text();
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(&left_id), Some(&right_id)) = (known.get(left), known.get(right)) {
                found.push((piece.score.unwrap_or(0.0), id, left_id, right_id, [left, right]));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    found.into_iter().map(|(.., pair)| pair).collect()
}

fn unigram(model: &Model, settings: &Settings) -> Value {
    let unknown = model.pieces.iter().position(|piece| piece.text() == settings.unknown);
    let vocabulary: Vec<Value> = model.pieces.iter().map(|piece| json!([piece.text(), piece.score.unwrap_or(0.0)])).collect();
    json!({"type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": model.byte_fallback()})
}
