//! The tokenizer of a CLIP checkpoint as one `tokenizer.json`, made as transformers makes its `CLIPTokenizer`
//! (`tokenization_clip.py`) where the checkpoint has `vocab.json` and `merges.txt` only.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::ExportError;
use super::super::config::Config;
use crate::guard::files::{read_capped, read_text_capped};

/// The file in the package.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Largest tokenizer file; CLIP's own has 2 MB.
const FILE_LIMIT_BYTES: u64 = 64 << 20;
/// Most tokens of a vocabulary.
const VOCABULARY_LIMIT: usize = 1 << 22;
/// Special tokens with CLIP's names for them.
const SPECIAL_TOKENS: [(&str, &str); 4] = [
    ("bos_token", "<|startoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
];
/// How a text is split before the byte pairs.
const SPLIT: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A checkpoint's tokenizer.
pub struct ClipTokenizerFile {
    /// The text of `tokenizer.json`; `None` when the checkpoint's own file stands as it is.
    pub written: Option<String>,
    /// `model_max_length`, where the checkpoint gives a sensible one.
    pub maximum_tokens: Option<usize>,
}

/// Reads the tokenizer of a checkpoint folder.
pub fn tokenizer_file(root: &Path) -> Result<ClipTokenizerFile, ExportError> {
    let config = Config::read_if_present(root, "tokenizer_config.json")?;
    let specials = special_tokens(root, config.as_ref())?;
    let own = root.join(TOKENIZER_FILE);
    let mut changed = false;
    let mut tokenizer = if own.is_file() {
        let wrong = |reason: String| ExportError::Json { path: own.clone(), reason };
        match serde_json::from_slice(&read_capped(&own, FILE_LIMIT_BYTES)?).map_err(|error| wrong(error.to_string()))? {
            Value::Object(tokenizer) => tokenizer,
            _ => return Err(wrong("its root is not an object".to_owned())),
        }
    } else {
        changed = true;
        from_vocabulary(root, &specials)?
    };
    changed |= add_special_tokens(&own, &mut tokenizer, &specials)?;
    let length = match &config {
        Some(config) => config.number("model_max_length")?,
        None => None,
    };
    Ok(ClipTokenizerFile {
        written: changed.then(|| Value::Object(tokenizer).to_string()),
        // Tokenizers without a limit have the number 10^30 here.
        maximum_tokens: length.filter(|length| (1.0..=65_536.0).contains(length)).map(|length| length as usize),
    })
}

/// A special token with its flags in `added_tokens`.
struct SpecialToken {
    /// Its key in the configuration.
    role: &'static str,
    content: String,
    flags: Map<String, Value>,
}

/// The checkpoint's special tokens: those of `tokenizer_config.json`, else of `special_tokens_map.json`, else CLIP's.
fn special_tokens(root: &Path, config: Option<&Config>) -> Result<Vec<SpecialToken>, ExportError> {
    let map = Config::read_if_present(root, "special_tokens_map.json")?;
    let mut tokens: Vec<SpecialToken> = Vec::new();
    for (key, usual) in SPECIAL_TOKENS {
        let given = [config, map.as_ref()].into_iter().flatten().find(|config| config.get(key).is_some());
        let (content, flags) = match given.and_then(|config| Some((config, config.get(key)?))) {
            None => (usual.to_owned(), flags(None)),
            Some((_, Value::String(content))) => (content.clone(), flags(None)),
            Some((config, Value::Object(token))) => match token.get("content").and_then(Value::as_str) {
                Some(content) => (content.to_owned(), flags(Some(token))),
                None => return Err(config.invalid(key, "a token with `content`")),
            },
            Some((config, _)) => return Err(config.invalid(key, "a text or a token with `content`")),
        };
        tokens.push(SpecialToken { role: key, content, flags });
    }
    Ok(tokens)
}

fn flags(token: Option<&Map<String, Value>>) -> Map<String, Value> {
    let flag = |name: &str| token.and_then(|token| token.get(name)).and_then(Value::as_bool).unwrap_or(false);
    ["single_word", "lstrip", "rstrip", "normalized"].into_iter().map(|name| (name.to_owned(), Value::Bool(flag(name)))).collect()
}

/// Adds the special tokens that the tokenizer does not list, as loading it in transformers does. Tells whether any was missing.
fn add_special_tokens(path: &Path, tokenizer: &mut Map<String, Value>, specials: &[SpecialToken]) -> Result<bool, ExportError> {
    let wrong = |reason: &str| ExportError::Json { path: path.to_path_buf(), reason: reason.to_owned() };
    let vocabulary = match tokenizer.get("model").and_then(|model| model.get("vocab")) {
        Some(Value::Object(vocabulary)) => vocabulary,
        _ => return Err(wrong("model.vocab is not an object, as a CLIP tokenizer has")),
    };
    let mut added = match tokenizer.get("added_tokens") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(added)) => added.clone(),
        Some(_) => return Err(wrong("added_tokens is not a list")),
    };
    let id_of = |token: &Value| token.get("id").and_then(Value::as_u64);
    let taken = vocabulary.values().filter_map(Value::as_u64).chain(added.iter().filter_map(id_of));
    let mut next = taken.max().map_or(0, |largest| largest.saturating_add(1));
    let before = added.len();
    for special in specials {
        let listed = |token: &Value| token.get("content").and_then(Value::as_str) == Some(special.content.as_str());
        if added.iter().any(listed) {
            continue;
        }
        let id = vocabulary.get(&special.content).and_then(Value::as_u64).unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        let mut token = Map::from_iter([("id".to_owned(), json!(id)), ("content".to_owned(), json!(special.content))]);
        token.extend(special.flags.clone());
        token.insert("special".to_owned(), Value::Bool(true));
        added.push(Value::Object(token));
    }
    if added.len() == before {
        return Ok(false);
    }
    added.sort_by_key(|token| id_of(token));
    tokenizer.insert("added_tokens".to_owned(), Value::Array(added));
    Ok(true)
}

