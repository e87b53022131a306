//! Adopting a package that another program wrote: its graphs stay as they are, and what our own packages say in
//! `package.toml` is derived from its configuration and the graphs' headers each time it is opened.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::ExportError;
use super::config::Config;
use super::exporter::COPIED_FILES;
use super::families::Checkpoint;
use super::files::CheckpointFiles;
use super::image_recipe::image_recipe;
use super::prompt_recipe::{DerivedPrompt, prompt_recipe};
use crate::guard::files::{GuardError, contained};
use crate::package::foreign::{ForeignFolder, ForeignLayout, recognise};
use crate::package::{
    FORMAT, FileRecord, ImageRecipe, LanguageModelStage, Manifest, Package, ProjectorStage, PromptTemplate, Source, SourceFormat,
    StagePrecision, TensorDtype, TensorLocation, VisionStage, sha256_of_file,
};

/// Files that can hold a chat template under a key, in the order in which the prompt recipe looks.
const TEMPLATE_HOLDERS: [&str; 3] = ["processor_config.json", "chat_template.json", "tokenizer_config.json"];

/// Opens a package in a layout of transformers.js, onnxruntime-genai or mobius. Beside the graphs it needs the checkpoint's
/// `config.json`, tokenizer and processor configuration. `variant` asks for a precision where the folder has several.
///
/// Every file is hashed, because such a folder pins nothing, and a run must be of one certain package.
pub fn adopt(root: &Path, variant: Option<&str>) -> Result<Package, ExportError> {
    let folder = recognise(root, variant)?;
    if !root.join("config.json").is_file() {
        let hint = match folder.graphs.layout {
            ForeignLayout::Genai => ": genai_config.json tells neither patches nor image token; put the checkpoint's own there",
            _ => ": put the checkpoint's own there",
        };
        let (folder, name) = (root.to_path_buf(), "config.json".to_owned());
        return Err(ExportError::MissingFile { folder, name, hint: hint.to_owned() });
    }
    let checkpoint = Checkpoint::read(&CheckpointFiles::configuration_only(root), None)?;
    if checkpoint.format != SourceFormat::HuggingFace {
        let supported = "LlavaForConditionalGeneration, the only family whose graphs others export";
        return Err(checkpoint.config.unsupported("architectures", supported));
    }
    let sizes = Sizes::new(&folder, &checkpoint)?;
    refuse_foreign_processor(root)?;
    let image = image_recipe(&checkpoint, None)?;
    refuse_tiling(&checkpoint.config, &image)?;
    let DerivedPrompt { recipe: mut prompt, template_file, tokenizer_file } = prompt_recipe(&checkpoint, None)?;
    if tokenizer_file.is_some() {
        let hint = ": a tokenizer.model is converted only by an export, which writes a package of its own".to_owned();
        return Err(ExportError::MissingFile { folder: root.to_path_buf(), name: "tokenizer.json".to_owned(), hint });
    }
    if let Some((_, text)) = &template_file {
        // Nothing is written into a folder that is not ours: the prompt room reads the template where it stands.
        prompt.template = PromptTemplate::ChatTemplate(template_holder(root, text)?.to_owned());
    }
    prompt.context_tokens = prompt.context_tokens.min(sizes.maximum_positions);
    let graphs = folder.graphs.clone();
    let manifest = Manifest {
        format: FORMAT,
        name: package_name(root, &folder, variant)?,
        exporter: format!("another program, {} layout", graphs.layout.as_str()),
        source: Source {
            format: checkpoint.format,
            model_type: checkpoint.model_type.clone(),
            checkpoint_dtype: checkpoint_dtype(&checkpoint.config)?,
            version: Some(checkpoint.version.name().to_owned()),
        },
        precision: StagePrecision {
            vision: folder.vision.precision,
            projector: folder.vision.precision,
            llm: folder.decoder.precision,
        },
        quantisation: None,
        vision: vision_stage(&folder, &checkpoint, &sizes),
        projector: ProjectorStage {
            graph: folder.vision.name.clone(),
            kind: "inside the vision graph".to_owned(),
            input_size: sizes.hidden_size,
            output_size: sizes.hidden_size,
            compute: None,
            image_newline: None,
        },
        llm: language_model_stage(&folder, &checkpoint, &sizes),
        image,
        prompt,
        foreign: Some(graphs),
        files: file_records(root, &folder)?,
    };
    Ok(Package::of_foreign(root, manifest)?)
}

