//! The image recipe of a CLIP checkpoint (`CLIPImageProcessor`).

use std::path::Path;

use super::super::ExportError;
use super::super::config::Config;
use super::super::image_recipe::{
    CLIP_MEAN, CLIP_STD, check_final_size, crop_size, processor_config, resample, resize_rule, triple,
};
use crate::package::{AspectMode, ImageRecipe, ResizeRule};

/// Derives the recipe of the checkpoint in `folder`; `config_file` is for messages. `aspect` overrides how images that are not
/// square are fitted.
pub fn image_recipe(
    folder: &Path,
    config_file: &Path,
    image_size: usize,
    aspect: Option<AspectMode>,
) -> Result<ImageRecipe, ExportError> {
    let (config, mut origin) = processor_config(folder)?
        .unwrap_or_else(|| (Config::empty(config_file, ""), "defaults of CLIP at the tower's image size".to_owned()));
    let key = "image_processor_type";
    if config.get(key).is_some() {
        config.one_of(key, "", &["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"])?;
    }
    if config.flag("do_pad")?.unwrap_or(false) {
        return Err(config.unsupported("do_pad", "false"));
    }
    let enabled = |key: &str| config.flag(key).map(|flag| flag.unwrap_or(true));
    // Without a processor configuration the image size of the tower stands in for CLIP's default of 224.
    let default_size = if config.keys().next().is_none() { image_size } else { 224 };
    let (mean, std) = (triple(&config, "image_mean")?.unwrap_or(CLIP_MEAN), triple(&config, "image_std")?.unwrap_or(CLIP_STD));
    if std.iter().any(|&value| value <= 0.0) {
        return Err(config.invalid("image_std", "three positive numbers"));
    }
    let normalise = enabled("do_normalize")?;
    if aspect == Some(AspectMode::Pad) {
        origin += "; aspect overridden: pad";
    }
    let recipe = ImageRecipe {
        aspect: aspect.unwrap_or(AspectMode::Square),
        pad_colour: mean.map(|value| (value * 255.0) as u8),
        resize: if enabled("do_resize")? {
            Some(resize_rule(&config, ResizeRule::ShortestEdge(u32::try_from(default_size).unwrap_or(u32::MAX)))?)
        } else {
            None
        },
        resample: resample(&config)?,
        centre_crop: if enabled("do_center_crop")? { Some(crop_size(&config, default_size)?) } else { None },
        rescale_factor: if enabled("do_rescale")? { Some(config.number("rescale_factor")?.unwrap_or(1.0 / 255.0)) } else { None },
        mean: normalise.then_some(mean),
        std: normalise.then_some(std),
        tiling: None,
        origin,
    };
    check_final_size(&config, &recipe, image_size)?;
    Ok(recipe)
}
