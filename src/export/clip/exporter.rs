//! The export of a CLIP checkpoint.

use std::path::Path;

use super::super::ExportError;
use super::super::config::Config;
use super::super::exporter::{ExportOptions, ExportProgress, package_name, record, refuse_own_files};
use super::super::output::OutputFolder;
use super::super::weights::{WEIGHTS_FILE, WeightPlan};
use super::architecture::ClipModelArchitecture;
use super::graphs::{text_graph, vision_graph};
use super::image::image_recipe;
use super::tensors;
use super::tokenizer::{TOKENIZER_FILE, tokenizer_file};
use crate::package::{
    ClipManifest, ClipPackage, ClipPrecision, ClipSource, ClipTextStage, ClipVisionStage, FORMAT, MANIFEST_FILE,
};

/// Small files of a checkpoint that travel with a package.
const COPIED_FILES: [&str; 7] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
];
const VISION_GRAPH: &str = "vision.onnx";
const TEXT_GRAPH: &str = "text.onnx";

/// Whether a folder is a checkpoint of CLIP itself, told by `model_type` of its `config.json`. Other models of two towers are
/// refused by name; everything else is for [`export`](super::super::export) to judge.
pub fn is_clip_checkpoint(root: &Path) -> Result<bool, ExportError> {
    let Some(config) = Config::read_if_present(root, "config.json")? else { return Ok(false) };
    let architecture = config.get("architectures").and_then(|list| list.get(0)).and_then(serde_json::Value::as_str);
    match config.get("model_type").and_then(serde_json::Value::as_str) {
        Some("clip") => match architecture {
            None | Some("CLIPModel") => Ok(true),
            Some(_) => Err(config.unsupported("architectures", "CLIPModel, which has both towers and both projections")),
        },
        Some(
            "clip_vision_model"
            | "clip_text_model"
            | "siglip"
            | "siglip_vision_model"
            | "siglip_text_model"
            | "siglip2"
            | "chinese_clip"
            | "altclip"
            | "align"
            | "metaclip_2"
            | "clipseg"
            | "vision-text-dual-encoder",
        ) => Err(config.unsupported("model_type", "clip (CLIPModel), or a LLaVA checkpoint")),
        _ => Ok(false),
    }
}

