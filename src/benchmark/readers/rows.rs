//! JSON row by row, so that an error can name the row and the field.

use std::collections::HashMap;
use std::path::Path;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::super::error::BenchmarkError;
use crate::guard::files::{GuardError, read_capped};

/// The largest data or prediction file that is read; VQAv2's annotations have about 200 MB.
const FILE_LIMIT_BYTES: u64 = 1 << 30;

/// An identifier that is a number in one file and a string in another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::benchmark) struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an integer or a string")
            }
            fn visit_u64<E>(self, value: u64) -> Result<Id, E> {
                Ok(Id(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Id, E> {
                Ok(Id(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Id, E> {
                Ok(Id(value.to_owned()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// Where a row is, for errors.
#[derive(Clone, Copy)]
pub(in crate::benchmark) struct RowPlace<'a> {
    pub path: &'a Path,
    /// From 1.
    pub row: usize,
}

impl RowPlace<'_> {
    pub fn error(&self, field: &str, expected: impl Into<String>, found: impl Into<String>) -> BenchmarkError {
        BenchmarkError::Row {
            path: self.path.to_path_buf(),
            row: self.row,
            field: field.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The members of the row, which must be a JSON object. Of repeated members the last one counts, as in Python.
    pub fn object<'t>(&self, text: &'t str) -> Result<RowObject<'t, '_>, BenchmarkError> {
        match serde_json::from_str(text) {
            Ok(members) => Ok(RowObject { place: self, members }),
            Err(error) => Err(self.error("-", "a JSON object", format!("{error} in {}", excerpt(text)))),
        }
    }
}

/// One row, read member by member so that an error can name the member.
pub(in crate::benchmark) struct RowObject<'t, 'p> {
    place: &'p RowPlace<'p>,
    members: HashMap<String, &'t RawValue>,
}

impl RowObject<'_, '_> {
    /// Whether the row has the member and it is not null.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| value.get() != "null")
    }

    /// The member, which the row must have.
    pub fn field<T: DeserializeOwned>(&self, name: &str) -> Result<T, BenchmarkError> {
        let Some(value) = self.members.get(name) else {
            let mut members: Vec<&String> = self.members.keys().collect();
            members.sort();
            return Err(self.place.error(name, "a value", format!("only the members {members:?}")));
        };
        serde_json::from_str(value.get()).map_err(|error| {
            // serde's messages read "invalid type: string "x", expected u32 at line 1 column 3".
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            match message.split_once(", expected ") {
                Some((found, expected)) => self.place.error(name, expected, found),
                None => self.place.error(name, "a value of another kind", message),
            }
        })
    }

    /// The member if the row has it and it is not null.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, BenchmarkError> {
        if self.has(name) { self.field(name).map(Some) } else { Ok(None) }
    }
}

/// The beginning of a row for an error message.
fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(160).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// The bytes of a file as text.
pub(in crate::benchmark) fn read_text(path: &Path) -> Result<String, BenchmarkError> {
    let bytes = read_capped(path, FILE_LIMIT_BYTES)?;
    String::from_utf8(bytes).map_err(|error| {
        let found = format!("other bytes at offset {}", error.utf8_error().valid_up_to());
        BenchmarkError::File { path: path.to_path_buf(), expected: "UTF-8 text".to_owned(), found }
    })
}

/// The rows of a JSON array.
pub(in crate::benchmark) fn json_array<'a>(path: &Path, text: &'a str) -> Result<Vec<&'a RawValue>, BenchmarkError> {
    serde_json::from_str(text).map_err(|error| BenchmarkError::File {
        path: path.to_path_buf(),
        expected: "a JSON array".to_owned(),
        found: error.to_string(),
    })
}

/// The rows of the array `member` of a JSON object.
pub(super) fn json_member<'a>(path: &Path, text: &'a str, member: &str) -> Result<Vec<&'a RawValue>, BenchmarkError> {
    let wrong = |found: String| BenchmarkError::File {
        path: path.to_path_buf(),
        expected: format!("a JSON object with the array `{member}`"),
        found,
    };
    let object: HashMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let rows = object.get(member).ok_or_else(|| {
        let mut members: Vec<&String> = object.keys().collect();
        members.sort();
        wrong(format!("the members {members:?}"))
    })?;
    serde_json::from_str(rows.get()).map_err(|error| wrong(error.to_string()))
}

/// Whether the JSON object has the member.
pub(super) fn has_member(path: &Path, text: &str, member: &str) -> Result<bool, BenchmarkError> {
    let object: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(text);
    match object {
        Ok(object) => Ok(object.contains_key(member)),
        Err(error) => {
            Err(BenchmarkError::File { path: path.to_path_buf(), expected: "a JSON object".to_owned(), found: error.to_string() })
        }
    }
}

/// The non-empty lines of a JSON Lines file with their line numbers from 1.
pub(in crate::benchmark) fn json_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()).map(|(index, line)| (index + 1, line))
}

/// Reads a file that must exist, with a message that says which benchmark file is missing.
pub(super) fn read_data_file(path: &Path) -> Result<String, BenchmarkError> {
    match read_text(path) {
        Err(BenchmarkError::Guard(GuardError::Read { source, .. })) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(BenchmarkError::File {
                path: path.to_path_buf(),
                expected: "a data file of the benchmark".to_owned(),
                found: "no such file".to_owned(),
            })
        }
        other => other,
    }
}
