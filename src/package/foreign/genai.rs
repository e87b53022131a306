//! `genai_config.json` of onnxruntime-genai, as far as it concerns a model that sees.
//!
//! Names that the file leaves out have the defaults of its own reader (`src/config.h`, `Config::Defaults`).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::PackageError;
use crate::guard::files::read_capped;

/// The file.
pub(super) const CONFIG_FILE: &str = "genai_config.json";
const LIMIT_BYTES: u64 = 16 << 20;

/// What the file says.
#[derive(Clone, Debug)]
pub(super) struct GenaiConfig {
    path: PathBuf,
    json: Value,
}

impl GenaiConfig {
    /// Reads the file of a folder.
    pub fn read(root: &Path) -> Result<Self, PackageError> {
        let path = root.join(CONFIG_FILE);
        let json = serde_json::from_slice(&read_capped(&path, LIMIT_BYTES)?)
            .map_err(|error| PackageError::Manifest { path: path.clone(), reason: error.to_string() })?;
        Ok(Self { path, json })
    }

    fn at(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().try_fold(&self.json, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    /// The error for a value that cannot be used.
    pub fn wrong(&self, keys: &[&str], expected: &str) -> PackageError {
        PackageError::Field {
            path: self.path.clone(),
            field: keys.join("."),
            found: self.at(keys).map_or_else(|| "absent".to_owned(), Value::to_string),
            expected: expected.to_owned(),
        }
    }

    /// A text.
    pub fn text(&self, keys: &[&str]) -> Result<Option<&str>, PackageError> {
        self.at(keys).map(|value| value.as_str().ok_or_else(|| self.wrong(keys, "a text"))).transpose()
    }

    /// A size.
    pub fn size(&self, keys: &[&str]) -> Result<Option<usize>, PackageError> {
        let number = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        self.at(keys).map(|value| number(value).ok_or_else(|| self.wrong(keys, "a whole number"))).transpose()
    }

    /// A truth value.
    pub fn flag(&self, keys: &[&str]) -> Result<Option<bool>, PackageError> {
        self.at(keys).map(|value| value.as_bool().ok_or_else(|| self.wrong(keys, "true or false"))).transpose()
    }

    /// Refuses what this program does not run: models without sight, and models split into pipelines.
    pub fn check(&self) -> Result<(), PackageError> {
        for block in ["vision", "embedding", "decoder"] {
            if !self.at(&["model", block]).is_some_and(Value::is_object) {
                let expected = match block {
                    "decoder" => "an object",
                    _ => "an object: a package of text alone cannot answer questions about images",
                };
                return Err(self.wrong(&["model", block], expected));
            }
            let pipeline = ["model", block, "pipeline"];
            if self.at(&pipeline).is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty())) {
                return Err(self.wrong(&pipeline, "absent: graphs in several pieces are not supported"));
            }
        }
        Ok(())
    }

    /// The file of a block's graph.
    pub fn file(&self, block: &str) -> Result<&str, PackageError> {
        let keys = ["model", block, "filename"];
        self.text(&keys)?.filter(|name| !name.is_empty()).ok_or_else(|| self.wrong(&keys, "the name of a graph's file"))
    }

    /// The name of an input or output of a block, `default` if the file gives none.
    pub fn name(&self, block: &str, side: &str, key: &str, default: &str) -> Result<String, PackageError> {
        Ok(self.text(&["model", block, side, key])?.unwrap_or(default).to_owned())
    }

    /// A pattern of names with `%d` for the layer.
    pub fn pattern(&self, side: &str, key: &str, default: &str) -> Result<String, PackageError> {
        let pattern = self.name("decoder", side, key, default)?;
        if pattern.matches("%d").count() == 1 {
            return Ok(pattern);
        }
        Err(self.wrong(&["model", "decoder", side, key], "a name with one %d for the layer"))
    }
}