/// Sizes on which graphs and configuration agree.
struct Sizes {
    tokens_per_image: usize,
    hidden_size: usize,
    layers: usize,
    key_value_heads: usize,
    head_size: usize,
    vocabulary_size: usize,
    maximum_positions: usize,
}

impl Sizes {
    fn new(folder: &ForeignFolder, checkpoint: &Checkpoint) -> Result<Self, ExportError> {
        let (vision, llm) = (&checkpoint.architecture.vision, &checkpoint.architecture.llm);
        let (vision_graph, decoder) = (&folder.vision.name, &folder.decoder.name);
        let agree = |key: &str, configured: usize, graph: &str, fixed: Option<usize>| match fixed {
            Some(fixed) if fixed != configured => Err(ExportError::Invalid {
                file: checkpoint.config.file().to_path_buf(),
                key: key.to_owned(),
                found: configured.to_string(),
                expected: format!("{fixed}, as {graph} has"),
            }),
            _ => Ok(configured),
        };
        if let Some([height, width]) = folder.sizes.image {
            agree("vision_config.image_size", vision.image_size, vision_graph, Some(height))?;
            agree("vision_config.image_size", vision.image_size, vision_graph, Some(width))?;
        }
        // Processors of other programs count the class token in other ways than transformers; the graph's own shape is
        // right by construction, as long as it is one of the two that the patches allow.
        let tokens_per_image = match folder.sizes.tokens_per_image {
            Some(fixed) if fixed == vision.patches() || fixed == vision.patches() + 1 => fixed,
            fixed => agree("rows of image_size and patch_size in vision_config", vision.tokens(), vision_graph, fixed)?,
        };
        let sizes = &folder.sizes;
        Ok(Self {
            tokens_per_image,
            hidden_size: agree("text_config.hidden_size", llm.hidden_size, decoder, sizes.hidden_size)?,
            layers: agree("text_config.num_hidden_layers", llm.layers, decoder, sizes.layers)?,
            key_value_heads: agree("text_config.num_key_value_heads", llm.key_value_heads, decoder, sizes.key_value_heads)?,
            head_size: agree("text_config.head_dim", llm.head_size, decoder, sizes.head_size)?,
            vocabulary_size: agree("text_config.vocab_size", llm.vocabulary_size, decoder, sizes.vocabulary_size)?,
            maximum_positions: llm.maximum_positions.min(folder.context_length.unwrap_or(usize::MAX)),
        })
    }
}

/// onnxruntime-genai describes preprocessing as steps of onnxruntime-extensions, whose resizing is not Pillow's: what the
/// checkpoint was trained with stands in its own `preprocessor_config.json`, and CLIP's defaults must not silently replace it.
fn refuse_foreign_processor(root: &Path) -> Result<(), ExportError> {
    let Some(config) = Config::read_if_present(root, "processor_config.json")? else { return Ok(()) };
    let own = root.join("preprocessor_config.json").is_file() || config.get("image_processor").is_some();
    if own || config.get("processor").is_none() {
        return Ok(());
    }
    Err(config.unsupported(
        "processor",
        "the checkpoint's own preprocessor_config.json beside it, as steps of \
                                         onnxruntime-extensions are not what the checkpoint was trained with",
    ))
}

/// Any-res is defined by transformers' processor, which none of these layouts carries: their graphs take one view.
fn refuse_tiling(config: &Config, image: &ImageRecipe) -> Result<(), ExportError> {
    match &image.tiling {
        None => Ok(()),
        Some(_) => Err(config.unsupported(
            "image_grid_pinpoints",
            "one view of each picture: graphs in this layout take no any-res tiles, and no reference says how they should; \
             export the checkpoint itself instead",
        )),
    }
}

fn vision_stage(folder: &ForeignFolder, checkpoint: &Checkpoint, sizes: &Sizes) -> VisionStage {
    let vision = &checkpoint.architecture.vision;
    VisionStage {
        graph: folder.vision.name.clone(),
        image_size: vision.image_size,
        patch_size: vision.patch_size,
        hidden_size: sizes.hidden_size,
        tokens_per_image: sizes.tokens_per_image,
        feature_layer: vision.feature_layer,
        feature_select: if sizes.tokens_per_image > vision.patches() { "cls_patch" } else { "patch" }.to_owned(),
        compute: None,
    }
}

