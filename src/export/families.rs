//! Reading the configuration of the two families of LLaVA checkpoints.

use std::path::{Path, PathBuf};

use super::ExportError;
use super::architecture::{ClipArchitecture, ClipDefaults, LlamaArchitecture, LlavaArchitecture, ProjectorArchitecture};
use super::checkpoint::CheckpointTensors;
use super::config::Config;
use crate::guard::files::contained;
use crate::package::SourceFormat;

/// A checkpoint whose configuration was understood.
pub(super) struct Checkpoint {
    pub root: PathBuf,
    pub format: SourceFormat,
    pub model_type: String,
    pub config: Config,
    /// Configuration of the language model: a nested object, or `config` itself.
    pub text_config: Config,
    pub architecture: LlavaArchitecture,
    pub tensors: CheckpointTensors,
    /// Folder of the separate vision tower, if there is one.
    pub vision_tower: Option<PathBuf>,
}

/// Where the tensors of a checkpoint come from.
type ReadTensors = fn(&Path, SourceFormat) -> Result<CheckpointTensors, ExportError>;

const ARCHITECTURES: &str = "LlavaForConditionalGeneration (transformers), LlavaLlamaForCausalLM (original LLaVA)";

impl Checkpoint {
    /// Reads configuration and tensor headers; `vision_tower` is a CLIP checkpoint for those that hold none.
    pub fn read(root: &Path, vision_tower: Option<&Path>) -> Result<Self, ExportError> {
        Self::read_with(root, vision_tower, CheckpointTensors::read)
    }

    /// Reads the configuration of a folder that holds no weights of its own, such as a package that another program wrote.
    pub fn read_configuration(root: &Path) -> Result<Self, ExportError> {
        Self::read_with(root, None, |root, format| Ok(CheckpointTensors::none(root, format)))
    }

    fn read_with(root: &Path, vision_tower: Option<&Path>, read_tensors: ReadTensors) -> Result<Self, ExportError> {
        let Some(config) = Config::read_if_present(root, "config.json")? else {
            let hint = ": a checkpoint is a folder with config.json and safetensors files".to_owned();
            return Err(ExportError::MissingFile { folder: root.to_path_buf(), name: "config.json".to_owned(), hint });
        };
        config.refuse_present("quantization_config", "weights that are not quantised")?;
        let model_type = config.one_of("model_type", "absent", &["llava", "llava_llama"])?;
        let architecture = match config.get("architectures") {
            None => None,
            Some(list) => {
                let first = list.as_array().and_then(|list| list.first()).and_then(|name| name.as_str());
                Some(first.ok_or_else(|| config.invalid("architectures", "a list of names"))?.to_owned())
            }
        };
        // `llava` is the model type of both families.
        let nested = config.get("text_config").is_some() || config.get("vision_config").is_some();
        let format = match architecture.as_deref() {
            Some("LlavaForConditionalGeneration") => SourceFormat::HuggingFace,
            Some("LlavaLlamaForCausalLM") => SourceFormat::Original,
            Some(_) => return Err(config.unsupported("architectures", ARCHITECTURES)),
            None if nested => SourceFormat::HuggingFace,
            None => SourceFormat::Original,
        };
        match format {
            SourceFormat::HuggingFace => Self::hugging_face(root, config, model_type, vision_tower, read_tensors),
            SourceFormat::Original => Self::original(root, config, model_type, vision_tower, read_tensors),
        }
    }

    fn hugging_face(
        root: &Path,
        config: Config,
        model_type: String,
        tower: Option<&Path>,
        read_tensors: ReadTensors,
    ) -> Result<Self, ExportError> {
        if let Some(tower) = tower {
            return Err(ExportError::Unsupported {
                file: config.file().to_path_buf(),
                key: "--vision-tower".to_owned(),
                found: tower.display().to_string(),
                supported: "a separate vision tower only for original LLaVA checkpoints; this one holds its own".to_owned(),
            });
        }
        let text_config = config.object("text_config")?.unwrap_or_else(|| Config::empty(config.file(), "text_config."));
        text_config.one_of("model_type", "llama", &["llama"])?;
        let flag = |config: &Config| config.flag("tie_word_embeddings").map(|tied| tied.unwrap_or(false));
        let tied = flag(&config)? || flag(&text_config)?;
        config.one_of("projector_hidden_act", "gelu", &["gelu"])?;
        let strategy = config.one_of("vision_feature_select_strategy", "default", &["default", "full"])?;
        let layer_key = "vision_feature_layer";
        if config.get(layer_key).is_some_and(serde_json::Value::is_array) {
            return Err(config.unsupported(layer_key, "one layer, not a list"));
        }
        let layer = config.integer(layer_key)?.unwrap_or(-2);
        let (vision_config, defaults) = match config.object("vision_config")? {
            Some(vision) => (vision, ClipDefaults::Base),
            None => (Config::empty(config.file(), "vision_config."), ClipDefaults::Large336),
        };
        let vision = ClipArchitecture::read(&vision_config, defaults, &config, layer_key, layer, strategy == "full")?;
        let bias = config.flag("multimodal_projector_bias")?.unwrap_or(true);
        let architecture = LlavaArchitecture {
            vision,
            projector: ProjectorArchitecture { two_layers: true, bias },
            llm: LlamaArchitecture::read(&text_config, tied)?,
        };
        let (format, root) = (SourceFormat::HuggingFace, root.to_path_buf());
        let tensors = read_tensors(&root, format)?;
        Ok(Self { root, format, model_type, config, text_config, architecture, tensors, vision_tower: None })
    }

