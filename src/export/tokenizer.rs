//! What a checkpoint's tokenizer files say about special tokens.

use serde_json::Value;

use super::ExportError;
use super::config::Config;
use super::families::Checkpoint;
use crate::guard::files::read_capped;
use crate::package::SourceFormat;

/// Largest tokenizer file that is read.
const TOKENIZER_LIMIT_BYTES: u64 = 64 << 20;

/// What the tokenizer's files say about special tokens.
pub(super) struct Tokenizer {
    file: std::path::PathBuf,
    json: Value,
    config: Option<Config>,
    special_tokens: Option<Config>,
}

impl Tokenizer {
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, ExportError> {
        let (root, name) = (&checkpoint.root, "tokenizer.json");
        let file = root.join(name);
        if !file.is_file() {
            let hint = if root.join("tokenizer.model").is_file() {
                ": it has a SentencePiece tokenizer.model only; \
                 transformers writes tokenizer.json with AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            } else {
                ""
            };
            return Err(ExportError::MissingFile { folder: root.clone(), name: name.to_owned(), hint: hint.to_owned() });
        }
        let bytes = read_capped(&file, TOKENIZER_LIMIT_BYTES)?;
        let json = serde_json::from_slice(&bytes)
            .map_err(|error| ExportError::Json { path: file.clone(), reason: error.to_string() })?;
        let config = Config::read_if_present(root, "tokenizer_config.json")?;
        let special_tokens = Config::read_if_present(root, "special_tokens_map.json")?;
        Ok(Self { file, json, config, special_tokens })
    }

    /// The id of a token, added or in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        let added = self.json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let added = added.filter(|entry| entry.get("content").and_then(Value::as_str) == Some(token));
        let added = added.filter_map(|entry| entry.get("id").and_then(Value::as_u64)).next();
        let vocabulary = || self.json.get("model")?.get("vocab")?.get(token)?.as_u64();
        added.or_else(vocabulary).and_then(|id| u32::try_from(id).ok())
    }

    /// The image mark must be one added token with the id that the model replaces by image rows.
    pub fn check_image_mark(&self, mark: &str, id: u32) -> Result<(), ExportError> {
        let found = self.json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let found = found.filter(|entry| entry.get("content").and_then(Value::as_str) == Some(mark));
        let ids: Vec<u64> = found.filter_map(|entry| entry.get("id").and_then(Value::as_u64)).collect();
        if ids == [u64::from(id)] {
            return Ok(());
        }
        Err(ExportError::Invalid {
            file: self.file.clone(),
            key: format!("added token {mark:?}"),
            found: ids.first().map_or_else(|| "absent".to_owned(), u64::to_string),
            expected: format!("id {id}, as config.json says"),
        })
    }

    /// The id of a special token by role (`bos_token`, `eos_token`), as the tokenizer's configuration names it.
    pub fn special(&self, role: &str) -> Result<Option<u32>, ExportError> {
        for config in self.config.iter().chain(&self.special_tokens) {
            let text = match config.get(role) {
                None => continue,
                Some(Value::String(text)) => text.clone(),
                Some(_) => {
                    let token = config.object(role)?;
                    let content = token.as_ref().map(|token| token.text("content")).transpose()?.flatten();
                    content.ok_or_else(|| config.invalid(role, "a text, or an object with content"))?.to_owned()
                }
            };
            return self.id(&text).map(Some).ok_or_else(|| config.invalid(role, "a token of tokenizer.json"));
        }
        Ok(None)
    }

    /// The beginning-of-sequence token, if the tokenizer puts one before a text.
    pub fn bos(&self, checkpoint: &Checkpoint) -> Result<Option<u32>, ExportError> {
        if checkpoint.format == SourceFormat::Original {
            // `tokenizer_image_token` relies on LLaMA's, which always does.
            return self.special("bos_token").map(|id| id.or_else(|| self.id("<s>")));
        }
        let Some(id) = self.special("bos_token")? else { return Ok(None) };
        let added = match &self.config {
            Some(config) => config.flag("add_bos_token")?,
            None => None,
        };
        Ok(added.unwrap_or_else(|| self.post_processor_adds(id)).then_some(id))
    }

    /// Whether the post-processor's template for one text begins with this token.
    fn post_processor_adds(&self, id: u32) -> bool {
        fn templates<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
            match value.get("type").and_then(Value::as_str) {
                Some("TemplateProcessing") => found.push(value),
                Some("Sequence") => {
                    value
                        .get("processors")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                        .for_each(|part| templates(part, found));
                }
                _ => {}
            }
        }
        let mut found = Vec::new();
        self.json.get("post_processor").into_iter().for_each(|value| templates(value, &mut found));
        found.iter().any(|template| {
            let first = template.get("single").and_then(|single| single.get(0)).and_then(|first| first.get("SpecialToken"));
            let name = first.and_then(|token| token.get("id")).and_then(Value::as_str);
            name.and_then(|name| self.id(name)) == Some(id)
        })
    }

    /// The tokenizer's own chat template; of several, the one called `default`.
    pub fn chat_template(&self) -> Result<Option<String>, ExportError> {
        let Some(config) = &self.config else { return Ok(None) };
        match config.get("chat_template") {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Array(list)) => {
                let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
                let text = list.iter().find(named).and_then(|entry| entry.get("template")).and_then(Value::as_str);
                text.map(|text| Some(text.to_owned())).ok_or_else(|| config.invalid("chat_template", "a list with a default"))
            }
            Some(_) => Err(config.invalid("chat_template", "a text or a list of named texts")),
        }
    }
}
