//! The export itself: configuration, weights, graphs, recipes, package.

use std::path::{Path, PathBuf};

use super::ExportError;
use super::checkpoint::CheckedTensors;
use super::families::Checkpoint;
use super::files::CheckpointFiles;
use super::graphs::GraphStyle;
use super::image_recipe::image_recipe;
use super::llama::{COSINES, SINES, llm_graph};
use super::output::OutputFolder;
use super::projector::projector_graph;
use super::prompt_recipe::{DerivedPrompt, prompt_recipe};
use super::quantise::{Calibration, StagePrecisionChoice};
use super::rotary::rotary_tables;
use super::vision::vision_graph;
use super::weights::{WEIGHTS_FILE, WeightPlan};
use crate::package::{
    AspectMode, FORMAT, GraphFlavor, LanguageModelStage, Manifest, PLAIN_NAME, Package, Precision, ProjectorStage, Quantisation,
    Source, StagePrecision, VisionStage, WeightQuantisation, is_plain_name,
};

/// Small files of a checkpoint that travel with a package.
pub(super) const COPIED_FILES: [&str; 11] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
];
/// Those of them that belong to the language model.
const LANGUAGE_FILES: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
];
const VISION_GRAPH: &str = "vision.onnx";
const PROJECTOR_GRAPH: &str = "projector.onnx";
const LLM_GRAPH: &str = "llm.onnx";

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportProgress {
    /// Configuration and tensor headers are being read.
    Reading,
    /// Weights are being widened into `weights.safetensors`.
    Writing {
        /// Bytes written.
        done_bytes: u64,
        /// Bytes to write.
        total_bytes: u64,
    },
    /// The checkpoint's own weight files are linked or copied, and hashed.
    Linking,
    /// The package is checked and gets its manifest.
    Finishing,
}

/// What to export, and where to.
pub struct ExportOptions {
    /// Checkpoint folder: `config.json`, weights by safetensors or torch.save, tokenizer.
    pub checkpoint: PathBuf,
    /// Package folder; may be the checkpoint itself.
    pub output: PathBuf,
    /// Folder of the base model, for checkpoints that are only a change to one: deltas, LoRA adapters, projectors alone.
    pub base: Option<PathBuf>,
    /// CLIP or SigLIP checkpoint folder, for original LLaVA checkpoints that hold no vision tower.
    pub vision_tower: Option<PathBuf>,
    /// Name of the package; the output folder's name when absent.
    pub name: Option<String>,
    /// Overrides how images that are not square are fitted, and with it any tiling.
    pub image_aspect: Option<AspectMode>,
    /// Overrides the prompt template by a conversation template of LLaVA's own, one of
    /// [`CONVERSATIONS`](crate::package::CONVERSATIONS).
    pub conversation: Option<String>,
    /// Precision of each stage.
    pub precision: StagePrecisionChoice,
    /// Operators of the graphs.
    pub flavor: GraphFlavor,
    /// What guides the quantisation beside the weights themselves.
    pub calibration: Option<Calibration>,
    /// Replaces another package in the output folder.
    pub force: bool,
    /// Told how far the export is.
    pub progress: Option<Box<dyn Fn(ExportProgress) + Send + Sync>>,
}

impl ExportOptions {
    /// Options without any override.
    pub fn new(checkpoint: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            checkpoint: checkpoint.into(),
            output: output.into(),
            base: None,
            vision_tower: None,
            name: None,
            image_aspect: None,
            conversation: None,
            precision: StagePrecisionChoice::default(),
            flavor: GraphFlavor::default(),
            calibration: None,
            force: false,
            progress: None,
        }
    }
}

