//! What a manifest may say of the files of its package, whatever kind of package it is: that they are there, that their
//! graphs have the promised interface, and that no weight is read from elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::manifest::MANIFEST_FILE;
use super::open::sha256_of_file;
use super::{FileRecord, PackageError};
use crate::guard::files::{GuardError, contained};
use crate::onnx::{Dimension, MICROSOFT_DOMAIN, ModelHeader, TensorPort, inspect_file, proto::data_type};

/// Most files of a package; the largest checkpoints have a few dozen shards.
const FILE_LIMIT: usize = 4096;

/// A package folder and the files that its manifest lists.
pub(super) struct Contents<'a> {
    pub root: &'a Path,
    pub files: &'a [FileRecord],
}

impl<'a> Contents<'a> {
    /// The error for a field of the manifest.
    pub fn field(&self, field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> PackageError {
        PackageError::Field {
            path: self.root.join(MANIFEST_FILE),
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// The record of a file that the manifest's `field` names.
    pub fn record(&self, field: &str, name: &str) -> Result<&'a FileRecord, PackageError> {
        let record = self.files.iter().find(|record| record.name == name);
        record.ok_or_else(|| self.field(field, format!("{name:?}"), "a file that the list `files` names"))
    }

    /// The path of a listed file.
    pub fn path(&self, name: &str) -> Result<PathBuf, PackageError> {
        self.record("file", name)?;
        Ok(contained(self.root, name)?)
    }

    /// Reads every file and compares its SHA-256 with the manifest.
    pub fn verify_hashes(&self) -> Result<(), PackageError> {
        for record in self.files {
            let path = contained(self.root, &record.name)?;
            let found = sha256_of_file(&path)?;
            if found != record.sha256 {
                return Err(PackageError::Field {
                    path,
                    field: "sha256".to_owned(),
                    found,
                    expected: format!("{} as package.toml records", record.sha256),
                });
            }
        }
        Ok(())
    }

    /// Names sorted, each once; files there, with their recorded lengths.
    pub fn check_files(&self) -> Result<(), PackageError> {
        let files = self.files;
        if files.len() > FILE_LIMIT {
            return Err(self.field("files", files.len(), format!("at most {FILE_LIMIT}")));
        }
        for pair in files.windows(2) {
            if let [first, second] = pair
                && first.name >= second.name
            {
                return Err(self.field("files", format!("{:?} before {:?}", first.name, second.name), "sorted names, each once"));
            }
        }
        for record in files {
            let path = contained(self.root, &record.name)?;
            let metadata =
                std::fs::metadata(&path).map_err(|source| PackageError::from(GuardError::Read { path: path.clone(), source }))?;
            if !metadata.is_file() {
                return Err(PackageError::Field {
                    path,
                    field: "type".to_owned(),
                    found: "not a file".to_owned(),
                    expected: "a regular file".to_owned(),
                });
            }
            if metadata.len() != record.bytes {
                return Err(PackageError::Field {
                    path,
                    field: "length".to_owned(),
                    found: format!("{} bytes", metadata.len()),
                    expected: format!("{} bytes as package.toml records", record.bytes),
                });
            }
        }
        Ok(())
    }

    /// A graph has exactly these inputs and outputs, operator sets that are known, and weights inside the package.
    pub fn check_graph(&self, name: &str, inputs: &[TensorPort], outputs: &[TensorPort]) -> Result<(), PackageError> {
        let path = self.path(name)?;
        let header = inspect_file(&path)?;
        let refuse = |field: String, found: String, expected: String| {
            Err(PackageError::Field { path: path.clone(), field, found, expected })
        };
        for (kind, found, expected) in [("inputs", &header.inputs, inputs), ("outputs", &header.outputs, outputs)] {
            if found.len() != expected.len() {
                return refuse(kind.to_owned(), found.len().to_string(), expected.len().to_string());
            }
            for (found, expected) in found.iter().zip(expected) {
                if found.name != expected.name {
                    return refuse(kind.to_owned(), format!("{:?}", found.name), format!("{:?}", expected.name));
                }
                if found.element != expected.element || !same_shape(&found.shape, &expected.shape) {
                    return refuse(format!("{kind} {:?}", found.name), describe(found), describe(expected));
                }
            }
        }
        self.check_operators(&path, &header)?;
        self.check_external(&path, &header)
    }

    fn check_operators(&self, path: &Path, header: &ModelHeader) -> Result<(), PackageError> {
        for (domain, version) in &header.opsets {
            let newest = if domain == MICROSOFT_DOMAIN { 1 } else { 26 };
            if !(1..=newest).contains(version) {
                return Err(PackageError::Field {
                    path: path.to_path_buf(),
                    field: format!("opset version of domain {domain:?}"),
                    found: version.to_string(),
                    expected: format!("1 to {newest}"),
                });
            }
        }
        Ok(())
    }

    /// Every external tensor must lie inside a file that the manifest pins. ONNX Runtime would follow any other name.
    fn check_external(&self, path: &Path, header: &ModelHeader) -> Result<(), PackageError> {
        let lengths: BTreeMap<&str, u64> = self.files.iter().map(|record| (record.name.as_str(), record.bytes)).collect();
        for tensor in &header.external {
            let refuse = |field: &str, found: String, expected: String| PackageError::Field {
                path: path.to_path_buf(),
                field: format!("external_data.{field} of {:?}", tensor.name),
                found,
                expected,
            };
            let Some(&length) = lengths.get(tensor.file.as_str()) else {
                let expected = "a file that package.toml lists".to_owned();
                return Err(refuse("location", format!("{:?}", tensor.file), expected));
            };
            if tensor.offset.checked_add(tensor.bytes).is_none_or(|end| end > length) {
                let found = format!("{} + {}", tensor.offset, tensor.bytes);
                return Err(refuse("offset", found, format!("inside the {length} bytes of {:?}", tensor.file)));
            }
        }
        Ok(())
    }
}

/// An expected input or output.
pub(super) fn port(name: &str, element: i32, shape: Vec<Dimension>) -> TensorPort {
    TensorPort { name: name.to_owned(), element, shape }
}

/// Named dimensions may have any name; known sizes must be equal.
fn same_shape(found: &[Dimension], expected: &[Dimension]) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|pair| match pair {
            (Dimension::Fixed(found), Dimension::Fixed(expected)) => found == expected,
            (Dimension::Named(_), Dimension::Named(_)) => true,
            _ => false,
        })
}

fn describe(port: &TensorPort) -> String {
    let element = match port.element {
        data_type::FLOAT => "f32".to_owned(),
        data_type::FLOAT16 => "f16".to_owned(),
        data_type::BFLOAT16 => "bf16".to_owned(),
        data_type::INT32 => "i32".to_owned(),
        data_type::INT64 => "i64".to_owned(),
        other => format!("ONNX type {other}"),
    };
    let shape: Vec<String> = port
        .shape
        .iter()
        .map(|dimension| match dimension {
            Dimension::Fixed(size) => size.to_string(),
            Dimension::Named(name) => name.clone(),
        })
        .collect();
    format!("{element} [{}]", shape.join(", "))
}
