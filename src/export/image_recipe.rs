//! The image recipe of a checkpoint, from its processor's configuration.

use serde_json::Value;

use super::ExportError;
use super::config::Config;
use super::families::Checkpoint;
use crate::package::{AspectMode, ImageRecipe, Resample, ResizeRule, SourceFormat};

/// Mean of the images that CLIP was trained on, `OPENAI_CLIP_MEAN` of transformers.
pub(super) const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Standard deviation of the images that CLIP was trained on, `OPENAI_CLIP_STD` of transformers.
pub(super) const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Derives the recipe; `aspect` overrides how images that are not square are fitted.
pub(super) fn image_recipe(checkpoint: &Checkpoint, aspect: Option<AspectMode>) -> Result<ImageRecipe, ExportError> {
    let folder = match (checkpoint.format, &checkpoint.vision_tower) {
        (SourceFormat::Original, Some(tower)) => tower,
        _ => &checkpoint.root,
    };
    let processor = processor_config(folder)?;
    let image_size = checkpoint.architecture.vision.image_size;
    let (config, mut origin) = match processor {
        Some((config, origin)) => (config, origin),
        None => (Config::empty(checkpoint.config.file(), ""), "defaults of CLIP at the tower's image size".to_owned()),
    };
    if config.get("image_processor_type").is_some() {
        config.one_of(
            "image_processor_type",
            "",
            &[
                "CLIPImageProcessor",
                "CLIPImageProcessorFast",
                "CLIPImageProcessorPil",
                "LlavaImageProcessor",
                "LlavaImageProcessorFast",
                "LlavaImageProcessorPil",
            ],
        )?;
    }
    let enabled = |key: &str| config.flag(key).map(|flag| flag.unwrap_or(true));
    // Without a processor configuration the image size of the tower stands in for CLIP's default of 224.
    let default_size = if config.keys().next().is_none() { image_size } else { 224 };
    let resize = if enabled("do_resize")? { Some(resize_rule(&config, default_size)?) } else { None };
    let centre_crop = if enabled("do_center_crop")? { Some(crop_size(&config, default_size)?) } else { None };
    let normalise = enabled("do_normalize")?;
    let mean = triple(&config, "image_mean")?.unwrap_or(CLIP_MEAN);
    let std = triple(&config, "image_std")?.unwrap_or(CLIP_STD);
    if std.iter().any(|&value| value <= 0.0) {
        return Err(config.invalid("image_std", "three positive numbers"));
    }
    let checkpoint_aspect = match checkpoint.format {
        SourceFormat::HuggingFace if config.flag("do_pad")?.unwrap_or(false) => {
            // The key means a square of the mean colour to LLaVA's processor, and other things to others.
            if config.text("image_processor_type")?.is_some_and(|kind| !kind.starts_with("Llava")) {
                return Err(config.unsupported("do_pad", "false, but for LlavaImageProcessor"));
            }
            origin += ", do_pad = true";
            AspectMode::Pad
        }
        SourceFormat::HuggingFace => AspectMode::Square,
        SourceFormat::Original => {
            let key = "image_aspect_ratio";
            let ratio = checkpoint.config.one_of(key, "square", &["square", "pad"])?;
            let shown = if checkpoint.config.get(key).is_some() { ratio.as_str() } else { "absent" };
            origin += &format!("; config.json: {key} = {shown}");
            if ratio == "pad" { AspectMode::Pad } else { AspectMode::Square }
        }
    };
    if let Some(aspect) = aspect {
        origin += match aspect {
            AspectMode::Square => "; aspect overridden: square",
            AspectMode::Pad => "; aspect overridden: pad",
        };
    }
    let recipe = ImageRecipe {
        aspect: aspect.unwrap_or(checkpoint_aspect),
        // LLaVA truncates: int(mean * 255).
        pad_colour: mean.map(|value| (value * 255.0) as u8),
        resize,
        resample: resample(&config)?,
        centre_crop,
        rescale_factor: if enabled("do_rescale")? { Some(config.number("rescale_factor")?.unwrap_or(1.0 / 255.0)) } else { None },
        mean: normalise.then_some(mean),
        std: normalise.then_some(std),
        tiling: None,
        origin,
    };
    check_final_size(&config, &recipe, image_size)?;
    Ok(recipe)
}

