//! The image recipe of a checkpoint, from its processor's configuration.

use serde_json::Value;

use super::ExportError;
use super::config::Config;
use super::families::{Checkpoint, Class, Version};
use super::hugging_face::pinpoints;
use super::tiling::{Ratio, ratio_of};
use super::vision_architecture::VisionFamily;
use crate::package::{AspectMode, ImageRecipe, Resample, ResizeRule, SourceFormat, Tiling};

/// Mean of the images that CLIP was trained on, `OPENAI_CLIP_MEAN` of transformers.
pub(super) const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Standard deviation of the images that CLIP was trained on, `OPENAI_CLIP_STD` of transformers.
pub(super) const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Mean and standard deviation of `SiglipImageProcessor`, `IMAGENET_STANDARD_MEAN` of transformers.
const SIGLIP_MEAN_AND_STD: [f64; 3] = [0.5; 3];

/// The image processors of transformers that are understood, by their names without `Fast` or `Pil`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processor {
    Clip,
    Llava,
    Siglip,
    Next,
    OneVision,
}

const PROCESSORS: [(&str, Processor); 5] = [
    ("CLIPImageProcessor", Processor::Clip),
    ("LlavaImageProcessor", Processor::Llava),
    ("SiglipImageProcessor", Processor::Siglip),
    ("LlavaNextImageProcessor", Processor::Next),
    ("LlavaOnevisionImageProcessor", Processor::OneVision),
];

impl Processor {
    /// The processor that a configuration names, or else the one that `AutoImageProcessor` takes for the model.
    fn of(config: &Config, checkpoint: &Checkpoint) -> Result<Self, ExportError> {
        let key = "image_processor_type";
        let tower = checkpoint.architecture.vision.family;
        let Some(name) = config.text(key)? else {
            return Ok(match (checkpoint.format, checkpoint.version, tower) {
                (SourceFormat::HuggingFace, Version::Next, _) => Self::Next,
                (SourceFormat::HuggingFace, Version::OneVision, _) => Self::OneVision,
                (_, _, VisionFamily::Siglip) => Self::Siglip,
                _ => Self::Clip,
            });
        };
        let plain = name.strip_suffix("Fast").or_else(|| name.strip_suffix("Pil")).unwrap_or(name);
        let known = PROCESSORS.iter().find(|(name, _)| *name == plain).map(|(_, processor)| *processor);
        let tiles = |processor: &Self| matches!(processor, Self::Next | Self::OneVision);
        let wanted = checkpoint.format == SourceFormat::HuggingFace && checkpoint.tiling.is_some();
        known.filter(|processor| tiles(processor) == wanted).ok_or_else(|| {
            let names = PROCESSORS.iter().filter(|(_, processor)| tiles(processor) == wanted).map(|(name, _)| *name);
            config.unsupported(key, &names.collect::<Vec<_>>().join(", "))
        })
    }

    fn crops(self) -> bool {
        matches!(self, Self::Clip | Self::Llava | Self::Next)
    }

    /// The `size` that stands in for an absent one.
    fn resize(self, size: Option<usize>) -> ResizeRule {
        let side = |default: usize| u32::try_from(size.unwrap_or(default)).unwrap_or(u32::MAX);
        match self {
            Self::Clip | Self::Llava | Self::Next => ResizeRule::ShortestEdge(side(224)),
            Self::Siglip => ResizeRule::Exact { height: side(224), width: side(224) },
            Self::OneVision => ResizeRule::Exact { height: side(384), width: side(384) },
        }
    }

    /// Mean and standard deviation where they are absent.
    fn normalisation(self) -> [[f64; 3]; 2] {
        match self {
            Self::Siglip => [SIGLIP_MEAN_AND_STD; 2],
            Self::Clip | Self::Llava | Self::Next | Self::OneVision => [CLIP_MEAN, CLIP_STD],
        }
    }
}

