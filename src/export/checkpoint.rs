//! The tensors of a checkpoint: finding the weight files, giving every tensor its canonical name, and holding them
//! against what the configuration implies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ExportError;
use super::architecture::{EMBEDDING, IMAGE_NEWLINE, LlavaArchitecture, OUTPUT_HEAD};
use super::files::{CheckpointFiles, CheckpointKind};
use super::numbers::ShardMaps;
use super::weight_files::{WeightFile, quantisation, read_weights};
use crate::package::SourceFormat;
use crate::package::safetensors::TensorEntry;

/// What a tensor of a checkpoint is to the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A weight, by its canonical name.
    Weight(String),
    /// Known, and not used by the graphs.
    Ignored,
    /// Not explained by anything.
    Unknown,
}

/// A weight file and the name that it gets in the package.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    pub package_name: String,
}

/// A tensor with its place.
#[derive(Clone, Debug)]
pub(super) struct FoundTensor {
    /// Index into [`CheckpointTensors::shards`].
    pub shard: usize,
    pub entry: TensorEntry,
    /// Steps between neighbours along each dimension in numbers, unless the numbers stand in row-major order.
    pub strides: Option<Vec<usize>>,
    /// What happens to the stored numbers at export.
    pub change: Option<Box<Change>>,
}

impl FoundTensor {
    /// Number type of the numbers after the change, as safetensors names it.
    pub fn dtype(&self) -> &str {
        match self.change.as_deref() {
            Some(Change::Rounded | Change::Sum { .. }) => "F16",
            Some(Change::Product { .. }) | None => &self.entry.dtype,
        }
    }

    /// Whether the package can use the stored bytes as they are.
    pub fn is_plain(&self) -> bool {
        self.strides.is_none() && self.change.is_none()
    }
}

/// How stored numbers become a weight.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Rounded to half precision.
    Rounded,
    /// Added to a base's tensor in half precision; the base may have fewer rows.
    Sum { base: FoundTensor },
    /// `(up · down) · scaling` is added in 32 bits, and the sum rounded to the stored type. `up` is `[outputs, rank]`,
    /// `down` is `[rank, inputs]`.
    Product { up: FoundTensor, down: FoundTensor, scaling: f32 },
}

/// The weights of a checkpoint by canonical name.
#[derive(Clone, Debug)]
pub(super) struct CheckpointTensors {
    root: PathBuf,
    format: SourceFormat,
    pub shards: Vec<Shard>,
    pub(super) tensors: BTreeMap<String, FoundTensor>,
    pub(super) unknown: Vec<FoundTensor>,
}

impl CheckpointTensors {
    /// Reads the headers of a checkpoint's weight files, and of its base's.
    pub fn read(files: &CheckpointFiles, format: SourceFormat) -> Result<Self, ExportError> {
        let mut found = Self::new(&files.root, format);
        match files.kind {
            CheckpointKind::Whole => found.add_folder(&files.root, role_of(format), str::to_owned)?,
            CheckpointKind::Delta => found.add_delta(files)?,
            CheckpointKind::Adapter => found.add_adapter(files)?,
            CheckpointKind::Projector => found.add_projector(files)?,
            CheckpointKind::ConfigurationOnly => {}
        }
        Ok(found)
    }

    pub(super) fn new(root: &Path, format: SourceFormat) -> Self {
        Self { root: root.to_path_buf(), format, shards: Vec::new(), tensors: BTreeMap::new(), unknown: Vec::new() }
    }

    /// The rule for the names of this checkpoint's tensors.
    pub(super) fn role(&self) -> fn(&str) -> Role {
        role_of(self.format)
    }

    /// Adds the vision tower of a separate CLIP checkpoint.
    pub fn add_vision_tower(&mut self, folder: &Path) -> Result<(), ExportError> {
        self.add_folder(folder, clip_role, |name| match name.split_once('.') {
            Some(("model", ending @ "safetensors") | ("pytorch_model", ending @ "bin")) => format!("vision_tower.{ending}"),
            _ => format!("vision_tower-{name}"),
        })
    }

