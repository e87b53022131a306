//! What kind of checkpoint a folder is: whole weights, or a change to a base model; and where its small files stand.

use std::path::{Path, PathBuf};

use super::ExportError;
use super::config::Config;
use super::weight_files::holds_weights;

/// What the weights of a folder are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckpointKind {
    /// All weights of a model.
    Whole,
    /// Differences to a base LLaMA, as LLaVA v0 and v1 were published; to be added to it.
    Delta,
    /// A LoRA adapter (`adapter_config.json`), to be merged into a base.
    Adapter,
    /// A projector (`mm_projector.bin`), as the first stage of training leaves it.
    Projector,
    /// None: only the configuration is read, as of a package that another program wrote.
    ConfigurationOnly,
}

/// The folders of a checkpoint.
#[derive(Clone, Debug)]
pub(super) struct CheckpointFiles {
    pub root: PathBuf,
    pub kind: CheckpointKind,
    /// The base model's folder; given for every kind but `Whole`.
    pub base: PathBuf,
}

/// Names of a stage-1 projector's file.
pub(super) const PROJECTOR_FILES: [&str; 2] = ["mm_projector.bin", "mm_projector.safetensors"];
/// The configuration of a PEFT adapter.
pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";

impl CheckpointFiles {
    /// Finds out what a folder is. A base that is needed and not given is an error, as is one that is given and not
    /// needed.
    pub fn recognise(root: &Path, base: Option<&Path>) -> Result<Self, ExportError> {
        let named = named_delta(root);
        let kind = if root.join(ADAPTER_CONFIG).is_file() {
            CheckpointKind::Adapter
        } else if !holds_weights(root) && PROJECTOR_FILES.iter().any(|name| root.join(name).is_file()) {
            CheckpointKind::Projector
        } else if named || (base.is_some() && configured_delta(root)?) {
            CheckpointKind::Delta
        } else {
            CheckpointKind::Whole
        };
        let base = match (kind, base) {
            (CheckpointKind::Whole, None) => root.to_path_buf(),
            (CheckpointKind::Whole, Some(base)) => {
                return Err(ExportError::UnusedBase { folder: root.to_path_buf(), base: base.to_path_buf() });
            }
            (_, Some(base)) => {
                check_base(base)?;
                base.to_path_buf()
            }
            (kind, None) => {
                let what = match kind {
                    CheckpointKind::Adapter => "a LoRA adapter (adapter_config.json)",
                    CheckpointKind::Projector => "a projector alone (mm_projector.bin)",
                    _ => "a delta, as its name says,",
                };
                let hint = match named_base(root, kind)? {
                    Some(name) => format!("; it was made from {name}"),
                    None => String::new(),
                };
                return Err(ExportError::NeedsBase { folder: root.to_path_buf(), what, hint });
            }
        };
        Ok(Self { root: root.to_path_buf(), kind, base })
    }

    /// A folder of which only the configuration is read.
    pub fn configuration_only(root: &Path) -> Self {
        Self { root: root.to_path_buf(), kind: CheckpointKind::ConfigurationOnly, base: root.to_path_buf() }
    }

    /// The folder whose `config.json` describes the model: the checkpoint, or its base for an adapter that has none, as
    /// PEFT saves them.
    pub fn config_folder(&self) -> &Path {
        if self.kind == CheckpointKind::Adapter && !self.root.join("config.json").is_file() { &self.base } else { &self.root }
    }

    /// The folder of tokenizer and generation defaults. LLaVA's `load_pretrained_model` takes both from the base for
    /// adapters and projectors, and from the checkpoint itself for deltas.
    pub fn language_folder(&self) -> &Path {
        match self.kind {
            CheckpointKind::Whole | CheckpointKind::Delta | CheckpointKind::ConfigurationOnly => &self.root,
            CheckpointKind::Adapter | CheckpointKind::Projector => &self.base,
        }
    }
}

/// A base must be a folder of whole weights that are not quantised.
fn check_base(base: &Path) -> Result<(), ExportError> {
    let Some(config) = Config::read_if_present(base, "config.json")? else {
        let hint = ": --base is the folder of the model that this checkpoint changes".to_owned();
        return Err(ExportError::MissingFile { folder: base.to_path_buf(), name: "config.json".to_owned(), hint });
    };
    config.refuse_present("quantization_config", "weights that are not quantised")
}

/// Whether the folder is called a delta. In a Hugging Face cache the repository's folder has the name.
fn named_delta(root: &Path) -> bool {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let folder = match absolute.parent() {
        Some(parent) if parent.file_name().is_some_and(|name| name == "snapshots") => parent.parent(),
        _ => Some(absolute.as_path()),
    };
    let name = folder.and_then(Path::file_name).map(|name| name.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| name.split(['-', '_', '.']).any(|part| part == "delta"))
}

/// Whether the configuration was loaded from a delta. Alone this says nothing: `apply_delta.py` leaves it in the sum.
fn configured_delta(root: &Path) -> Result<bool, ExportError> {
    let Some(config) = Config::read_if_present(root, "config.json")? else { return Ok(false) };
    Ok(config.text("_name_or_path")?.is_some_and(|name| named_delta(Path::new(name))))
}

/// The base that the checkpoint itself names.
fn named_base(root: &Path, kind: CheckpointKind) -> Result<Option<String>, ExportError> {
    let (file, key) = match kind {
        CheckpointKind::Adapter => (ADAPTER_CONFIG, "base_model_name_or_path"),
        CheckpointKind::Projector => ("config.json", "_name_or_path"),
        _ => return Ok(None),
    };
    let Some(config) = Config::read_if_present(root, file)? else { return Ok(None) };
    Ok(config.text(key)?.filter(|name| !name.is_empty()).map(|name| format!("{name:?}")))
}
