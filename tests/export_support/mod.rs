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

/// A file of torch.save with these pickle bytes and storages, as PyTorch writes its zip archives.
pub fn torch_archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut add = |name: String, bytes: &[u8], alignment: u16| {
        archive.start_file(name, stored.with_alignment(alignment)).unwrap();
        archive.write_all(bytes).unwrap();
    };
    add("archive/data.pkl".to_owned(), pickle, 1);
    add("archive/byteorder".to_owned(), b"little", 1);
    for (name, bytes) in storages {
        add(format!("archive/data/{name}"), bytes, 64);
    }
    add("archive/version".to_owned(), b"3\n", 1);
    archive.finish().unwrap().into_inner()
}

/// The instructions that push a text.
pub fn pickled_text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// The instructions that push an integer.
pub fn pickled_integer(value: usize) -> Vec<u8> {
    [&b"J"[..], &(value as i32).to_le_bytes()].concat()
}

/// The instructions that push a contiguous tensor on a storage of its own.
pub fn pickled_tensor(storage: &str, kind: &str, shape: &[usize]) -> Vec<u8> {
    let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    pickled_view(storage, kind, shape.iter().product(), 0, shape, &strides)
}

/// The instructions that push a view of a storage.
pub fn pickled_view(storage: &str, kind: &str, count: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let tuple =
        |sizes: &[usize]| [b"(".to_vec(), sizes.iter().flat_map(|&size| pickled_integer(size)).collect(), b"t".to_vec()].concat();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        pickled_text("storage"),
        format!("ctorch\n{kind}\n").into_bytes(),
        pickled_text(storage),
        pickled_text("cpu"),
        pickled_integer(count),
        b"tQ".to_vec(),
        pickled_integer(offset),
        tuple(shape),
        tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// A file of torch.save with these tensors.
pub fn torch_file(tensors: &[Tensor]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    let names: Vec<String> = (0..tensors.len()).map(|number| number.to_string()).collect();
    for (tensor, name) in tensors.iter().zip(&names) {
        let kind = match tensor.dtype.as_str() {
            "F32" => "FloatStorage",
            "F16" => "HalfStorage",
            "BF16" => "BFloat16Storage",
            _ => "LongStorage",
        };
        pickle.extend(pickled_text(&tensor.name));
        pickle.extend(pickled_tensor(name, kind, &tensor.shape));
    }
    pickle.extend(b"u.");
    let storages: Vec<(&str, &[u8])> =
        tensors.iter().zip(&names).map(|(tensor, name)| (name.as_str(), &tensor.data[..])).collect();
    torch_archive(&pickle, &storages)
}

/// A folder of `tests/fixtures`.
pub fn root_fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