    /// Whether the checkpoint holds a vision tower.
    pub fn has_vision_tower(&self) -> bool {
        self.tensors.keys().any(|name| name.starts_with("vision."))
    }

    /// Adds all weights of a folder.
    pub(super) fn add_folder(
        &mut self,
        folder: &Path,
        role: fn(&str) -> Role,
        package_name: impl Fn(&str) -> String,
    ) -> Result<(), ExportError> {
        for file in read_weights(folder)? {
            let path = file.path.clone();
            for found in self.add_file(file, &package_name)? {
                match role(&found.entry.key) {
                    Role::Ignored => {}
                    Role::Unknown => self.unknown.push(found),
                    Role::Weight(name) => {
                        let second = found.entry.key.clone();
                        if let Some(first) = self.tensors.insert(name, found) {
                            return Err(ExportError::DuplicateTensor { path, first: first.entry.key, second });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a file, and gives its tensors, which have no names yet.
    pub(super) fn add_file(
        &mut self,
        file: WeightFile,
        package_name: impl Fn(&str) -> String,
    ) -> Result<Vec<FoundTensor>, ExportError> {
        let shard = self.shards.len();
        self.shards.push(Shard { path: file.path.clone(), package_name: package_name(&file.name) });
        let mut tensors = Vec::with_capacity(file.tensors.len());
        for stored in file.tensors {
            if let Some(method) = quantisation(&stored.entry.key) {
                return Err(ExportError::Unsupported {
                    file: file.path,
                    key: format!("tensor {:?}", stored.entry.key),
                    found: format!("a part of {method} weights"),
                    supported: "weights that are not quantised".to_owned(),
                });
            }
            tensors.push(FoundTensor { shard, entry: stored.entry, strides: stored.strides, change: None });
        }
        Ok(tensors)
    }

    /// Checks that the checkpoint has exactly the tensors that its configuration implies, and gives those that the graphs
    /// need.
    pub fn check(mut self, architecture: &LlavaArchitecture) -> Result<CheckedTensors, ExportError> {
        let mut checked = BTreeMap::new();
        for required in architecture.required_tensors() {
            let Some(found) = self.tensors.remove(&required.name) else {
                return Err(self.missing(&required.name, required.shape));
            };
            self.check_tensor(&found, &required.shape)?;
            checked.insert(required.name, found);
        }
        let vision = &architecture.vision;
        let unused_layers: BTreeSet<String> = (vision.used_layers..vision.layers).map(|layer| layer.to_string()).collect();
        let ignorable = |name: &str| {
            let layer = name.strip_prefix("vision.encoder.layers.").and_then(|rest| rest.split('.').next());
            // The pooling head of SigLIP, and a newline row that no kind of merging here uses.
            let unused = name.starts_with("vision.post_layernorm.") || name.starts_with("vision.head.") || name == IMAGE_NEWLINE;
            unused || layer.is_some_and(|layer| unused_layers.contains(layer))
        };
        if let Some(head) = self.tensors.remove(OUTPUT_HEAD) {
            // The configuration says that the head is the embedding table, but the checkpoint has a head of its own:
            // transformers' versions disagree on which one counts, so only equal shapes and bytes are accepted.
            self.check_tied_head(&head, &checked)?;
        }
        let mut left: Vec<&FoundTensor> =
            self.tensors.iter().filter(|(name, _)| !ignorable(name)).map(|(_, found)| found).chain(&self.unknown).collect();
        left.sort_by(|a, b| a.entry.key.cmp(&b.entry.key));
        match left.split_first() {
            None => Ok(CheckedTensors { shards: self.shards, tensors: checked }),
            Some((first, rest)) => Err(ExportError::UnexpectedTensor {
                path: self.path_of(first),
                tensor: first.entry.key.clone(),
                shape: first.entry.shape.clone(),
                others: if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) },
            }),
        }
    }

    pub(super) fn path_of(&self, found: &FoundTensor) -> PathBuf {
        self.shards.get(found.shard).map(|shard| shard.path.clone()).unwrap_or_default()
    }

    pub(super) fn check_tensor(&self, found: &FoundTensor, expected: &[usize]) -> Result<(), ExportError> {
        let entry = &found.entry;
        if entry.shape != expected {
            return Err(ExportError::Shape {
                path: self.path_of(found),
                tensor: entry.key.clone(),
                found: entry.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        if !matches!(entry.dtype.as_str(), "F32" | "F16" | "BF16") {
            let (path, tensor) = (self.path_of(found), entry.key.clone());
            return Err(ExportError::Dtype { path, tensor, found: entry.dtype.clone() });
        }
        Ok(())
    }

    fn check_tied_head(&self, head: &FoundTensor, checked: &BTreeMap<String, FoundTensor>) -> Result<(), ExportError> {
        let Some(table) = checked.get(EMBEDDING) else { return Ok(()) };
        self.check_tensor(head, &table.entry.shape)?;
        if self.equal(head, table)? {
            return Ok(());
        }
        Err(ExportError::Invalid {
            file: self.path_of(head),
            key: format!("tensor {:?}", head.entry.key),
            found: format!("unlike {:?}", table.entry.key),
            expected: "equal to it, as tie_word_embeddings = true says".to_owned(),
        })
    }

    /// Whether two tensors of one shape hold the same numbers.
    fn equal(&self, first: &FoundTensor, second: &FoundTensor) -> Result<bool, ExportError> {
        const BATCH: usize = 1 << 20;
        let (mut first_maps, mut second_maps) = (ShardMaps::new(&self.shards), ShardMaps::new(&self.shards));
        let (first, second) = (first_maps.numbers(first)?, second_maps.numbers(second)?);
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for start in (0..first.count()).step_by(BATCH) {
            let range = start..(start + BATCH).min(first.count());
            first.read(range.clone(), &mut own);
            second.read(range, &mut other);
            if own.iter().zip(&other).any(|(own, other)| own.to_bits() != other.to_bits()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The error for an absent tensor, with the name that this checkpoint format gives it.
    fn missing(&self, name: &str, shape: Vec<usize>) -> ExportError {
        let (tensor, hint) = match self.format {
            SourceFormat::HuggingFace => (
                match name.split_once('.') {
                    Some(("llm", "lm_head.weight")) => "\"language_model.lm_head.weight\" (or \"lm_head.weight\")".to_owned(),
                    Some(("llm", rest)) => format!("\"language_model.model.{rest}\" (or \"model.language_model.{rest}\")"),
                    Some(("vision", rest)) => {
                        format!("\"vision_tower.vision_model.{rest}\" (or \"model.vision_tower.{rest}\")")
                    }
                    Some(("projector", "image_newline")) => "\"image_newline\" (or \"model.image_newline\")".to_owned(),
                    Some((_, rest)) => format!("\"multi_modal_projector.{rest}\""),
                    None => format!("{name:?}"),
                },
                "",
            ),
            SourceFormat::Original => match name.split_once('.') {
                Some(("llm", "lm_head.weight")) => ("\"lm_head.weight\"".to_owned(), ""),
                Some(("llm", rest)) => (format!("\"model.{rest}\""), ""),
                Some(("vision", rest)) => (
                    format!("\"vision_model.{rest}\" of the vision tower"),
                    if self.has_vision_tower() {
                        ""
                    } else {
                        ": the checkpoint holds no vision tower; give it with --vision-tower"
                    },
                ),
                Some(("projector", "image_newline")) => ("\"model.image_newline\"".to_owned(), ""),
                _ => (format!("\"model.mm_projector\" ({name})"), ""),
            },
        };
        ExportError::MissingTensor { checkpoint: self.root.clone(), tensor, shape, hint: hint.to_owned() }
    }
}

/// The tensors that the graphs need, each of the right shape and type.
#[derive(Clone, Debug)]
pub(super) struct CheckedTensors {
    pub shards: Vec<Shard>,
    pub tensors: BTreeMap<String, FoundTensor>,
}

impl CheckedTensors {
    /// The commonest number type among the tensors, by count of numbers; ties go to the first by name.
    pub fn commonest_dtype(&self) -> String {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for found in self.tensors.values() {
            *counts.entry(found.dtype()).or_default() += found.entry.shape.iter().map(|&size| size as u64).product::<u64>();
        }
        let best = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        best.map(|(dtype, _)| (*dtype).to_owned()).unwrap_or_default()
    }
}

/// The rule for a format's names.
fn role_of(format: SourceFormat) -> fn(&str) -> Role {
    match format {
        SourceFormat::HuggingFace => hugging_face_role,
        SourceFormat::Original => original_role,
    }
}

/// Buffers that some versions saved and every version recomputes.
fn is_buffer(key: &str) -> bool {
    key.ends_with("rotary_emb.inv_freq") || key.ends_with("position_ids")
}

/// Hugging Face names, of every version of transformers: with or without a leading `model.`, `vision_model.`, or the
/// language model's own `model.`.
fn hugging_face_role(key: &str) -> Role {
    if is_buffer(key) {
        return Role::Ignored;
    }
    let rest = key.strip_prefix("model.").unwrap_or(key);
    if rest == "image_newline" {
        return Role::Weight(IMAGE_NEWLINE.to_owned());
    }
    if key == "lm_head.weight" || rest == "language_model.lm_head.weight" {
        return Role::Weight(OUTPUT_HEAD.to_owned());
    }
    if let Some(rest) = rest.strip_prefix("language_model.") {
        return Role::Weight(format!("llm.{}", rest.strip_prefix("model.").unwrap_or(rest)));
    }
    if let Some(rest) = rest.strip_prefix("vision_tower.") {
        return Role::Weight(format!("vision.{}", rest.strip_prefix("vision_model.").unwrap_or(rest)));
    }
    match rest.strip_prefix("multi_modal_projector.") {
        Some(rest) => Role::Weight(format!("projector.{rest}")),
        None => Role::Unknown,
    }
}

/// Names of the original LLaVA repository.
fn original_role(key: &str) -> Role {
    if is_buffer(key) {
        return Role::Ignored;
    }
    if key == "model.image_newline" {
        return Role::Weight(IMAGE_NEWLINE.to_owned());
    }
    if key == "lm_head.weight" {
        return Role::Weight(OUTPUT_HEAD.to_owned());
    }
    let Some(rest) = key.strip_prefix("model.") else { return Role::Unknown };
    if let Some(rest) = rest.strip_prefix("vision_tower.vision_tower.") {
        return Role::Weight(format!("vision.{}", rest.strip_prefix("vision_model.").unwrap_or(rest)));
    }
    if let Some(rest) = rest.strip_prefix("mm_projector.") {
        // Linear layers have the even places of a sequence, activations the odd ones.
        let (place, part) = match rest.split_once('.') {
            Some((place, part)) => (place.parse::<u32>().ok(), part),
            None => (Some(0), rest),
        };
        return match place {
            Some(place) if place % 2 == 0 => Role::Weight(format!("projector.linear_{}.{part}", place / 2 + 1)),
            _ => Role::Unknown,
        };
    }
    Role::Weight(format!("llm.{rest}"))
}

/// Names of a CLIP or SigLIP checkpoint, whole or vision part only, of every version of transformers.
fn clip_role(key: &str) -> Role {
    const VISION: [&str; 5] = ["embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm.", "head."];
    let elsewhere = ["text_model.", "text_projection.", "visual_projection."].iter().any(|prefix| key.starts_with(prefix));
    if is_buffer(key) || elsewhere || key == "logit_scale" || key == "logit_bias" {
        return Role::Ignored;
    }
    match key.strip_prefix("vision_model.") {
        Some(rest) => Role::Weight(format!("vision.{rest}")),
        None if VISION.iter().any(|prefix| key.starts_with(prefix)) => Role::Weight(format!("vision.{key}")),
        None => Role::Unknown,
    }
}
