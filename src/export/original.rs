//! Reading the configuration of the original LLaVA and LLaVA-NeXT repositories (`llava_arch.py`, `multimodal_encoder/`,
//! `multimodal_projector/builder.py`), and of LLaVA-Med, which is built on them.

use std::path::{Path, PathBuf};

use super::ExportError;
use super::architecture::{LlavaArchitecture, ProjectorArchitecture, ProjectorKind};
use super::checkpoint::CheckpointTensors;
use super::config::Config;
use super::families::{Checkpoint, Version};
use super::files::CheckpointFiles;
use super::language_architecture::{LanguageFamily, LlamaArchitecture};
use super::tiling::original_tiling;
use super::vision_architecture::{FeatureSelection, VisionArchitecture, VisionDefaults, VisionFamily, defaults_of};
use super::weight_files::holds_weights;
use crate::guard::files::contained;
use crate::package::SourceFormat;

/// Most linear layers of a projector. Published ones have up to three.
const PROJECTOR_LAYER_LIMIT: usize = 16;

/// Reads a checkpoint of an original repository; `tower` is a CLIP or SigLIP checkpoint for those that hold none.
pub(super) fn read(
    files: &CheckpointFiles,
    config: Config,
    model_type: String,
    family: LanguageFamily,
    tower: Option<&Path>,
) -> Result<Checkpoint, ExportError> {
    let root = files.config_folder();
    for (key, supported) in [("s2", "false"), ("mm_use_s2", "false")] {
        if config.flag(key)?.unwrap_or(false) {
            return Err(config.unsupported(key, supported));
        }
    }
    config.refuse_present("mm_resampler_type", "a projector without a resampler")?;
    let kind = projector_kind(&config)?;
    let format = SourceFormat::Original;
    let mut tensors = CheckpointTensors::read(files, format)?;
    let folder = match tower {
        Some(folder) => Some(folder.to_path_buf()),
        None => tower_beside(root, &config)?,
    };
    let (vision_config, defaults) = match &folder {
        Some(folder) => tower_config(folder)?,
        None => known_tower(&config)?,
    };
    // Weights inside the checkpoint were trained with it and stand for the tower; beside them, the folder only gives the
    // tower's configuration.
    let separate = folder.clone().filter(|_| !tensors.has_vision_tower());
    if let (Some(tower), None) = (tower, &separate)
        && holds_weights(tower)
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
    let vision = vision(&config, &vision_config, defaults, is_v0(&config, kind)?)?;
    // The scripts of LLaVA and LLaVA-Med give images of one tile as one tensor, those of LLaVA-NeXT, which alone has Qwen,
    // as a list.
    let tiling = original_tiling(&config, vision.image_size, family == LanguageFamily::Qwen2)?;
    if vision.keeps_class_token && tiling.is_some() {
        let supported = "patch, as a class token has no place in a grid of tiles";
        return Err(config.unsupported("mm_vision_select_feature", supported));
    }
    let tied = config.flag("tie_word_embeddings")?.unwrap_or(false);
    let newline = tiling.as_ref().is_some_and(|tiling| tiling.merge.newline);
    let version = version(&config, family, kind, &vision, tiling.as_ref().map(|tiling| tiling.only_single_images))?;
    let architecture = LlavaArchitecture {
        vision,
        projector: ProjectorArchitecture { kind, bias: true, newline },
        llm: LlamaArchitecture::read(&config, family, tied)?,
    };
    if kind == ProjectorKind::Identity && architecture.vision.hidden_size != architecture.llm.hidden_size {
        let expected = format!("{}, the tower's width, as mm_projector_type is identity", architecture.vision.hidden_size);
        return Err(config.invalid("hidden_size", &expected));
    }
    let (text_config, root, files) = (config.clone(), root.to_path_buf(), files.clone());
    Ok(Checkpoint {
        root,
        files,
        format,
        model_type,
        version,
        config,
        text_config,
        architecture,
        tiling,
        tensors,
        vision_tower: folder,
    })
}

/// `mm_projector_type`: `linear`, `mlpNx_gelu` or `identity`.
fn projector_kind(config: &Config) -> Result<ProjectorKind, ExportError> {
    let key = "mm_projector_type";
    let found = config.text(key)?.unwrap_or("linear");
    let layers = || found.strip_prefix("mlp")?.strip_suffix("x_gelu")?.parse::<usize>().ok();
    match found {
        "linear" => Ok(ProjectorKind::Linear),
        "identity" => Ok(ProjectorKind::Identity),
        _ => match layers() {
            Some(layers @ 1..=PROJECTOR_LAYER_LIMIT) => Ok(ProjectorKind::Mlp(layers)),
            _ => Err(config.unsupported(key, "linear, mlpNx_gelu such as mlp2x_gelu, identity")),
        },
    }
}