/// Writes a package for a CLIP checkpoint of transformers (`CLIPModel`) and opens it. The checkpoint is never changed; the same
/// checkpoint always gives the same bytes.
///
/// Options that only concern LLaVA checkpoints (`vision_tower`, `conversation`) are refused.
pub fn export_clip(options: &ExportOptions) -> Result<ClipPackage, ExportError> {
    let report = |progress| {
        if let Some(callback) = &options.progress {
            callback(progress);
        }
    };
    report(ExportProgress::Reading);
    let root = options.checkpoint.as_path();
    let Some(config) = Config::read_if_present(root, "config.json")? else {
        let hint = ": a checkpoint is a folder with config.json and weight files".to_owned();
        return Err(ExportError::MissingFile { folder: root.to_path_buf(), name: "config.json".to_owned(), hint });
    };
    config.refuse_present("quantization_config", "weights that are not quantised")?;
    refuse_llava_options(options, &config)?;
    let schemes = options.precision.clip(options.flavor)?;
    let architecture = ClipModelArchitecture::read(&config)?;
    let required = architecture.required_tensors();
    let (checked, logit_scale) = tensors::read(root, &required)?;
    let image = image_recipe(root, config.file(), architecture.image_size, options.image_aspect)?;
    let tokenizer = tokenizer_file(root)?;
    let checkpoint_dtype = checked.commonest_dtype();
    refuse_own_files(&checked, root)?;
    let plan = WeightPlan::of(required, None, checked, Vec::new(), &schemes, options.calibration.as_ref())?;
    let graphs = [
        (VISION_GRAPH, vision_graph(&architecture, &plan, options.flavor)?),
        (TEXT_GRAPH, text_graph(&architecture, &plan, options.flavor)?),
    ];

    let maximum_tokens = tokenizer.maximum_tokens.unwrap_or(usize::MAX).min(architecture.maximum_tokens);
    let mut manifest = ClipManifest {
        format: FORMAT,
        kind: ClipManifest::KIND.to_owned(),
        name: package_name(options)?,
        exporter: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
        projection_size: architecture.projection_size,
        logit_scale,
        flavor: options.flavor,
        source: ClipSource { model_type: "clip".to_owned(), checkpoint_dtype },
        precision: ClipPrecision { vision: schemes.vision.precision(), text: schemes.text.precision() },
        quantisation: record(schemes.clip_record(), options),
        vision: ClipVisionStage {
            graph: VISION_GRAPH.to_owned(),
            image_size: architecture.image_size,
            patch_size: architecture.patch_size,
            layers: architecture.vision.layers,
            hidden_size: architecture.vision.hidden_size,
        },
        text: ClipTextStage {
            graph: TEXT_GRAPH.to_owned(),
            layers: architecture.text.layers,
            hidden_size: architecture.text.hidden_size,
            vocabulary_size: architecture.vocabulary_size,
            maximum_tokens,
            pooling: architecture.pooling,
        },
        image,
        files: Vec::new(),
    };
    refuse_other_package(options, &manifest)?;

    let mut output = OutputFolder::open(&options.output)?;
    for (name, bytes) in &graphs {
        output.write(name, |out| Ok(out.write_all(bytes)))?;
    }
    let total_bytes = plan.written_bytes();
    if plan.writes_any() {
        output.write(WEIGHTS_FILE, |out| {
            plan.write(out, &|done_bytes| report(ExportProgress::Writing { done_bytes, total_bytes }))
        })?;
    }
    report(ExportProgress::Linking);
    for shard in plan.files_in_place() {
        output.place(&shard.package_name, &shard.path, true)?;
    }
    match &tokenizer.written {
        Some(text) => output.write(TOKENIZER_FILE, |out| Ok(out.write_all(text.as_bytes())))?,
        None => output.place(TOKENIZER_FILE, &root.join(TOKENIZER_FILE), false)?,
    }
    for name in COPIED_FILES {
        let path = root.join(name);
        if path.is_file() {
            output.place(name, &path, false)?;
        }
    }
    report(ExportProgress::Finishing);
    manifest.files = output.records();
    let text = manifest
        .to_text()
        .map_err(|error| ExportError::Json { path: options.output.join(MANIFEST_FILE), reason: error.to_string() })?;
    output.commit(&text, options.force)?;
    Ok(ClipPackage::open(&options.output)?)
}

fn refuse_llava_options(options: &ExportOptions, config: &Config) -> Result<(), ExportError> {
    let refuse = |key: &str, found: String| ExportError::Unsupported {
        file: config.file().to_path_buf(),
        key: key.to_owned(),
        found,
        supported: "LLaVA checkpoints only; this one is CLIP itself".to_owned(),
    };
    match (&options.vision_tower, &options.conversation) {
        (Some(tower), _) => Err(refuse("--vision-tower", tower.display().to_string())),
        (None, Some(name)) => Err(refuse("--conversation", name.clone())),
        (None, None) => Ok(()),
    }
}

/// Another package in the output folder is refused before its files are written.
fn refuse_other_package(options: &ExportOptions, manifest: &ClipManifest) -> Result<(), ExportError> {
    let path = options.output.join(MANIFEST_FILE);
    if options.force || !path.is_file() {
        return Ok(());
    }
    let existing =
        crate::guard::files::read_text_capped(&path, 1 << 20).ok().and_then(|text| ClipManifest::from_text(&text).ok());
    if existing.is_some_and(|existing| ClipManifest { files: Vec::new(), ..existing } == *manifest) {
        return Ok(());
    }
    Err(ExportError::Exists { path, hint: "; give --force to replace the package".to_owned() })
}