/// Derives the recipe; `aspect` overrides how images that are not square are fitted, and with it any tiling.
pub(super) fn image_recipe(checkpoint: &Checkpoint, aspect: Option<AspectMode>) -> Result<ImageRecipe, ExportError> {
    let image_size = checkpoint.architecture.vision.image_size;
    let fixed = checkpoint.format == SourceFormat::Original && checkpoint.architecture.vision.family == VisionFamily::Siglip;
    let own = match &checkpoint.vision_tower {
        Some(tower) => processor_config(tower)?,
        None => None,
    };
    let found = if own.is_some() { own } else { processor_config(&checkpoint.root)? };
    let (config, mut origin) = match found.filter(|_| !fixed) {
        Some((config, origin)) => (config, origin),
        None if fixed => (Config::empty(checkpoint.config.file(), ""), "SigLipImageProcessor of LLaVA-NeXT".to_owned()),
        None => (Config::empty(checkpoint.config.file(), ""), "defaults of CLIP at the tower's image size".to_owned()),
    };
    let processor = Processor::of(&config, checkpoint)?;
    let enabled = |key: &str, default: bool| config.flag(key).map(|flag| flag.unwrap_or(default));
    // Without a processor configuration the image size of the tower stands in for the processor's default.
    let size = config.keys().next().is_none().then_some(image_size);
    let resize = if enabled("do_resize", true)? { Some(resize_rule(&config, processor.resize(size))?) } else { None };
    let crops = enabled("do_center_crop", processor.crops())?;
    let centre_crop = if crops { Some(crop_size(&config, size.unwrap_or(224))?) } else { None };
    let normalise = enabled("do_normalize", true)?;
    let [default_mean, default_std] = processor.normalisation();
    let mean = triple(&config, "image_mean")?.unwrap_or(default_mean);
    let std = triple(&config, "image_std")?.unwrap_or(default_std);
    if std.iter().any(|&value| value <= 0.0) {
        return Err(config.invalid("image_std", "three positive numbers"));
    }
    let checkpoint_aspect = checkpoint_aspect(checkpoint, &config, processor, &mut origin)?;
    let mut tiling = checkpoint.tiling.clone();
    if let Some(aspect) = aspect {
        origin += match aspect {
            AspectMode::Square => "; aspect overridden: square",
            AspectMode::Pad => "; aspect overridden: pad",
        };
        if tiling.take().is_some() {
            origin += ", without tiles";
        }
    }
    let recipe = ImageRecipe {
        aspect: aspect.unwrap_or(checkpoint_aspect),
        // LLaVA truncates: int(mean * 255).
        pad_colour: mean.map(|value| (value * 255.0) as u8),
        resize,
        resample: resample(&config)?,
        centre_crop,
        rescale_factor: match enabled("do_rescale", true)? {
            true => Some(config.number("rescale_factor")?.unwrap_or(1.0 / 255.0)),
            false => None,
        },
        mean: normalise.then_some(mean),
        std: normalise.then_some(std),
        tiling,
        origin,
    };
    check_final_size(&config, &recipe, image_size)?;
    if let Some(tiling) = &recipe.tiling {
        check_tiling(checkpoint, &config, processor, &recipe, tiling)?;
    }
    Ok(recipe)
}

