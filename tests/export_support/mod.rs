//! Copies of the small checkpoints that tests may change, and rewriting of safetensors files.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::path::{Path, PathBuf};

use llava_gauge::export::{ExportError, ExportOptions, export};
use llava_gauge::package::{Package, sha256_of_file};
use serde_json::{Map, Value, json};

/// A folder of `tests/fixtures/export`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/export").join(name)
}

/// Copies a folder with its subfolders.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A checkpoint in a temporary folder that the test may change.
pub struct Scratch {
    _folder: tempfile::TempDir,
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Where its package goes.
    pub package: PathBuf,
}

impl Scratch {
    /// Of a folder of `tests/fixtures/export`.
    pub fn of(name: &str) -> Self {
        Self::copy_of(&fixture(name))
    }

    /// Of a folder of `tests/parity/recorded`.
    pub fn recorded(name: &str) -> Self {
        Self::copy_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/recorded").join(name))
    }

    fn copy_of(source: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        copy_folder(source, &checkpoint);
        Self { checkpoint, package: folder.path().join("package"), _folder: folder }
    }

    pub fn options(&self) -> ExportOptions {
        ExportOptions::new(&self.checkpoint, &self.package)
    }

    pub fn export(&self) -> Result<Package, ExportError> {
        export(&self.options())
    }

    /// The message of the error that the export must end in.
    pub fn refusal(&self) -> String {
        let message = self.export().unwrap_err().to_string();
        assert!(!self.package.join("package.toml").exists(), "a refused export left a package");
        message
    }

    /// Changes a JSON file of the checkpoint.
    pub fn edit(&self, file: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        edit_json(&self.checkpoint.join(file), change);
    }

    /// Sets one key, given by its path, in a JSON file; the value `absent` removes it.
    pub fn set(&self, file: &str, path: &[&str], value: Value) {
        self.edit(file, |root| {
            let (last, parents) = path.split_last().unwrap();
            let parent =
                parents.iter().fold(root, |object, key| object.entry(*key).or_insert_with(|| json!({})).as_object_mut().unwrap());
            if value == json!("absent") {
                parent.remove(*last)
            } else {
                parent.insert((*last).to_owned(), value)
            };
        });
    }

    /// Changes the tensors of the checkpoint's only weight file.
    pub fn edit_tensors(&self, change: impl FnOnce(&mut Vec<Tensor>)) {
        let path = self.checkpoint.join("model.safetensors");
        let mut tensors = read_tensors(&path);
        change(&mut tensors);
        write_tensors(&path, &tensors);
    }
}

pub fn edit_json(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(value.as_object_mut().unwrap());
    fs::write(path, value.to_string()).unwrap();
}

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// All tensors of a file in the order of their bytes.
pub fn read_tensors(path: &Path) -> Vec<Tensor> {
    let bytes = fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let mut found: Vec<(usize, Tensor)> = Vec::new();
    for (name, entry) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
        let offset = |index: usize| start + entry["data_offsets"][index].as_u64().unwrap() as usize;
        let shape = entry["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect();
        let dtype = entry["dtype"].as_str().unwrap().to_owned();
        found.push((offset(0), Tensor { name, dtype, shape, data: bytes[offset(0)..offset(1)].to_vec() }));
    }
    found.sort_by_key(|(offset, _)| *offset);
    found.into_iter().map(|(_, tensor)| tensor).collect()
}

/// Writes a safetensors file.
pub fn write_tensors(path: &Path, tensors: &[Tensor]) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let begin = data.len();
        data.extend(&tensor.data);
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
        header.insert(tensor.name.clone(), entry);
    }
    let header = Value::Object(header).to_string().into_bytes();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    fs::write(path, bytes).unwrap();
}

/// Names and SHA-256 of a folder's files, sorted.
pub fn contents(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), sha256_of_file(&entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}
