//! Reading configuration files: every wrong value is named with its file and key.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ExportError;
use crate::guard::files::read_capped;

/// Largest configuration file; real ones have a few kilobytes.
const CONFIG_LIMIT_BYTES: u64 = 16 << 20;

/// A JSON object of a configuration file. A key whose value is `null` counts as absent.
#[derive(Clone, Debug)]
pub(super) struct Config {
    file: PathBuf,
    /// Path of keys to this object, ending in a dot, or empty.
    prefix: String,
    values: Map<String, Value>,
}

impl Config {
    /// Reads a file whose root is an object.
    pub fn read(path: &Path) -> Result<Self, ExportError> {
        Self::of_bytes(path, &read_capped(path, CONFIG_LIMIT_BYTES)?)
    }

    /// The content of a file whose root is an object; `path` is for messages.
    pub fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self, ExportError> {
        let json = |reason: String| ExportError::Json { path: path.to_path_buf(), reason };
        match serde_json::from_slice(bytes).map_err(|error| json(error.to_string()))? {
            Value::Object(values) => Ok(Self { file: path.to_path_buf(), prefix: String::new(), values }),
            _ => Err(json("its root is not an object".to_owned())),
        }
    }

    /// Reads a file of a folder if it is there.
    pub fn read_if_present(folder: &Path, name: &str) -> Result<Option<Self>, ExportError> {
        let path = folder.join(name);
        if path.is_file() { Self::read(&path).map(Some) } else { Ok(None) }
    }

    /// An object without keys, for defaults; `file` is only for messages.
    pub fn empty(file: &Path, prefix: &str) -> Self {
        Self { file: file.to_path_buf(), prefix: prefix.to_owned(), values: Map::new() }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// All keys and values.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Gives a key another value.
    pub fn set(&mut self, key: &str, value: Value) {
        self.values.insert(key.to_owned(), value);
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of a key, unless it is absent or `null`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is there with the value `null`, which some keys tell from an absent one.
    pub fn is_null(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    /// A nested object.
    pub fn object(&self, key: &str) -> Result<Option<Self>, ExportError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(values)) => {
                let prefix = format!("{}{key}.", self.prefix);
                Ok(Some(Self { file: self.file.clone(), prefix, values: values.clone() }))
            }
            Some(_) => Err(self.invalid(key, "an object")),
        }
    }

    /// A whole number that is not negative.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ExportError> {
        let number = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        self.get(key).map(|value| number(value).ok_or_else(|| self.invalid(key, "a whole number"))).transpose()
    }

    /// A whole number from 1 to 2^24, a range that every real size is in; `default` when absent.
    pub fn positive(&self, key: &str, default: usize) -> Result<usize, ExportError> {
        match self.size(key)?.unwrap_or(default) {
            size @ 1..=0x0100_0000 => Ok(size),
            _ => Err(self.invalid(key, "a whole number from 1 to 16777216")),
        }
    }

    /// A whole number.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, ExportError> {
        self.get(key).map(|value| value.as_i64().ok_or_else(|| self.invalid(key, "a whole number"))).transpose()
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ExportError> {
        let finite = |value: &Value| value.as_f64().filter(|value| value.is_finite());
        self.get(key).map(|value| finite(value).ok_or_else(|| self.invalid(key, "a number"))).transpose()
    }

    /// A truth value.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ExportError> {
        self.get(key).map(|value| value.as_bool().ok_or_else(|| self.invalid(key, "true or false"))).transpose()
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ExportError> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.invalid(key, "a text"))).transpose()
    }

    /// Refuses a text other than those supported; `default` when absent.
    pub fn one_of(&self, key: &str, default: &str, supported: &[&str]) -> Result<String, ExportError> {
        let found = self.text(key)?.unwrap_or(default);
        if supported.contains(&found) { Ok(found.to_owned()) } else { Err(self.unsupported(key, &supported.join(", "))) }
    }

    /// Refuses any value: what the key means is not implemented.
    pub fn refuse_present(&self, key: &str, supported: &str) -> Result<(), ExportError> {
        if self.get(key).is_some() { Err(self.unsupported(key, supported)) } else { Ok(()) }
    }

    /// The error for a value that is understood but not supported.
    pub fn unsupported(&self, key: &str, supported: &str) -> ExportError {
        ExportError::Unsupported {
            file: self.file.clone(),
            key: format!("{}{key}", self.prefix),
            found: self.shown(key),
            supported: supported.to_owned(),
        }
    }

    /// The error for a value of the wrong type or range.
    pub fn invalid(&self, key: &str, expected: &str) -> ExportError {
        ExportError::Invalid {
            file: self.file.clone(),
            key: format!("{}{key}", self.prefix),
            found: self.shown(key),
            expected: expected.to_owned(),
        }
    }

    /// A value as it stands in the file, cut to a line.
    fn shown(&self, key: &str) -> String {
        let text = self.values.get(key).map_or_else(|| "absent".to_owned(), Value::to_string);
        if text.chars().count() > 120 { text.chars().take(117).chain("...".chars()).collect() } else { text }
    }
}