    fn original(
        root: &Path,
        config: Config,
        model_type: String,
        tower: Option<&Path>,
        read_tensors: ReadTensors,
    ) -> Result<Self, ExportError> {
        let kind = config.one_of("mm_projector_type", "linear", &["linear", "mlp2x_gelu"])?;
        let select = config.one_of("mm_vision_select_feature", "patch", &["patch", "cls_patch"])?;
        let layer_key = "mm_vision_select_layer";
        let layer = config.integer(layer_key)?.unwrap_or(-2);
        if config.flag("s2")?.unwrap_or(false) {
            return Err(config.unsupported("s2", "false"));
        }
        let format = SourceFormat::Original;
        let mut tensors = read_tensors(root, format)?;
        let folder = match tower {
            Some(folder) => Some(folder.to_path_buf()),
            None => tower_beside(root, &config)?,
        };
        let (vision_config, defaults) = match &folder {
            Some(folder) => (tower_config(folder)?, ClipDefaults::Base),
            None => known_tower(&config)?,
        };
        // Weights inside the checkpoint were trained with it and stand for the tower; beside them, the folder only
        // gives the tower's configuration.
        let separate = folder.filter(|_| !tensors.has_vision_tower());
        if let (Some(tower), None) = (tower, &separate)
            && tower.join("model.safetensors").exists()
        {
            return Err(ExportError::Unsupported {
                file: config.file().to_path_buf(),
                key: "--vision-tower".to_owned(),
                found: tower.display().to_string(),
                supported: "no other vision tower, as this checkpoint holds its own weights for it".to_owned(),
            });
        }
        if let Some(folder) = &separate {
            tensors.add_vision_tower(folder)?;
        }
        let keeps_class = select == "cls_patch";
        let vision = ClipArchitecture::read(&vision_config, defaults, &config, layer_key, layer, keeps_class)?;
        let tied = config.flag("tie_word_embeddings")?.unwrap_or(false);
        let architecture = LlavaArchitecture {
            vision,
            projector: ProjectorArchitecture { two_layers: kind == "mlp2x_gelu", bias: true },
            llm: LlamaArchitecture::read(&config, tied)?,
        };
        let (text_config, root) = (config.clone(), root.to_path_buf());
        Ok(Self { root, format, model_type, config, text_config, architecture, tensors, vision_tower: separate })
    }
}

/// The folder that `mm_vision_tower` names, if it stands inside the checkpoint.
fn tower_beside(root: &Path, config: &Config) -> Result<Option<PathBuf>, ExportError> {
    let key = if config.get("mm_vision_tower").is_some() { "mm_vision_tower" } else { "vision_tower" };
    let Some(name) = config.text(key)? else { return Ok(None) };
    let Ok(folder) = contained(root, name) else { return Ok(None) };
    Ok(folder.join("config.json").is_file().then_some(folder))
}

/// The vision part of a CLIP checkpoint's configuration.
fn tower_config(folder: &Path) -> Result<Config, ExportError> {
    let Some(config) = Config::read_if_present(folder, "config.json")? else {
        let hint = ": a vision tower is a CLIP checkpoint of transformers".to_owned();
        return Err(ExportError::MissingFile { folder: folder.to_path_buf(), name: "config.json".to_owned(), hint });
    };
    if config.one_of("model_type", "clip_vision_model", &["clip_vision_model", "clip"])? == "clip_vision_model" {
        return Ok(config);
    }
    Ok(config.object("vision_config")?.unwrap_or_else(|| Config::empty(config.file(), "vision_config.")))
}

/// The tower of every LLaVA release, whose sizes are known; others must be given.
fn known_tower(config: &Config) -> Result<(Config, ClipDefaults), ExportError> {
    let key = "mm_vision_tower";
    match config.text(key)? {
        Some("openai/clip-vit-large-patch14-336") => Ok((Config::empty(config.file(), "vision_config."), ClipDefaults::Large336)),
        _ => Err(config.unsupported(
            key,
            "openai/clip-vit-large-patch14-336, a CLIP folder inside the checkpoint, or a CLIP folder given with --vision-tower",
        )),
    }
}
