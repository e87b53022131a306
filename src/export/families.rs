//! A checkpoint whose configuration was understood: which class of which repository it is.

use std::path::{Path, PathBuf};

use super::ExportError;
use super::architecture::LlavaArchitecture;
use super::checkpoint::CheckpointTensors;
use super::config::Config;
use super::files::CheckpointFiles;
use super::language_architecture::LanguageFamily;
use super::{hugging_face, original};
use crate::package::{SourceFormat, Tiling};

/// A checkpoint whose configuration was understood.
pub(super) struct Checkpoint {
    pub root: PathBuf,
    /// Kind and folders; `root` is where its configuration stands.
    pub files: CheckpointFiles,
    pub format: SourceFormat,
    pub model_type: String,
    /// Version of LLaVA, as far as the configuration tells it.
    pub version: Version,
    pub config: Config,
    /// Configuration of the language model: a nested object, or `config` itself.
    pub text_config: Config,
    pub architecture: LlavaArchitecture,
    /// Any-res tiling as the model's configuration says.
    pub tiling: Option<Tiling>,
    pub tensors: CheckpointTensors,
    /// Folder of the vision tower, if it has one of its own; its weights may stand in the checkpoint all the same.
    pub vision_tower: Option<PathBuf>,
}

/// Versions of LLaVA, as far as they differ in what a runner must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// April 2023: the image follows the question.
    V0,
    V1,
    V1_5,
    /// LLaVA-1.6.
    Next,
    OneVision,
    Interleave,
    MedV1_0,
    MedV1_5,
}

impl Version {
    /// The name in manifests and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::V0 => "v0",
            Self::V1 => "v1",
            Self::V1_5 => "1.5",
            Self::Next => "NeXT",
            Self::OneVision => "OneVision",
            Self::Interleave => "Interleave",
            Self::MedV1_0 => "Med v1.0",
            Self::MedV1_5 => "Med v1.5",
        }
    }
}

/// Class of a checkpoint, by the name that `architectures` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `LlavaForConditionalGeneration`.
    Llava,
    /// `LlavaNextForConditionalGeneration`.
    Next,
    /// `LlavaOnevisionForConditionalGeneration`.
    OneVision,
    /// `LlavaLlamaForCausalLM` and its siblings of the original repositories.
    Original(LanguageFamily),
}

const MODEL_TYPES: [&str; 6] = ["llava", "llava_llama", "llava_mistral", "llava_qwen", "llava_next", "llava_onevision"];
const CLASSES: [(&str, Class); 6] = [
    ("LlavaForConditionalGeneration", Class::Llava),
    ("LlavaNextForConditionalGeneration", Class::Next),
    ("LlavaOnevisionForConditionalGeneration", Class::OneVision),
    ("LlavaLlamaForCausalLM", Class::Original(LanguageFamily::Llama)),
    ("LlavaMistralForCausalLM", Class::Original(LanguageFamily::Mistral)),
    ("LlavaQwenForCausalLM", Class::Original(LanguageFamily::Qwen2)),
];

impl Checkpoint {
    /// Reads configuration and tensor headers; `vision_tower` is a CLIP or SigLIP checkpoint for those that hold none.
    pub fn read(files: &CheckpointFiles, vision_tower: Option<&Path>) -> Result<Self, ExportError> {
        let root = files.config_folder();
        let Some(config) = Config::read_if_present(root, "config.json")? else {
            let hint = ": a checkpoint is a folder with config.json and weight files".to_owned();
            return Err(ExportError::MissingFile { folder: root.to_path_buf(), name: "config.json".to_owned(), hint });
        };
        Self::of_config(files, config, vision_tower)
    }

    /// As [`read`](Self::read), with a configuration that was read already.
    pub fn of_config(files: &CheckpointFiles, config: Config, vision_tower: Option<&Path>) -> Result<Self, ExportError> {
        config.refuse_present("quantization_config", "weights that are not quantised")?;
        let model_type = config.one_of("model_type", "absent", &MODEL_TYPES)?;
        let class = class_of(&config, &model_type)?;
        match class {
            Class::Original(family) => original::read(files, config, model_type, family, vision_tower),
            _ => hugging_face::read(files, config, model_type, class, vision_tower),
        }
    }
}

/// The class that `architectures` names, or that the model type implies without it.
fn class_of(config: &Config, model_type: &str) -> Result<Class, ExportError> {
    if let Some(list) = config.get("architectures") {
        let first = list.as_array().and_then(|list| list.first()).and_then(|name| name.as_str());
        let first = first.ok_or_else(|| config.invalid("architectures", "a list of names"))?;
        let known = CLASSES.iter().find(|(name, _)| *name == first);
        let names = || CLASSES.map(|(name, _)| name).join(", ");
        return known.map(|(_, class)| *class).ok_or_else(|| config.unsupported("architectures", &names()));
    }
    // `llava` is the model type of both repositories.
    let nested = config.get("text_config").is_some() || config.get("vision_config").is_some();
    Ok(match model_type {
        "llava_next" => Class::Next,
        "llava_onevision" => Class::OneVision,
        "llava_mistral" => Class::Original(LanguageFamily::Mistral),
        "llava_qwen" => Class::Original(LanguageFamily::Qwen2),
        _ if nested => Class::Llava,
        _ => Class::Original(LanguageFamily::Llama),
    })
}
