//! The small files of a checkpoint: configuration, processors, generation, tokenizer, chat template, index of weights.

use serde_json::{Map, Value, json};

use super::super::families::{Checkpoint, Class};
use super::super::hugging_face::pinpoints;
use super::super::image_recipe::{CLIP_MEAN, CLIP_STD};
use super::super::language_architecture::LanguageFamily;
use super::super::vision_architecture::VisionFamily;
use super::SynthError;
use super::numbers::NumberType;
use super::shards::Shard;
use super::tensors::Tensor;
use crate::package::SourceFormat;

/// Words of the system text that every prompt begins with; with the first token 35 tokens, as LLaVA-1.5's prompts have.
const SYSTEM_WORDS: usize = 34;

/// The special tokens of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tokens {
    image: u32,
    begin: u32,
    end: u32,
    pad: u32,
    family: LanguageFamily,
    /// Rows of the embedding table.
    vocabulary: u32,
}

impl Tokens {
    /// Reads and checks them; LLaMA's where the configuration is silent.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, SynthError> {
        let config = &checkpoint.config;
        let fault = |message: String| SynthError::Tokens { file: config.file().to_path_buf(), message };
        let llm = &checkpoint.architecture.llm;
        let vocabulary = u32::try_from(llm.vocabulary_size).map_err(|_| fault("vocab_size is beyond any token id".to_owned()))?;
        let of = |keys: &[(&super::super::config::Config, &str)], default: u32| -> Result<u32, SynthError> {
            for (config, key) in keys {
                let value = match config.get(key) {
                    Some(Value::Array(list)) => list.first(),
                    other => other,
                };
                if let Some(value) = value {
                    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
                    return id.ok_or_else(|| config.invalid(key, "a token id").into());
                }
            }
            Ok(default)
        };
        let text = &checkpoint.text_config;
        let onevision = class_of(checkpoint) == Class::OneVision;
        let image = of(&[(config, "image_token_id"), (config, "image_token_index")], if onevision { 151_646 } else { 32_000 })?;
        let begin = of(&[(text, "bos_token_id"), (config, "bos_token_id")], 1)?;
        let end = of(&[(text, "eos_token_id"), (config, "eos_token_id")], 2)?;
        let pad = of(&[(config, "pad_token_id"), (text, "pad_token_id")], image.saturating_add(1))?;
        let tokens = Self { image, begin, end, pad, family: llm.family, vocabulary };
        for (name, id) in [("bos_token_id", begin), ("eos_token_id", end)] {
            if id >= vocabulary {
                return Err(fault(format!("{name} is {id}, expected less than vocab_size = {vocabulary}")));
            }
        }
        if [begin, end, pad].contains(&image) || end == begin || pad == end {
            return Err(fault(format!(
                "the image token {image}, bos_token_id {begin}, eos_token_id {end} and pad_token_id {pad} must be different tokens"
            )));
        }
        if tokens.words().nth(SYSTEM_WORDS).is_none() {
            let message = format!("a vocabulary of {vocabulary} with the image token {image} leaves too few words; 64 will do");
            return Err(fault(message));
        }
        Ok(tokens)
    }

    /// The token that every prompt begins with, if the family has one.
    pub fn first(&self) -> Option<u32> {
        (self.family != LanguageFamily::Qwen2).then_some(self.begin)
    }

    /// Name and id of the special tokens, by id.
    fn special(&self) -> Vec<(&'static str, u32)> {
        let [begin, end, pad] = match self.family {
            LanguageFamily::Qwen2 => ["<|endoftext|>", "<|im_end|>", "<|pad|>"],
            LanguageFamily::Llama | LanguageFamily::Mistral => ["<s>", "</s>", "<pad>"],
        };
        let mut special = vec![(begin, self.begin), (end, self.end), ("<image>", self.image)];
        if self.pad != self.begin {
            special.push((pad, self.pad));
        }
        if special.iter().all(|(_, id)| *id != 0) {
            special.push(("<unk>", 0));
        }
        special.sort_by_key(|(_, id)| *id);
        special
    }

    fn name_of(&self, wanted: u32) -> &'static str {
        self.special().into_iter().find(|(_, id)| *id == wanted).map_or("<unk>", |(name, _)| name)
    }

    /// Ids of ordinary words.
    fn words(&self) -> impl Iterator<Item = u32> + '_ {
        let special: Vec<u32> = self.special().into_iter().map(|(_, id)| id).collect();
        (0..self.vocabulary.min(self.image)).filter(move |id| !special.contains(id))
    }

    /// The text that every prompt begins with: words spread over the vocabulary.
    fn system_text(&self) -> String {
        let words: Vec<u32> = self.words().collect();
        let step = words.len() / (SYSTEM_WORDS + 1);
        let chosen = (1..=SYSTEM_WORDS).filter_map(|index| words.get(index * step.max(1)));
        chosen.map(|id| format!("w{id}")).collect::<Vec<_>>().join(" ")
    }
}

