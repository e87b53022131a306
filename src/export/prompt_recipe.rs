//! The prompt recipe of a checkpoint: template, special tokens and stop rules.

use serde_json::Value;

use super::ExportError;
use super::config::Config;
use super::families::{Checkpoint, Version};
use super::language_architecture::LanguageFamily;
use super::original::name_contains;
use super::sentencepiece;
use crate::guard::files::{read_capped, read_text_capped};
use crate::package::{CONVERSATIONS, PromptRecipe, PromptTemplate, SourceFormat, TokenizationMode};

/// File of the package for a template that the checkpoint keeps inside another file.
const TEMPLATE_FILE: &str = "prompt_template.jinja";
/// Largest tokenizer file that is read.
const TOKENIZER_LIMIT_BYTES: u64 = 64 << 20;
/// Largest chat template.
const TEMPLATE_LIMIT_BYTES: u64 = 1 << 20;

/// A recipe, and a file that has to be written beside it.
pub(super) struct DerivedPrompt {
    pub recipe: PromptRecipe,
    /// Name and text.
    pub template_file: Option<(String, String)>,
    /// `tokenizer.json`, where the checkpoint has only a SentencePiece model.
    pub tokenizer_file: Option<Vec<u8>>,
}

/// Derives the recipe; `conversation` names a template of LLaVA's own instead of the checkpoint's.
pub(super) fn prompt_recipe(checkpoint: &Checkpoint, conversation: Option<&str>) -> Result<DerivedPrompt, ExportError> {
    let tokenizer = Tokenizer::read(checkpoint)?;
    let processor = Config::read_if_present(&checkpoint.root, "processor_config.json")?;
    let (template, template_file) = template(checkpoint, processor.as_ref(), &tokenizer, conversation)?;
    let (tokenization, image_mark, image_token_id) = match checkpoint.format {
        SourceFormat::Original => (TokenizationMode::Chunks, "<image>".to_owned(), None),
        SourceFormat::HuggingFace => {
            let mark = match processor.as_ref().map(|config| config.text("image_token")).transpose()?.flatten() {
                Some(mark) => mark.to_owned(),
                None => "<image>".to_owned(),
            };
            let id = image_token_id(checkpoint)?;
            tokenizer.check_image_mark(&mark, id)?;
            (TokenizationMode::WholeString, mark, Some(id))
        }
    };
    let generation = Config::read_if_present(checkpoint.files.language_folder(), "generation_config.json")?;
    let mut stop_strings = match &template {
        PromptTemplate::Conversation(name) if name == "llava_v0" => vec!["###".to_owned()],
        PromptTemplate::Conversation(name) if name == "plain" => vec!["\n".to_owned()],
        _ => Vec::new(),
    };
    for text in generation.as_ref().map(generation_stop_strings).transpose()?.unwrap_or_default() {
        if !stop_strings.contains(&text) {
            stop_strings.push(text);
        }
    }
    let positions = checkpoint.architecture.llm.maximum_positions;
    let context_tokens = match checkpoint.format {
        SourceFormat::Original => checkpoint.config.positive("tokenizer_model_max_length", positions)?.min(positions),
        SourceFormat::HuggingFace => positions,
    };
    let recipe = PromptRecipe {
        template,
        tokenization,
        image_mark,
        image_token_id,
        image_start_end: checkpoint.format == SourceFormat::Original
            && checkpoint.config.flag("mm_use_im_start_end")?.unwrap_or(false),
        bos_token_id: tokenizer.bos(checkpoint)?,
        eos_token_ids: end_of_sequence(checkpoint, generation.as_ref(), &tokenizer)?,
        stop_strings,
        context_tokens,
    };
    Ok(DerivedPrompt { recipe, template_file, tokenizer_file: tokenizer.written })
}

/// `image_token_index`, which newer versions call `image_token_id`.
fn image_token_id(checkpoint: &Checkpoint) -> Result<u32, ExportError> {
    let config = &checkpoint.config;
    let key = if config.get("image_token_id").is_some() { "image_token_id" } else { "image_token_index" };
    let default = if checkpoint.version == Version::OneVision { 151_646 } else { 32000 };
    let id = config.size(key)?.unwrap_or(default);
    u32::try_from(id).map_err(|_| config.invalid(key, "a token id"))
}