/// The processor's configuration: transformers 5 nests it in `processor_config.json`.
pub(super) fn processor_config(folder: &std::path::Path) -> Result<Option<(Config, String)>, ExportError> {
    if let Some(processor) = Config::read_if_present(folder, "processor_config.json")?
        && let Some(nested) = processor.object("image_processor")?
    {
        return Ok(Some((nested, "processor_config.json: image_processor".to_owned())));
    }
    let config = Config::read_if_present(folder, "preprocessor_config.json")?;
    Ok(config.map(|config| (config, "preprocessor_config.json".to_owned())))
}

pub(super) fn resize_rule(config: &Config, default: usize) -> Result<ResizeRule, ExportError> {
    let narrow = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let Some(Value::Object(_)) = config.get("size") else {
        return Ok(ResizeRule::ShortestEdge(narrow(config.positive("size", default)?)));
    };
    let size = config.object("size")?.unwrap_or_else(|| Config::empty(config.file(), "size."));
    if size.get("longest_edge").is_some() {
        return Err(config.unsupported("size", "shortest_edge, or height and width"));
    }
    if size.get("shortest_edge").is_some() {
        return Ok(ResizeRule::ShortestEdge(narrow(size.positive("shortest_edge", default)?)));
    }
    if size.get("height").is_none() || size.get("width").is_none() {
        return Err(config.invalid("size", "shortest_edge, or height and width"));
    }
    Ok(ResizeRule::Exact { height: narrow(size.positive("height", default)?), width: narrow(size.positive("width", default)?) })
}

pub(super) fn crop_size(config: &Config, default: usize) -> Result<[u32; 2], ExportError> {
    let narrow = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let Some(Value::Object(_)) = config.get("crop_size") else {
        return Ok([narrow(config.positive("crop_size", default)?); 2]);
    };
    let size = config.object("crop_size")?.unwrap_or_else(|| Config::empty(config.file(), "crop_size."));
    if size.get("height").is_none() || size.get("width").is_none() {
        return Err(config.invalid("crop_size", "height and width"));
    }
    Ok([narrow(size.positive("height", default)?), narrow(size.positive("width", default)?)])
}

pub(super) fn resample(config: &Config) -> Result<Resample, ExportError> {
    match config.size("resample")?.unwrap_or(3) {
        0 => Ok(Resample::Nearest),
        1 => Ok(Resample::Lanczos),
        2 => Ok(Resample::Bilinear),
        3 => Ok(Resample::Bicubic),
        _ => Err(config.unsupported("resample", "0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic)")),
    }
}

pub(super) fn triple(config: &Config, key: &str) -> Result<Option<[f64; 3]>, ExportError> {
    let Some(value) = config.get(key) else { return Ok(None) };
    let numbers: Option<Vec<f64>> = value.as_array().map(|list| list.iter().filter_map(Value::as_f64).collect());
    match numbers.as_deref() {
        Some(&[red, green, blue]) if value.as_array().is_some_and(|list| list.len() == 3) => Ok(Some([red, green, blue])),
        _ => Err(config.invalid(key, "three numbers")),
    }
}

/// The tower takes one size, so the recipe must end in it.
pub(super) fn check_final_size(config: &Config, recipe: &ImageRecipe, image_size: usize) -> Result<(), ExportError> {
    let wanted = u32::try_from(image_size).unwrap_or(u32::MAX);
    let supported = format!("a recipe that ends in {wanted} x {wanted}, the tower's image_size");
    match (recipe.centre_crop, recipe.resize) {
        (Some(crop), _) if crop == [wanted; 2] => Ok(()),
        (Some(_), _) => Err(config.unsupported("crop_size", &supported)),
        (None, Some(ResizeRule::Exact { height, width })) if [height, width] == [wanted; 2] => Ok(()),
        // A square image stays square under a shortest-edge resize.
        (None, Some(ResizeRule::ShortestEdge(edge))) if edge == wanted && recipe.aspect == AspectMode::Pad => Ok(()),
        (None, Some(_)) => Err(config.unsupported("size", &supported)),
        (None, None) => Err(config.unsupported("do_resize", &supported)),
    }
}