/// Whether this is a checkpoint of the first release: it marks images with two tokens, and was written before there was a
/// key for the third.
fn is_v0(config: &Config, kind: ProjectorKind) -> Result<bool, ExportError> {
    let marked = config.flag("mm_use_im_start_end")?.unwrap_or(false) && config.get("mm_use_im_patch_token").is_none();
    Ok(kind == ProjectorKind::Linear && marked && !name_contains(config, "v1")?)
}

/// Whether the name under which the checkpoint was last loaded contains a word.
pub(super) fn name_contains(config: &Config, word: &str) -> Result<bool, ExportError> {
    Ok(config.text("_name_or_path")?.is_some_and(|name| name.to_lowercase().contains(word)))
}

fn vision(config: &Config, tower: &Config, defaults: VisionDefaults, v0: bool) -> Result<VisionArchitecture, ExportError> {
    let key = "mm_vision_select_layer";
    // The first release took the last layer where the key is absent; all later ones write it.
    let layer = config.integer(key)?.unwrap_or(if v0 { -1 } else { -2 });
    if matches!(defaults, VisionDefaults::SiglipBase | VisionDefaults::SiglipSo400m(_)) {
        // `siglip_encoder.py` removes the last layer and takes the output of the one before, whatever the keys say.
        let selection = FeatureSelection { config, key, layer: -2, keeps_class_token: true };
        return VisionArchitecture::read(tower, defaults, &selection);
    }
    let select = config.one_of("mm_vision_select_feature", "patch", &["patch", "cls_patch"])?;
    let keeps_class_token = select == "cls_patch";
    VisionArchitecture::read(tower, defaults, &FeatureSelection { config, key, layer, keeps_class_token })
}

fn version(
    config: &Config,
    family: LanguageFamily,
    kind: ProjectorKind,
    vision: &VisionArchitecture,
    tiled: Option<bool>,
) -> Result<Version, ExportError> {
    if name_contains(config, "llava-med")? || name_contains(config, "llava_med")? {
        return Ok(if family == LanguageFamily::Mistral { Version::MedV1_5 } else { Version::MedV1_0 });
    }
    Ok(match tiled {
        Some(true) => Version::OneVision,
        Some(false) => Version::Next,
        None if vision.family == VisionFamily::Siglip => Version::Interleave,
        None if is_v0(config, kind)? => Version::V0,
        None if kind == ProjectorKind::Linear => Version::V1,
        None => Version::V1_5,
    })
}

/// The folder that `mm_vision_tower` names, if it stands inside the checkpoint.
fn tower_beside(root: &Path, config: &Config) -> Result<Option<PathBuf>, ExportError> {
    let key = if config.get("mm_vision_tower").is_some() { "mm_vision_tower" } else { "vision_tower" };
    let Some(name) = config.text(key)? else { return Ok(None) };
    let Ok(folder) = contained(root, name) else { return Ok(None) };
    Ok(folder.join("config.json").is_file().then_some(folder))
}

/// The vision part of a CLIP or SigLIP checkpoint's configuration.
fn tower_config(folder: &Path) -> Result<(Config, VisionDefaults), ExportError> {
    let Some(config) = Config::read_if_present(folder, "config.json")? else {
        let hint = ": a vision tower is a CLIP or SigLIP checkpoint of transformers".to_owned();
        return Err(ExportError::MissingFile { folder: folder.to_path_buf(), name: "config.json".to_owned(), hint });
    };
    let kinds = ["clip_vision_model", "clip", "siglip_vision_model", "siglip"];
    let kind = config.one_of("model_type", "clip_vision_model", &kinds)?;
    let family = if kind.starts_with("siglip") { VisionFamily::Siglip } else { VisionFamily::Clip };
    let vision = match kind.ends_with("_vision_model") {
        true => config,
        false => config.object("vision_config")?.unwrap_or_else(|| Config::empty(config.file(), "vision_config.")),
    };
    let defaults = defaults_of(&vision, family)?;
    Ok((vision, defaults))
}

/// The towers of LLaVA's releases, whose sizes are known; others must be given.
fn known_tower(config: &Config) -> Result<(Config, VisionDefaults), ExportError> {
    let key = "mm_vision_tower";
    let defaults = match config.text(key)? {
        Some("openai/clip-vit-large-patch14-336") => VisionDefaults::ClipLarge(336),
        Some("openai/clip-vit-large-patch14") => VisionDefaults::ClipLarge(224),
        Some("google/siglip-so400m-patch14-384") => VisionDefaults::SiglipSo400m(27),
        _ => {
            return Err(config.unsupported(
                key,
                "openai/clip-vit-large-patch14-336, openai/clip-vit-large-patch14, google/siglip-so400m-patch14-384, \
                 a CLIP or SigLIP folder inside the checkpoint, or one given with --vision-tower",
            ));
        }
    };
    Ok((Config::empty(config.file(), "vision_config."), defaults))
}