fn class_of(checkpoint: &Checkpoint) -> Class {
    match checkpoint.model_type.as_str() {
        "llava_next" => Class::Next,
        "llava_onevision" => Class::OneVision,
        _ => Class::Llava,
    }
}

/// Every small file by name.
pub(super) fn make(
    checkpoint: &Checkpoint,
    shards: &[Shard<'_>],
    number_type: NumberType,
) -> Result<Vec<(String, Vec<u8>)>, SynthError> {
    if checkpoint.format != SourceFormat::HuggingFace {
        let supported = "llava, llava_next or llava_onevision with vision_config and text_config, as transformers has them";
        return Err(checkpoint.config.unsupported("model_type", supported).into());
    }
    let tokens = Tokens::read(checkpoint)?;
    let class = class_of(checkpoint);
    let image = image_processor(checkpoint, class)?;
    let mut processor = json!({
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": checkpoint.architecture.vision.patch_size,
        "processor_class": match class {
            Class::Next => "LlavaNextProcessor",
            Class::OneVision => "LlavaOnevisionProcessor",
            _ => "LlavaProcessor",
        },
        "vision_feature_select_strategy": if checkpoint.architecture.vision.feature_select() == "patch" { "default" } else { "full" },
    });
    if let (Class::OneVision, Some(object)) = (class, processor.as_object_mut()) {
        object.insert("num_image_tokens".to_owned(), checkpoint.architecture.vision.tokens().into());
        object.insert("video_token".to_owned(), "<video>".into());
    }
    let generation = json!({
        "bos_token_id": tokens.begin, "do_sample": false, "eos_token_id": tokens.end, "pad_token_id": tokens.pad,
    });
    let mut files = vec![
        ("config.json".to_owned(), pretty(&Value::Object(checkpoint.config.values().clone()))),
        ("preprocessor_config.json".to_owned(), pretty(&image)),
        ("processor_config.json".to_owned(), pretty(&processor)),
        ("generation_config.json".to_owned(), pretty(&generation)),
        ("tokenizer_config.json".to_owned(), pretty(&tokenizer_config(checkpoint, &tokens))),
        ("tokenizer.json".to_owned(), tokenizer(&tokens).to_string().into_bytes()),
        ("chat_template.jinja".to_owned(), chat_template(&tokens).into_bytes()),
    ];
    if shards.len() > 1 {
        files.push(("model.safetensors.index.json".to_owned(), pretty(&index(shards, number_type))));
    }
    Ok(files)
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn image_processor(checkpoint: &Checkpoint, class: Class) -> Result<Value, SynthError> {
    let vision = &checkpoint.architecture.vision;
    let (side, siglip) = (vision.image_size, vision.family == VisionFamily::Siglip);
    let square = json!({ "height": side, "width": side });
    let [mean, std] = if siglip { [[0.5; 3]; 2] } else { [CLIP_MEAN, CLIP_STD] };
    let kind = match class {
        Class::Next => "LlavaNextImageProcessor",
        Class::OneVision => "LlavaOnevisionImageProcessor",
        _ if siglip => "SiglipImageProcessor",
        _ => "CLIPImageProcessor",
    };
    let exact = siglip || class == Class::OneVision;
    let mut values = json!({
        "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_mean": mean, "image_processor_type": kind, "image_std": std, "resample": 3, "rescale_factor": 1.0 / 255.0,
        "size": if exact { square.clone() } else { json!({ "shortest_edge": side }) },
    });
    let Some(object) = values.as_object_mut() else { return Ok(values) };
    if !exact {
        object.insert("crop_size".to_owned(), square);
        object.insert("do_center_crop".to_owned(), true.into());
    }
    if matches!(class, Class::Next | Class::OneVision) {
        object.insert("do_pad".to_owned(), true.into());
        object.insert("image_grid_pinpoints".to_owned(), json!(pinpoints(&checkpoint.config, class)?));
    }
    Ok(values)
}

fn tokenizer_config(checkpoint: &Checkpoint, tokens: &Tokens) -> Value {
    json!({
        "add_bos_token": tokens.first().is_some(),
        "bos_token": tokens.first().map(|id| tokens.name_of(id)),
        "clean_up_tokenization_spaces": false,
        "eos_token": tokens.name_of(tokens.end),
        "extra_special_tokens": { "image_token": "<image>" },
        "image_token": "<image>",
        "model_max_length": checkpoint.architecture.llm.maximum_positions,
        "pad_token": tokens.name_of(tokens.pad),
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens.name_of(0),
    })
}

/// A tokenizer by words: `w17` is token 17, and every word that is not of that form is the unknown one.
fn tokenizer(tokens: &Tokens) -> Value {
    let special = tokens.special();
    let mut vocabulary: Map<String, Value> = tokens.words().map(|id| (format!("w{id}"), id.into())).collect();
    for (name, id) in special.iter().filter(|(_, id)| *id < tokens.vocabulary.min(tokens.image)) {
        vocabulary.insert((*name).to_owned(), (*id).into());
    }
    let added: Vec<Value> = special
        .iter()
        .map(|(name, id)| {
            json!({
                "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": true,
            })
        })
        .collect();
    let post_processor = tokens.first().map(|id| {
        let name = tokens.name_of(id);
        let first = json!({ "SpecialToken": { "id": name, "type_id": 0 } });
        let part = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
        json!({
            "type": "TemplateProcessing",
            "single": [first, part("A")],
            "pair": [first, part("A"), part("B")],
            "special_tokens": { name: { "id": name, "ids": [id], "tokens": [name] } },
        })
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": post_processor, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": tokens.name_of(0) },
    })
}

fn chat_template(tokens: &Tokens) -> String {
    let system = tokens.system_text();
    format!(
        "{{{{ '{system} ' }}}}{{% for message in messages %}}{{% if message['content'] is string %}}{{{{ message['content'] + ' ' }}}}\
         {{% else %}}{{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}{{{{ '<image> ' }}}}{{% else %}}\
         {{{{ part['text'] + ' ' }}}}{{% endif %}}{{% endfor %}}{{% endif %}}{{% endfor %}}"
    )
}

/// Which tensor stands in which file.
fn index(shards: &[Shard<'_>], number_type: NumberType) -> Value {
    let mut places = Map::new();
    let mut parameters = 0_u64;
    for shard in shards {
        for tensor in &shard.tensors {
            places.insert(tensor.name.clone(), shard.name.clone().into());
            parameters = parameters.saturating_add(Tensor::count(tensor));
        }
    }
    let bytes = parameters.saturating_mul(number_type.bytes());
    json!({ "metadata": { "total_parameters": parameters, "total_size": bytes }, "weight_map": places })
}
