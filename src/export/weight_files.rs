//! Finding the weight files of a folder and reading what tensors each holds, whatever its format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ExportError;
use super::config::Config;
use super::torch::TorchFile;
use crate::guard::files::contained;
use crate::package::safetensors::{SafetensorsFile, TensorEntry};

/// Most weight files of one checkpoint.
const SHARD_LIMIT: usize = 1024;
/// One file with all weights, or the index of several; in the order in which transformers looks for them.
const SAFETENSORS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
const TORCH: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// A tensor as its file has it.
pub(super) struct StoredTensor {
    pub entry: TensorEntry,
    /// Steps between neighbours along each dimension in numbers, unless the numbers stand in row-major order.
    pub strides: Option<Vec<usize>>,
}

/// A weight file and its tensors.
pub(super) struct WeightFile {
    pub name: String,
    pub path: PathBuf,
    pub tensors: Vec<StoredTensor>,
}

/// Whether a folder has the weights of a whole model.
pub(super) fn holds_weights(folder: &Path) -> bool {
    SAFETENSORS.iter().chain(&TORCH).any(|name| folder.join(name).exists())
}

/// The weight files of a folder with their tensors.
pub(super) fn read_weights(folder: &Path) -> Result<Vec<WeightFile>, ExportError> {
    for [single, index] in [SAFETENSORS, TORCH] {
        if folder.join(single).is_file() {
            return Ok(vec![read_weight_file(folder, single)?]);
        }
        if let Some(index) = Config::read_if_present(folder, index)? {
            return read_shards(folder, &index);
        }
    }
    let hint = match foreign_weights(folder) {
        Some(name) => format!(": {name} is in another format; transformers can read it and save it with safetensors"),
        None => String::new(),
    };
    let name = format!("{} or {}, nor {} or {}", SAFETENSORS[0], SAFETENSORS[1], TORCH[0], TORCH[1]);
    Err(ExportError::MissingFile { folder: folder.to_path_buf(), name, hint })
}

/// The first of some files that a folder has.
pub(super) fn read_first_of(folder: &Path, names: &[&str]) -> Result<Option<WeightFile>, ExportError> {
    match names.iter().find(|name| folder.join(name).is_file()) {
        Some(name) => read_weight_file(folder, name).map(Some),
        None => Ok(None),
    }
}

/// The tensors of one file, by the ending of its name.
fn read_weight_file(folder: &Path, name: &str) -> Result<WeightFile, ExportError> {
    let path = contained_or_linked(folder, name)?;
    let tensors = if name.ends_with(".safetensors") {
        let file = SafetensorsFile::open(&path)?;
        file.tensors.into_iter().map(|entry| StoredTensor { entry, strides: None }).collect()
    } else {
        let file = TorchFile::open(&path)?;
        let stored = |tensor: super::torch::TorchTensor| StoredTensor {
            entry: TensorEntry {
                key: tensor.key,
                dtype: tensor.dtype.to_owned(),
                shape: tensor.shape,
                offset: tensor.offset,
                bytes: tensor.bytes,
            },
            strides: tensor.strides,
        };
        file.tensors.into_iter().map(stored).collect()
    };
    Ok(WeightFile { name: name.to_owned(), path, tensors })
}

/// The shards that an index lists. Every tensor must be where the index says.
fn read_shards(folder: &Path, index: &Config) -> Result<Vec<WeightFile>, ExportError> {
    let ending = if index.file().to_string_lossy().contains(".safetensors") { ".safetensors" } else { ".bin" };
    let map = index.object("weight_map")?.ok_or_else(|| index.invalid("weight_map", "an object"))?;
    let mut keys: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for key in map.keys() {
        let name = map.text(key)?.unwrap_or_default();
        if name.is_empty() || name.contains(['/', '\\']) || !name.ends_with(ending) {
            return Err(map.invalid(key, &format!("the name of a {ending} file of the folder")));
        }
        keys.entry(name.to_owned()).or_default().push(key);
    }
    if keys.is_empty() || keys.len() > SHARD_LIMIT {
        return Err(index.invalid("weight_map", &format!("1 to {SHARD_LIMIT} files")));
    }
    let index_name = index.file().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = Vec::new();
    for (name, keys) in keys {
        if !folder.join(&name).is_file() {
            let hint = format!(": {index_name} lists it");
            return Err(ExportError::MissingFile { folder: folder.to_path_buf(), name, hint });
        }
        let file = read_weight_file(folder, &name)?;
        let found: BTreeSet<&str> = file.tensors.iter().map(|tensor| tensor.entry.key.as_str()).collect();
        if let Some(absent) = keys.into_iter().find(|key| !found.contains(key)) {
            return Err(map.invalid(absent, &format!("the file that holds the tensor, and {name} does not")));
        }
        files.push(file);
    }
    Ok(files)
}

/// A weight file of a format that is not read.
fn foreign_weights(folder: &Path) -> Option<String> {
    const ENDINGS: [&str; 8] = [".gguf", ".ggml", ".pth", ".pt", ".ckpt", ".h5", ".msgpack", ".npz"];
    let names =
        std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending))).min()
}

/// A file of a checkpoint folder. The folder is the user's own, so symbolic links (the Hugging Face cache is made of
/// them) are followed.
fn contained_or_linked(folder: &Path, name: &str) -> Result<PathBuf, ExportError> {
    let path = folder.join(name);
    if path.is_symlink() { Ok(path) } else { Ok(contained(folder, name)?) }
}

/// The method that a tensor's name betrays: quantised weights come with scales of their own.
pub(super) fn quantisation(key: &str) -> Option<&'static str> {
    const METHODS: [(&str, &str); 10] = [
        (".qweight", "GPTQ or AWQ"),
        (".qzeros", "GPTQ or AWQ"),
        (".g_idx", "GPTQ"),
        (".absmax", "bitsandbytes 4-bit"),
        (".quant_map", "bitsandbytes 4-bit"),
        (".nested_absmax", "bitsandbytes 4-bit"),
        (".SCB", "bitsandbytes 8-bit"),
        (".weight_format", "bitsandbytes 8-bit"),
        (".weight_scale", "FP8 or compressed-tensors"),
        (".weight_packed", "compressed-tensors"),
    ];
    if key.contains(".quant_state.bitsandbytes__") {
        return Some("bitsandbytes 4-bit");
    }
    METHODS.iter().find(|(ending, _)| key.ends_with(ending)).map(|(_, method)| *method)
}