/// Writes a package for a LLaVA checkpoint of transformers (`LlavaForConditionalGeneration`, `LlavaNext…`,
/// `LlavaOnevision…`) or of the original repositories (`LlavaLlamaForCausalLM`, `LlavaMistral…`, `LlavaQwen…`), and opens it. The checkpoint is never changed; the same checkpoint always gives
/// the same bytes.
pub fn export(options: &ExportOptions) -> Result<Package, ExportError> {
    let report = |progress| {
        if let Some(callback) = &options.progress {
            callback(progress);
        }
    };
    report(ExportProgress::Reading);
    let files = CheckpointFiles::recognise(&options.checkpoint, options.base.as_deref())?;
    let schemes = options.precision.llava(options.flavor)?;
    let checkpoint = Checkpoint::read(&files, options.vision_tower.as_deref())?;
    let architecture = checkpoint.architecture.clone();
    let checked = checkpoint.tensors.clone().check(&architecture)?;
    let image = image_recipe(&checkpoint, options.image_aspect)?;
    let DerivedPrompt { recipe: prompt, template_file, tokenizer_file } =
        prompt_recipe(&checkpoint, options.conversation.as_deref())?;
    let checkpoint_dtype = checked.commonest_dtype();
    refuse_own_files(&checked, &options.checkpoint)?;
    let llm = &architecture.llm;
    let (cosines, sines) = rotary_tables(llm);
    let table = vec![llm.maximum_positions, llm.head_size / 2];
    let computed = vec![(COSINES, table.clone(), cosines), (SINES, table, sines)];
    let plan = WeightPlan::new(&architecture, checked, computed, &schemes, options.calibration.as_ref())?;
    let style = GraphStyle { flavor: options.flavor, compute: schemes.compute };
    let graphs = [
        (VISION_GRAPH, vision_graph(&architecture.vision, &plan, style)?),
        (PROJECTOR_GRAPH, projector_graph(&architecture, &plan, style)?),
        (LLM_GRAPH, llm_graph(llm, &plan, style)?),
    ];

    let source = Source {
        format: checkpoint.format,
        model_type: checkpoint.model_type.clone(),
        version: Some(checkpoint.version.name().to_owned()),
        checkpoint_dtype,
    };
    let mut manifest = Manifest {
        format: FORMAT,
        name: package_name(options)?,
        exporter: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
        source,
        precision: StagePrecision {
            vision: schemes.vision.precision(),
            projector: schemes.projector.precision(),
            llm: schemes.llm.precision(),
        },
        quantisation: record(schemes.llava_record(), options),
        vision: VisionStage { compute: schemes.compute, ..vision_stage(&checkpoint) },
        projector: ProjectorStage { compute: schemes.compute, ..projector_stage(&checkpoint, &plan) },
        llm: LanguageModelStage { compute: schemes.compute, ..llm_stage(&checkpoint, &plan, options.flavor)? },
        image,
        prompt,
        foreign: None,
        files: Vec::new(),
    };
    refuse_other_package(options, &manifest)?;

    let mut output = OutputFolder::open(&options.output)?;
    for (name, bytes) in &graphs {
        output.write(name, |out| Ok(out.write_all(bytes)))?;
    }
    if let Some((name, text)) = &template_file {
        output.write(name, |out| Ok(out.write_all(text.as_bytes())))?;
    }
    if let Some(bytes) = &tokenizer_file {
        output.write("tokenizer.json", |out| Ok(out.write_all(bytes)))?;
    }
    let total_bytes = plan.written_bytes();
    output
        .write(WEIGHTS_FILE, |out| plan.write(out, &|done_bytes| report(ExportProgress::Writing { done_bytes, total_bytes })))?;
    report(ExportProgress::Linking);
    for shard in plan.files_in_place() {
        output.place(&shard.package_name, &shard.path, true)?;
    }
    for name in COPIED_FILES {
        let language = LANGUAGE_FILES.contains(&name);
        let path = if language { checkpoint.files.language_folder() } else { checkpoint.root.as_path() }.join(name);
        let written = name == "tokenizer.json" && tokenizer_file.is_some();
        if path.is_file() && !written {
            output.place(name, &path, false)?;
        }
    }
    report(ExportProgress::Finishing);
    manifest.files = output.records();
    let text = manifest.to_text().map_err(|error| ExportError::Json {
        path: options.output.join(crate::package::MANIFEST_FILE),
        reason: error.to_string(),
    })?;
    output.commit(&text, options.force)?;
    Ok(Package::open(&options.output)?)
}

/// What the manifest says of the quantisation, the calibration that guided it included.
pub(super) fn record(record: Option<Quantisation>, options: &ExportOptions) -> Option<Quantisation> {
    let Some(calibration) = &options.calibration else { return record };
    let guided = |part: Option<WeightQuantisation>, smoothed: bool| {
        part.map(|mut part| {
            if part.scheme == Precision::Int4 {
                part.method = calibration.method.as_str().to_owned();
            }
            if part.scheme == Precision::Int8 && smoothed && calibration.smoothing > 0.0 {
                // As it was given, without the digits that the wider type would add.
                part.smoothing = format!("{}", calibration.smoothing).parse().ok();
            }
            part
        })
    };
    record.map(|record| Quantisation {
        vision: guided(record.vision, true),
        projector: guided(record.projector, false),
        llm: guided(record.llm, true),
        head: guided(record.head, false),
        calibration: Some(calibration.record.clone()),
        ..record
    })
}