/// The conversation template that the original repositories' scripts use for a checkpoint, of which transformers has those of
/// a model without a template of its own. They go by the name of its
/// folder; here its own configuration and tokenizer decide, so that a renamed folder is the same checkpoint.
fn original_conversation(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<&'static str, ExportError> {
    let has = |token: &str| tokenizer.id(token).is_some();
    Ok(match (checkpoint.architecture.llm.family, checkpoint.version) {
        (LanguageFamily::Qwen2, _) => "qwen_1_5",
        (LanguageFamily::Mistral, _) => "mistral_instruct",
        (LanguageFamily::Llama, Version::V0) => "simple",
        (LanguageFamily::Llama, Version::MedV1_0) => "llava_med_simple",
        (LanguageFamily::Llama, _) if has("<|start_header_id|>") && has("<|eot_id|>") => "llava_llama_3",
        // Yi-34B as Nous Hermes.
        (LanguageFamily::Llama, _) if has("<|im_start|>") && has("<|im_end|>") => "chatml_direct",
        (LanguageFamily::Llama, _) if name_contains(&checkpoint.config, "llama-2")? => "llava_llama_2",
        // The linear projector is that of LLaVA v1; its demos and evaluations then used this system prompt.
        (LanguageFamily::Llama, Version::V1) => "llava_v1",
        (LanguageFamily::Llama, _) => "vicuna_v1",
    })
}

fn template(
    checkpoint: &Checkpoint,
    processor: Option<&Config>,
    tokenizer: &Tokenizer,
    conversation: Option<&str>,
) -> Result<(PromptTemplate, Option<(String, String)>), ExportError> {
    let named = |name: &str| Ok((PromptTemplate::Conversation(name.to_owned()), None));
    if let Some(name) = conversation {
        if CONVERSATIONS.contains(&name) {
            return named(name);
        }
        return Err(ExportError::Unsupported {
            file: checkpoint.config.file().to_path_buf(),
            key: "--conversation".to_owned(),
            found: name.to_owned(),
            supported: CONVERSATIONS.join(", "),
        });
    }
    if checkpoint.format == SourceFormat::Original {
        return named(original_conversation(checkpoint, tokenizer)?);
    }
    let chat = |text: &str| {
        let template = PromptTemplate::ChatTemplate(TEMPLATE_FILE.to_owned());
        Ok((template, Some((TEMPLATE_FILE.to_owned(), text.to_owned()))))
    };
    // The order in which `LlavaProcessor.from_pretrained` looks, then its tokenizer.
    if let Some(text) = processor.map(|config| config.text("chat_template")).transpose()?.flatten() {
        return chat(text);
    }
    if let Some(config) = Config::read_if_present(&checkpoint.root, "chat_template.json")?
        && let Some(text) = config.text("chat_template")?
    {
        return chat(text);
    }
    const JINJA: &str = "chat_template.jinja";
    if checkpoint.root.join(JINJA).is_file() {
        read_text_capped(&checkpoint.root.join(JINJA), TEMPLATE_LIMIT_BYTES)?;
        return Ok((PromptTemplate::ChatTemplate(JINJA.to_owned()), None));
    }
    match tokenizer.chat_template()? {
        Some(text) => chat(&text),
        None => named(original_conversation(checkpoint, tokenizer)?),
    }
}

fn generation_stop_strings(config: &Config) -> Result<Vec<String>, ExportError> {
    let invalid = || config.invalid("stop_strings", "a text or a list of texts");
    match config.get("stop_strings") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) => list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(invalid)).collect(),
        Some(_) => Err(invalid()),
    }
}