/// A tokenizer of `vocab.json` and `merges.txt`.
fn from_vocabulary(root: &Path, specials: &[SpecialToken]) -> Result<Map<String, Value>, ExportError> {
    let (vocab_path, merges_path) = (root.join("vocab.json"), root.join("merges.txt"));
    for path in [&vocab_path, &merges_path] {
        if !path.is_file() {
            let hint = ": a CLIP checkpoint has tokenizer.json, or vocab.json and merges.txt".to_owned();
            return Err(ExportError::MissingFile { folder: root.to_path_buf(), name: TOKENIZER_FILE.to_owned(), hint });
        }
    }
    let wrong = |path: &Path, reason: String| ExportError::Json { path: path.to_path_buf(), reason };
    let vocabulary = match serde_json::from_slice(&read_capped(&vocab_path, FILE_LIMIT_BYTES)?) {
        Ok(Value::Object(vocabulary)) if !vocabulary.is_empty() && vocabulary.len() <= VOCABULARY_LIMIT => vocabulary,
        Ok(_) => return Err(wrong(&vocab_path, "expected an object of tokens and their ids".to_owned())),
        Err(error) => return Err(wrong(&vocab_path, error.to_string())),
    };
    if let Some((token, id)) = vocabulary.iter().find(|(_, id)| id.as_u64().is_none_or(|id| id > u64::from(u32::MAX))) {
        return Err(wrong(&vocab_path, format!("token {token:?} has the id {id}, expected a whole number")));
    }
    let mut merges = Vec::new();
    for (index, line) in read_text_capped(&merges_path, FILE_LIMIT_BYTES)?.lines().enumerate() {
        if line.trim().is_empty() || (index == 0 && line.starts_with("#version")) {
            continue;
        }
        let Some((left, right)) = line.split_once(' ').filter(|(_, right)| !right.contains(' ')) else {
            return Err(wrong(&merges_path, format!("line {}: expected two tokens, found {line:?}", index + 1)));
        };
        for part in [left.to_owned(), right.to_owned(), format!("{left}{right}")] {
            if !vocabulary.contains_key(&part) {
                return Err(wrong(&merges_path, format!("line {}: {part:?} is not in vocab.json", index + 1)));
            }
        }
        merges.push(json!([left, right]));
    }
    let special = |role: &str| -> Result<(&str, u64), ExportError> {
        let content = specials.iter().find(|special| special.role == role).map_or("", |special| special.content.as_str());
        match vocabulary.get(content).and_then(Value::as_u64) {
            Some(id) => Ok((content, id)),
            None => Err(wrong(&vocab_path, format!("the {role} {content:?} is not in it"))),
        }
    };
    let ((bos, bos_id), (eos, eos_id), (unknown, _)) = (special("bos_token")?, special("eos_token")?, special("unk_token")?);
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": "\\s+" }, "content": " " },
            { "type": "Lowercase" },
        ]},
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Removed", "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        ]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [eos, eos_id],
            "cls": [bos, bos_id],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    match tokenizer {
        Value::Object(tokenizer) => Ok(tokenizer),
        _ => Err(wrong(&vocab_path, "it makes no tokenizer".to_owned())),
    }
}