fn language_model_stage(folder: &ForeignFolder, checkpoint: &Checkpoint, sizes: &Sizes) -> LanguageModelStage {
    LanguageModelStage {
        graph: folder.decoder.name.clone(),
        flavor: folder.graphs.layout.as_str().to_owned(),
        hidden_size: sizes.hidden_size,
        layers: sizes.layers,
        attention_heads: checkpoint.architecture.llm.heads,
        key_value_heads: sizes.key_value_heads,
        head_size: sizes.head_size,
        vocabulary_size: sizes.vocabulary_size,
        maximum_positions: sizes.maximum_positions,
        // The graph itself hides what lies beyond.
        sliding_window: None,
        compute: None,
        embedding: TensorLocation {
            file: folder.embedding.name.clone(),
            offset: 0,
            bytes: 0,
            dtype: TensorDtype::F32,
            shape: vec![sizes.vocabulary_size, sizes.hidden_size],
        },
        embedding_scales: None,
    }
}

/// The file of the folder that holds this chat template.
fn template_holder(root: &Path, text: &str) -> Result<&'static str, ExportError> {
    for name in TEMPLATE_HOLDERS {
        let Some(config) = Config::read_if_present(root, name)? else { continue };
        let holds = match config.get("chat_template") {
            Some(Value::String(found)) => found == text,
            Some(Value::Array(list)) => list.iter().any(|entry| {
                entry.get("name").and_then(Value::as_str) == Some("default")
                    && entry.get("template").and_then(Value::as_str) == Some(text)
            }),
            _ => false,
        };
        if holds {
            return Ok(name);
        }
    }
    let (folder, name) = (root.to_path_buf(), "file with its chat template".to_owned());
    Err(ExportError::MissingFile { folder, name, hint: String::new() })
}

/// The checkpoint's number type by its configuration, as safetensors names types.
fn checkpoint_dtype(config: &Config) -> Result<String, ExportError> {
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    Ok(match config.text(key)? {
        Some("float32") => "F32",
        Some("float16") => "F16",
        Some("bfloat16") => "BF16",
        _ => "unknown",
    }
    .to_owned())
}

/// The folder's name, or the repository's where the folder is a snapshot of a Hugging Face cache; with the precision that
/// was asked for, so that runs of two precisions of one folder stay apart.
fn package_name(root: &Path, folder: &ForeignFolder, variant: Option<&str>) -> Result<String, ExportError> {
    let absolute =
        root.canonicalize().map_err(|source| ExportError::Io { action: "resolve", path: root.to_path_buf(), source })?;
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let snapshots = absolute.parent().filter(|parent| name_of(parent) == "snapshots");
    let repository = snapshots.and_then(Path::parent).map(name_of);
    let repository = repository.as_deref().and_then(|name| name.strip_prefix("models--")).and_then(|name| name.rsplit_once("--"));
    let base = repository.map_or_else(|| name_of(&absolute), |(_, name)| name.to_owned());
    let label = match variant {
        None => return Ok(base),
        Some(name) if !name.contains('=') => name.to_owned(),
        Some(_) => [&folder.vision, &folder.embedding, &folder.decoder].map(|graph| graph.precision.as_str()).join("-"),
    };
    Ok(format!("{base}-{label}"))
}

/// Length and hash of every file that decides an answer.
fn file_records(root: &Path, folder: &ForeignFolder) -> Result<Vec<FileRecord>, ExportError> {
    let small = COPIED_FILES.iter().chain(&["genai_config.json"]).filter(|name| root.join(name).is_file());
    let mut names: Vec<String> = folder.files.iter().cloned().chain(small.map(|name| (*name).to_owned())).collect();
    names.sort();
    names.dedup();
    let record = |name: String| -> Result<FileRecord, ExportError> {
        let path = contained(root, &name)?;
        let bytes = std::fs::metadata(&path).map_err(|source| GuardError::Read { path: path.clone(), source })?.len();
        Ok(FileRecord { name, bytes, sha256: sha256_of_file(&path)? })
    };
    names.into_par_iter().map(record).collect()
}
