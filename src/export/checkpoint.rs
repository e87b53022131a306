//! The tensors of a checkpoint: finding the weight files, giving every tensor its canonical name, and holding them
//! against what the configuration implies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ExportError;
use super::architecture::{EMBEDDING, LlavaArchitecture, OUTPUT_HEAD};
use super::config::Config;
use super::weights::slice_of;
use crate::guard::files::{contained, map_file};
use crate::package::SourceFormat;
use crate::package::safetensors::{SafetensorsFile, TensorEntry};

/// Most weight files of one checkpoint.
const SHARD_LIMIT: usize = 1024;

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
    /// Reads the headers of a checkpoint's weight files.
    pub fn read(root: &Path, format: SourceFormat) -> Result<Self, ExportError> {
        let mut found = Self::new(root, format);
        let role = match format {
            SourceFormat::HuggingFace => hugging_face_role,
            SourceFormat::Original => original_role,
        };
        found.add_folder(root, role, |name| name.to_owned())?;
        Ok(found)
    }

    pub(super) fn new(root: &Path, format: SourceFormat) -> Self {
        Self { root: root.to_path_buf(), format, shards: Vec::new(), tensors: BTreeMap::new(), unknown: Vec::new() }
    }

    /// Adds the vision tower of a separate CLIP checkpoint.
    pub fn add_vision_tower(&mut self, folder: &Path) -> Result<(), ExportError> {
        self.add_folder(folder, clip_role, |name| match name {
            "model.safetensors" => "vision_tower.safetensors".to_owned(),
            _ => format!("vision_tower-{name}"),
        })
    }

    /// Whether the checkpoint holds a vision tower.
    pub fn has_vision_tower(&self) -> bool {
        self.tensors.keys().any(|name| name.starts_with("vision."))
    }

    pub(super) fn add_folder(
        &mut self,
        folder: &Path,
        role: fn(&str) -> Role,
        package_name: impl Fn(&str) -> String,
    ) -> Result<(), ExportError> {
        for name in weight_files(folder)? {
            let path = contained_or_linked(folder, &name)?;
            let file = SafetensorsFile::open(&path)?;
            let shard = self.shards.len();
            self.shards.push(Shard { path: file.path, package_name: package_name(&name) });
            for entry in file.tensors {
                let found = FoundTensor { shard, entry };
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
            name.starts_with("vision.post_layernorm.") || layer.is_some_and(|layer| unused_layers.contains(layer))
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
        if let (Some(first), Some(second)) = (self.shards.get(head.shard), self.shards.get(table.shard))
            && head.entry.dtype == table.entry.dtype
        {
            let (first_map, second_map) = (map_file(&first.path)?, map_file(&second.path)?);
            if slice_of(&first_map, first, &head.entry)? == slice_of(&second_map, second, &table.entry)? {
                return Ok(());
            }
        }
        Err(ExportError::Invalid {
            file: self.path_of(head),
            key: format!("tensor {:?}", head.entry.key),
            found: format!("unlike {:?}", table.entry.key),
            expected: "equal to it, as tie_word_embeddings = true says".to_owned(),
        })
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
            *counts.entry(&found.entry.dtype).or_default() += found.entry.shape.iter().map(|&size| size as u64).product::<u64>();
        }
        let best = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        best.map(|(dtype, _)| (*dtype).to_owned()).unwrap_or_default()
    }
}

/// Names of a folder's weight files: one file, or the shards that the index lists.
fn weight_files(folder: &Path) -> Result<Vec<String>, ExportError> {
    const INDEX: &str = "model.safetensors.index.json";
    const SINGLE: &str = "model.safetensors";
    if folder.join(SINGLE).is_file() {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let Some(index) = Config::read_if_present(folder, INDEX)? else {
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|name| folder.join(name).exists());
        let hint = if pickled {
            ": its pytorch_model.bin is a pickle, which can run code and is never read; save the model with safetensors first"
        } else {
            ""
        };
        let (folder, name) = (folder.to_path_buf(), format!("{SINGLE} or {INDEX}"));
        return Err(ExportError::MissingFile { folder, name, hint: hint.to_owned() });
    };
    let map = index.object("weight_map")?.ok_or_else(|| index.invalid("weight_map", "an object"))?;
    let mut names = BTreeSet::new();
    for key in map.keys() {
        let name = map.text(key)?.unwrap_or_default();
        if name.is_empty() || name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
            return Err(map.invalid(key, "the name of a .safetensors file of the folder"));
        }
        names.insert(name.to_owned());
    }
    if names.is_empty() || names.len() > SHARD_LIMIT {
        return Err(index.invalid("weight_map", &format!("1 to {SHARD_LIMIT} files")));
    }
    for name in &names {
        if !folder.join(name).is_file() {
            let hint = format!(": {INDEX} lists it");
            return Err(ExportError::MissingFile { folder: folder.to_path_buf(), name: name.clone(), hint });
        }
    }
    Ok(names.into_iter().collect())
}

/// A file of a checkpoint folder. The folder is the user's own, so symbolic links (the Hugging Face cache is made of
/// them) are followed.
fn contained_or_linked(folder: &Path, name: &str) -> Result<PathBuf, ExportError> {
    let path = folder.join(name);
    if path.is_symlink() { Ok(path) } else { Ok(contained(folder, name)?) }
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
        return Role::Ignored;
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
    if is_buffer(key) || key == "model.image_newline" {
        return Role::Ignored;
    }
    if key == "lm_head.weight" {
        return Role::Weight(OUTPUT_HEAD.to_owned());
    }
    let Some(rest) = key.strip_prefix("model.") else { return Role::Unknown };
    if let Some(rest) = rest.strip_prefix("vision_tower.vision_tower.") {
        return Role::Weight(format!("vision.{}", rest.strip_prefix("vision_model.").unwrap_or(rest)));
    }
    if let Some(rest) = rest.strip_prefix("mm_projector.") {
        let (layer, part) = match rest.split_once('.') {
            Some(("0", part)) => ("linear_1", part),
            Some(("2", part)) => ("linear_2", part),
            Some(_) => return Role::Unknown,
            None => ("linear_1", rest),
        };
        return Role::Weight(format!("projector.{layer}.{part}"));
    }
    Role::Weight(format!("llm.{rest}"))
}

/// Names of a CLIP checkpoint, whole or vision part only, of every version of transformers.
fn clip_role(key: &str) -> Role {
    const VISION: [&str; 4] = ["embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm."];
    let elsewhere = ["text_model.", "text_projection.", "visual_projection."].iter().any(|prefix| key.starts_with(prefix));
    if is_buffer(key) || elsewhere || key == "logit_scale" {
        return Role::Ignored;
    }
    match key.strip_prefix("vision_model.") {
        Some(rest) => Role::Weight(format!("vision.{rest}")),
        None if VISION.iter().any(|prefix| key.starts_with(prefix)) => Role::Weight(format!("vision.{key}")),
        None => Role::Unknown,
    }
}