/// The given name, or the output folder's.
pub(super) fn package_name(options: &ExportOptions) -> Result<String, ExportError> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => {
            let folder = std::path::absolute(&options.output).map_err(|source| ExportError::Io {
                action: "resolve",
                path: options.output.clone(),
                source,
            })?;
            folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        }
    };
    if !is_plain_name(&name) {
        return Err(ExportError::Invalid {
            file: options.output.clone(),
            key: "the package's name".to_owned(),
            found: format!("{name:?}"),
            expected: format!("{PLAIN_NAME}; --name gives another"),
        });
    }
    Ok(name)
}

/// A checkpoint whose own file has the name of a file that the export writes cannot share a folder with it.
pub(super) fn refuse_own_files(checked: &CheckedTensors, checkpoint: &Path) -> Result<(), ExportError> {
    match checked.shards.iter().find(|shard| shard.package_name == WEIGHTS_FILE) {
        None => Ok(()),
        Some(_) => Err(ExportError::Unsupported {
            file: checkpoint.to_path_buf(),
            key: "weight file".to_owned(),
            found: WEIGHTS_FILE.to_owned(),
            supported: "any other name, as the export writes a file of this one".to_owned(),
        }),
    }
}

/// Another package in the output folder is refused before hours may go into weights.
fn refuse_other_package(options: &ExportOptions, manifest: &Manifest) -> Result<(), ExportError> {
    if options.force {
        return Ok(());
    }
    let Some(existing) = OutputFolder::existing_manifest(&options.output) else { return Ok(()) };
    if (Manifest { files: Vec::new(), ..existing }) == *manifest {
        return Ok(());
    }
    let path = options.output.join(crate::package::MANIFEST_FILE);
    Err(ExportError::Exists { path, hint: "; give --force to replace the package".to_owned() })
}

fn vision_stage(checkpoint: &Checkpoint) -> VisionStage {
    let vision = &checkpoint.architecture.vision;
    VisionStage {
        graph: VISION_GRAPH.to_owned(),
        image_size: vision.image_size,
        patch_size: vision.patch_size,
        hidden_size: vision.hidden_size,
        tokens_per_image: vision.tokens(),
        feature_layer: vision.feature_layer,
        feature_select: vision.feature_select().to_owned(),
        compute: None,
    }
}

fn projector_stage(checkpoint: &Checkpoint, plan: &WeightPlan) -> ProjectorStage {
    let architecture = &checkpoint.architecture;
    ProjectorStage {
        graph: PROJECTOR_GRAPH.to_owned(),
        kind: architecture.projector.kind.name(),
        input_size: architecture.vision.hidden_size,
        output_size: architecture.llm.hidden_size,
        compute: None,
        image_newline: plan.location(super::architecture::IMAGE_NEWLINE),
    }
}

fn llm_stage(checkpoint: &Checkpoint, plan: &WeightPlan, flavor: GraphFlavor) -> Result<LanguageModelStage, ExportError> {
    let llm = &checkpoint.architecture.llm;
    let name = super::architecture::EMBEDDING;
    let (embedding, embedding_scales) = plan.table().ok_or_else(|| ExportError::MissingTensor {
        checkpoint: checkpoint.root.clone(),
        tensor: name.to_owned(),
        shape: vec![llm.vocabulary_size, llm.hidden_size],
        hint: String::new(),
    })?;
    Ok(LanguageModelStage {
        graph: LLM_GRAPH.to_owned(),
        flavor: flavor.as_str().to_owned(),
        hidden_size: llm.hidden_size,
        layers: llm.layers,
        attention_heads: llm.heads,
        key_value_heads: llm.key_value_heads,
        head_size: llm.head_size,
        vocabulary_size: llm.vocabulary_size,
        maximum_positions: llm.maximum_positions,
        sliding_window: llm.sliding_window,
        compute: None,
        embedding,
        embedding_scales,
    })
}
