//! Reading the configuration of transformers' LLaVA classes (`modeling_llava.py`, `modeling_llava_next.py`,
//! `modeling_llava_onevision.py`).

use std::path::Path;

use super::ExportError;
use super::architecture::{LlavaArchitecture, ProjectorArchitecture, ProjectorKind};
use super::checkpoint::CheckpointTensors;
use super::config::Config;
use super::families::{Checkpoint, Class, Version};
use super::files::CheckpointFiles;
use super::language_architecture::{LanguageFamily, LlamaArchitecture};
use super::tiling::{Ratio, check_pinpoints, pinpoint_list, ratio_of};
use super::vision_architecture::{FeatureSelection, VisionArchitecture, VisionDefaults, VisionFamily, defaults_of};
use crate::package::{SourceFormat, TileMerge, TileOrder, Tiling, UnpadRounding};

/// Reads a checkpoint of one of the classes of transformers.
pub(super) fn read(
    files: &CheckpointFiles,
    config: Config,
    model_type: String,
    class: Class,
    tower: Option<&Path>,
) -> Result<Checkpoint, ExportError> {
    if let Some(tower) = tower {
        return Err(ExportError::Unsupported {
            file: config.file().to_path_buf(),
            key: "--vision-tower".to_owned(),
            found: tower.display().to_string(),
            supported: "a separate vision tower only for original LLaVA checkpoints; this one holds its own".to_owned(),
        });
    }
    let one_vision = class == Class::OneVision;
    let text_config = config.object("text_config")?.unwrap_or_else(|| Config::empty(config.file(), "text_config."));
    let text_type = if one_vision { "qwen2" } else { "llama" };
    let family = LanguageFamily::of(&text_config.one_of("model_type", text_type, &LanguageFamily::MODEL_TYPES)?);
    let flag = |config: &Config| config.flag("tie_word_embeddings").map(|tied| tied.unwrap_or(false));
    // LlavaNextConfig does not take the flag over from the language model's configuration, as the others do.
    let tied = flag(&config)? || (class != Class::Next && flag(&text_config)?);
    config.one_of("projector_hidden_act", "gelu", &["gelu"])?;
    let vision = vision(&config, class)?;
    let tiled = class != Class::Llava;
    let bias = config.flag("multimodal_projector_bias")?.unwrap_or(true);
    let tiling = if tiled { Some(tiling(&config, class, vision.image_size)?) } else { None };
    let version = match (class, vision.family) {
        (Class::Next, _) => Version::Next,
        (Class::OneVision, _) => Version::OneVision,
        (_, VisionFamily::Siglip) => Version::Interleave,
        (_, VisionFamily::Clip) => Version::V1_5,
    };
    let architecture = LlavaArchitecture {
        vision,
        projector: ProjectorArchitecture { kind: ProjectorKind::Mlp(2), bias, newline: tiled },
        llm: LlamaArchitecture::read(&text_config, family, tied)?,
    };
    let format = SourceFormat::HuggingFace;
    let tensors = CheckpointTensors::read(files, format)?;
    let (root, files) = (files.config_folder().to_path_buf(), files.clone());
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
        vision_tower: None,
    })
}

fn vision(config: &Config, class: Class) -> Result<VisionArchitecture, ExportError> {
    let one_vision = class == Class::OneVision;
    let (strategy_key, layer_key) = ("vision_feature_select_strategy", "vision_feature_layer");
    let strategy = config.one_of(strategy_key, if one_vision { "full" } else { "default" }, &["default", "full"])?;
    if config.get(layer_key).is_some_and(serde_json::Value::is_array) {
        return Err(config.unsupported(layer_key, "one layer, not a list"));
    }
    let layer = config.integer(layer_key)?.unwrap_or(if one_vision { -1 } else { -2 });
    let (absent_family, absent) = match one_vision {
        true => (VisionFamily::Siglip, VisionDefaults::SiglipSo400m(26)),
        false => (VisionFamily::Clip, VisionDefaults::ClipLarge(336)),
    };
    let (vision_config, defaults) = match config.object("vision_config")? {
        Some(vision) => {
            let defaults = defaults_of(&vision, absent_family)?;
            (vision, defaults)
        }
        None => (Config::empty(config.file(), "vision_config."), absent),
    };
    let keeps_class_token = strategy == "full";
    let selection = FeatureSelection { config, key: layer_key, layer, keeps_class_token };
    let vision = VisionArchitecture::read(&vision_config, defaults, &selection)?;
    match vision.family {
        VisionFamily::Siglip if !keeps_class_token => {
            Err(config.unsupported(strategy_key, "full, as a SigLIP tower has no class token to drop"))
        }
        VisionFamily::Clip if keeps_class_token && class != Class::Llava => {
            Err(config.unsupported(strategy_key, "default, as a class token has no place in a grid of tiles"))
        }
        _ => Ok(vision),
    }
}

/// The tiling that LlavaNext and LlavaOnevision hard-code, but for the sizes and the limit.
fn tiling(config: &Config, class: Class, tile: usize) -> Result<Tiling, ExportError> {
    // transformers has read this key once, and never done anything with it.
    if config.flag("use_image_newline_parameter")? == Some(false) {
        return Err(config.unsupported("use_image_newline_parameter", "true"));
    }
    let one_vision = class == Class::OneVision;
    let maximum_tiles = match one_vision {
        false => None,
        true => match ratio_of(config, "vision_aspect_ratio", "anyres_max_9")? {
            Ratio::AnyResMaximum(tiles) => Some(tiles),
            _ => return Err(config.unsupported("vision_aspect_ratio", "anyres_max_N")),
        },
    };
    let pinpoints = pinpoints(config, class)?;
    check_pinpoints(config, "image_grid_pinpoints", &pinpoints, tile)?;
    Ok(Tiling {
        pinpoints,
        tile: u32::try_from(tile).unwrap_or(u32::MAX),
        only_single_images: one_vision,
        merge: TileMerge {
            order: TileOrder::SpatialUnpad,
            base_view: true,
            newline: true,
            maximum_tiles,
            max_pool: false,
            unpad_rounding: UnpadRounding::SevenDigits,
        },
    })
}

/// `image_grid_pinpoints` `[height, width]` of a model's or an image processor's configuration, or the class's default.
pub(super) fn pinpoints(config: &Config, class: Class) -> Result<Vec<[u32; 2]>, ExportError> {
    if let Some(value) = config.get("image_grid_pinpoints") {
        let expected = "a list of [height, width]";
        return pinpoint_list(value).ok_or_else(|| config.invalid("image_grid_pinpoints", expected));
    }
    Ok(match class {
        Class::OneVision => (1..=6).flat_map(|rows| (1..=6).map(move |columns| [rows * 384, columns * 384])).collect(),
        _ => vec![[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    })
}