/// How the checkpoint fits images that are not square, tiles aside.
fn checkpoint_aspect(
    checkpoint: &Checkpoint,
    config: &Config,
    processor: Processor,
    origin: &mut String,
) -> Result<AspectMode, ExportError> {
    match (checkpoint.format, processor) {
        // To these the key is about batches.
        (SourceFormat::HuggingFace, Processor::Next) => Ok(AspectMode::Square),
        // `pad_to_square`, for one of several images.
        (SourceFormat::HuggingFace, Processor::OneVision) => Ok(AspectMode::Pad),
        (SourceFormat::HuggingFace, _) if config.flag("do_pad")?.unwrap_or(false) => {
            // The key means a square of the mean colour to LLaVA's processor, and other things to others.
            if config.text("image_processor_type")?.is_some() && processor != Processor::Llava {
                return Err(config.unsupported("do_pad", "false, but for LlavaImageProcessor"));
            }
            *origin += ", do_pad = true";
            Ok(AspectMode::Pad)
        }
        (SourceFormat::HuggingFace, _) => Ok(AspectMode::Square),
        (SourceFormat::Original, _) => {
            let key = "image_aspect_ratio";
            let ratio = ratio_of(&checkpoint.config, key, "square")?;
            let shown = checkpoint.config.text(key)?.unwrap_or("absent");
            *origin += &format!("; config.json: {key} = {shown}");
            Ok(match ratio {
                Ratio::Square | Ratio::AnyRes => AspectMode::Square,
                Ratio::Pad | Ratio::AnyResMaximum(_) => AspectMode::Pad,
            })
        }
    }
}

/// What must agree for tiles to be those of the reference.
fn check_tiling(
    checkpoint: &Checkpoint,
    config: &Config,
    processor: Processor,
    recipe: &ImageRecipe,
    tiling: &Tiling,
) -> Result<(), ExportError> {
    let side = tiling.tile;
    // The whole view is made by this step alone, and so is one of several images.
    match recipe.resize {
        Some(ResizeRule::ShortestEdge(edge)) if edge == side => {}
        Some(ResizeRule::Exact { height, width }) if [height, width] == [side; 2] => {}
        Some(_) => return Err(config.unsupported("size", &format!("{side}, the tower's image_size, for tiles"))),
        None => return Err(config.unsupported("do_resize", "true, for tiles")),
    }
    match checkpoint.format {
        SourceFormat::Original if recipe.resample != Resample::Bicubic => {
            // `Image.resize` of Pillow, which tiles go through as well, is bicubic.
            return Err(config.unsupported("resample", "3 (bicubic), for tiles"));
        }
        SourceFormat::Original => return Ok(()),
        SourceFormat::HuggingFace => {}
    }
    let class = if processor == Processor::OneVision { Class::OneVision } else { Class::Next };
    if config.keys().next().is_some() && pinpoints(config, class)? != tiling.pinpoints {
        return Err(config.unsupported("image_grid_pinpoints", "the same list as that of config.json"));
    }
    let processor_file = Config::read_if_present(&checkpoint.root, "processor_config.json")?;
    if let (Some(file), Some(maximum)) = (processor_file, tiling.merge.maximum_tiles) {
        let key = "vision_aspect_ratio";
        if file.get(key).is_some() && ratio_of(&file, key, "")? != Ratio::AnyResMaximum(maximum) {
            return Err(file.unsupported(key, &format!("anyres_max_{maximum}, as config.json says")));
        }
    }
    Ok(())
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

pub(super) fn resize_rule(config: &Config, absent: ResizeRule) -> Result<ResizeRule, ExportError> {
    let narrow = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let size = match config.get("size") {
        None => return Ok(absent),
        Some(Value::Object(_)) => config.object("size")?.unwrap_or_else(|| Config::empty(config.file(), "size.")),
        Some(_) => return Ok(ResizeRule::ShortestEdge(narrow(config.positive("size", 1)?))),
    };
    if size.get("longest_edge").is_some() {
        return Err(config.unsupported("size", "shortest_edge, or height and width"));
    }
    if size.get("shortest_edge").is_some() {
        return Ok(ResizeRule::ShortestEdge(narrow(size.positive("shortest_edge", 1)?)));
    }
    if size.get("height").is_none() || size.get("width").is_none() {
        return Err(config.invalid("size", "shortest_edge, or height and width"));
    }
    Ok(ResizeRule::Exact { height: narrow(size.positive("height", 1)?), width: narrow(size.positive("width", 1)?) })
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