/// Ids that end generation: those of the generation configuration, else of the model's, else of the tokenizer.
fn end_of_sequence(checkpoint: &Checkpoint, generation: Option<&Config>, tokenizer: &Tokenizer) -> Result<Vec<u32>, ExportError> {
    for config in generation.into_iter().chain([&checkpoint.text_config, &checkpoint.config]) {
        let invalid = || config.invalid("eos_token_id", "a token id or a list of token ids");
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(invalid);
        match config.get("eos_token_id") {
            None => {}
            Some(Value::Array(list)) => return list.iter().map(id).collect(),
            Some(value) => return Ok(vec![id(value)?]),
        }
    }
    // `</s>`, the default of `LlamaConfig`.
    Ok(vec![tokenizer.special("eos_token")?.unwrap_or(2)])
}

/// What the tokenizer's files say about special tokens.
struct Tokenizer {
    file: std::path::PathBuf,
    json: Value,
    config: Option<Config>,
    special_tokens: Option<Config>,
    /// The `tokenizer.json` that was made of a `tokenizer.model`.
    written: Option<Vec<u8>>,
}

impl Tokenizer {
    fn read(checkpoint: &Checkpoint) -> Result<Self, ExportError> {
        let (root, name) = (checkpoint.files.language_folder(), "tokenizer.json");
        let file = root.join(name);
        let written = (!file.is_file() && root.join(sentencepiece::MODEL_FILE).is_file())
            .then(|| sentencepiece::tokenizer_json(root))
            .transpose()?;
        let bytes = match &written {
            Some(bytes) => bytes.clone(),
            None if file.is_file() => read_capped(&file, TOKENIZER_LIMIT_BYTES)?,
            None => {
                let hint = " or tokenizer.model: the checkpoint has no tokenizer that the program reads".to_owned();
                return Err(ExportError::MissingFile { folder: root.to_path_buf(), name: name.to_owned(), hint });
            }
        };
        let json = serde_json::from_slice(&bytes)
            .map_err(|error| ExportError::Json { path: file.clone(), reason: error.to_string() })?;
        let file = if written.is_some() { root.join(sentencepiece::MODEL_FILE) } else { file };
        let config = Config::read_if_present(root, "tokenizer_config.json")?;
        let special_tokens = Config::read_if_present(root, "special_tokens_map.json")?;
        let tokenizer = Self { file, json, config, special_tokens, written };
        tokenizer.check_size(checkpoint)?;
        Ok(tokenizer)
    }

    /// The vocabulary, added tokens apart, must not be larger than the table of embeddings.
    fn check_size(&self, checkpoint: &Checkpoint) -> Result<(), ExportError> {
        let size = checkpoint.architecture.llm.vocabulary_size;
        let vocabulary = self.json.get("model").and_then(|model| model.get("vocab"));
        let largest = match vocabulary {
            Some(Value::Object(pieces)) => pieces.values().filter_map(Value::as_u64).max(),
            Some(Value::Array(pieces)) => (pieces.len() as u64).checked_sub(1),
            _ => None,
        };
        match largest {
            Some(largest) if largest >= size as u64 => Err(ExportError::Invalid {
                file: self.file.clone(),
                key: "largest token id".to_owned(),
                found: largest.to_string(),
                expected: format!("less than vocab_size = {size} of {}", checkpoint.text_config.file().display()),
            }),
            _ => Ok(()),
        }
    }

    /// The id of a token, added or in the vocabulary.
    fn id(&self, token: &str) -> Option<u32> {
        let added = self.json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let added = added.filter(|entry| entry.get("content").and_then(Value::as_str) == Some(token));
        let added = added.filter_map(|entry| entry.get("id").and_then(Value::as_u64)).next();
        let vocabulary = || self.json.get("model")?.get("vocab")?.get(token)?.as_u64();
        added.or_else(vocabulary).and_then(|id| u32::try_from(id).ok())
    }

    /// The image mark must be one added token with the id that the model replaces by image rows.
    fn check_image_mark(&self, mark: &str, id: u32) -> Result<(), ExportError> {
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
    fn special(&self, role: &str) -> Result<Option<u32>, ExportError> {
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
    fn bos(&self, checkpoint: &Checkpoint) -> Result<Option<u32>, ExportError> {
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
    fn chat_template(&self) -> Result<Option<String>, ExportError> {
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
