//! What the files beside a model say: special and added tokens, and how the prefix space is handled. The rules are those of
//! `PreTrainedTokenizer.from_pretrained` and `LlamaTokenizer` of transformers 4.37.2, the version that LLaVA pins.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::proto::{Model, PieceType};
use crate::export::ExportError;
use crate::export::config::Config;

/// Roles of special tokens whose value is one token.
const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Most added tokens; a real tokenizer has a few, or a thousand for grounding.
const ADDED_LIMIT: usize = 65_536;

/// A token that is cut out of the text before the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub content: String,
    pub special: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub single_word: bool,
}

/// Settings of the slow tokenizer.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Added tokens by id, those that are pieces of the model among them.
    pub added: BTreeMap<usize, AddedToken>,
    /// Every stretch between added tokens gets a prefix space, not only the beginning of the text.
    pub legacy: bool,
    pub add_prefix_space: bool,
    /// Ids put before and after a text.
    pub before: Option<usize>,
    pub after: Option<usize>,
    pub unknown: String,
}

impl Settings {
    /// Reads the files of a folder.
    pub fn read(folder: &Path, model: &Model) -> Result<Self, ExportError> {
        let file = folder.join("tokenizer_config.json");
        let config = Config::read_if_present(folder, "tokenizer_config.json")?.unwrap_or_else(|| Config::empty(&file, ""));
        config.one_of("tokenizer_class", "LlamaTokenizer", &["LlamaTokenizer", "LlamaTokenizerFast"])?;
        let size = model.pieces.len();
        let pieces: BTreeMap<&str, usize> = model.pieces.iter().enumerate().map(|(id, piece)| (piece.text(), id)).collect();
        let decoder = config.object("added_tokens_decoder")?;
        let map = match &decoder {
            // A tokenizer that lists its added tokens needs no other file.
            Some(_) => None,
            None => Config::read_if_present(folder, "special_tokens_map.json")?,
        };
        let defaults = [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
        let mut roles: BTreeMap<&str, AddedToken> =
            defaults.into_iter().map(|(role, content)| (role, AddedToken::special(content))).collect();
        let mut others = Vec::new();
        for source in [Some(&config), map.as_ref()].into_iter().flatten() {
            for role in ROLES {
                if let Some(value) = source.get(role) {
                    roles.insert(role, special_token(source, role, value)?);
                }
            }
            if let Some(list) = source.get("additional_special_tokens") {
                let list = list.as_array().ok_or_else(|| source.invalid("additional_special_tokens", "a list"))?;
                let tokens = list.iter().map(|value| special_token(source, "additional_special_tokens", value));
                others = tokens.collect::<Result<Vec<_>, _>>()?;
            }
        }
        let specials: Vec<AddedToken> = ROLES.iter().filter_map(|role| roles.get(role).cloned()).chain(others).collect();

        let mut added: BTreeMap<usize, AddedToken> = BTreeMap::new();
        let check_place = |source: &Config, key: &str, id: usize, content: &str| match (pieces.get(content), id < size) {
            (Some(&piece), _) if piece == id => Ok(()),
            (None, false) => Ok(()),
            (Some(piece), _) => Err(source.invalid(key, &format!("id {piece}, which the piece {content:?} of the model has"))),
            (None, true) => Err(source.invalid(key, &format!("an id of at least {size}, as the model has {size} pieces"))),
        };
        if let Some(decoder) = &decoder {
            for key in decoder.keys() {
                let id = key.parse::<usize>().map_err(|_| decoder.invalid(key, "a token id as key"))?;
                let token = decoder.object(key)?.ok_or_else(|| decoder.invalid(key, "an object"))?;
                let flag = |name: &str| token.flag(name).map(|flag| flag.unwrap_or(false));
                let content = token.text("content")?.ok_or_else(|| token.invalid("content", "a text"))?.to_owned();
                check_place(decoder, key, id, &content)?;
                let special = flag("special")? || specials.iter().any(|special| special.content == content);
                let token = AddedToken {
                    content,
                    special,
                    lstrip: flag("lstrip")?,
                    rstrip: flag("rstrip")?,
                    single_word: flag("single_word")?,
                };
                added.insert(id, token);
            }
        } else if let Some(listed) = Config::read_if_present(folder, "added_tokens.json")? {
            for content in listed.keys() {
                let id = listed.size(content)?.ok_or_else(|| listed.invalid(content, "a token id"))?;
                check_place(&listed, content, id, content)?;
                let special = specials.iter().any(|special| special.content == content);
                let token = AddedToken { special, ..AddedToken::special(content) };
                if let Some(first) = added.insert(id, token) {
                    return Err(listed.invalid(content, &format!("another id than that of {:?}", first.content)));
                }
            }
        }
        // Special tokens without an id get the next ones.
        for token in specials {
            if added.values().any(|known| known.content == token.content) {
                continue;
            }
            let next = added.keys().next_back().map_or(size, |&last| size.max(last + 1));
            let id = pieces.get(token.content.as_str()).copied().unwrap_or(next);
            added.insert(id, token);
        }
        check_ids(&config, &added, size)?;
        let id = |role: &str| {
            let content = roles.get(role).map(|token| token.content.as_str());
            added.iter().find(|(_, token)| Some(token.content.as_str()) == content).map(|(&id, _)| id)
        };
        let add = |key: &str, default: bool| config.flag(key).map(|flag| flag.unwrap_or(default));
        Ok(Self {
            legacy: config.flag("legacy")?.unwrap_or(true),
            add_prefix_space: config.flag("add_prefix_space")?.unwrap_or(true),
            before: if add("add_bos_token", true)? { id("bos_token") } else { None },
            after: if add("add_eos_token", false)? { id("eos_token") } else { None },
            unknown: unknown_piece(model),
            added,
        })
    }
}

impl AddedToken {
    fn special(content: &str) -> Self {
        Self { content: content.to_owned(), special: true, lstrip: false, rstrip: false, single_word: false }
    }
}

/// Ids beyond the model's pieces must follow on each other; anything else is a tokenizer of another model.
fn check_ids(config: &Config, added: &BTreeMap<usize, AddedToken>, size: usize) -> Result<(), ExportError> {
    let file = config.file().to_path_buf();
    if added.len() > ADDED_LIMIT {
        let (key, found) = ("added tokens".to_owned(), added.len().to_string());
        return Err(ExportError::Invalid { file, key, found, expected: format!("at most {ADDED_LIMIT}") });
    }
    for ((id, token), expected) in added.range(size..).zip(size..) {
        if *id != expected || token.content.is_empty() {
            let (key, found) = (format!("added token {:?}", token.content), id.to_string());
            let expected = format!("a text with id {expected}, the next after tokenizer.model's {size} pieces");
            return Err(ExportError::Invalid { file, key, found, expected });
        }
    }
    Ok(())
}

/// A special token: a text, or an object with its flags.
fn special_token(source: &Config, key: &str, value: &Value) -> Result<AddedToken, ExportError> {
    let invalid = || source.invalid(key, "a text, or an object with content");
    match value {
        Value::String(content) => Ok(AddedToken::special(content)),
        Value::Object(fields) => {
            let content = fields.get("content").and_then(Value::as_str).ok_or_else(invalid)?;
            let flag = |name: &str| fields.get(name).and_then(Value::as_bool).unwrap_or(false);
            Ok(AddedToken {
                lstrip: flag("lstrip"),
                rstrip: flag("rstrip"),
                single_word: flag("single_word"),
                ..AddedToken::special(content)
            })
        }
        _ => Err(invalid()),
    }
}

/// The piece for what the model does not know.
fn unknown_piece(model: &Model) -> String {
    let piece = model.pieces.iter().find(|piece| piece.kind() == PieceType::Unknown);
    piece.map_or_else(|| "<unk>".to_owned(), |piece| piece.text().to_owned())
}
