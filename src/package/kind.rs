//! Which kind of package a folder is.

use std::path::Path;

use super::PackageError;
use super::manifest::MANIFEST_FILE;
use super::open::{MANIFEST_LIMIT_BYTES, check_format};
use crate::guard::files::read_text_capped;

/// The kinds of packages, told by `kind` in `package.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageKind {
    /// A LLaVA model; its manifest has no `kind`.
    Llava,
    /// A CLIP model: `kind = "clip"`.
    Clip,
}

/// `kind` of a CLIP package's manifest.
pub(super) const CLIP: &str = "clip";

impl PackageKind {
    /// The kind of the package in `root`. A folder without `package.toml` counts as LLaVA, whose opening says what is wrong
    /// with it.
    pub fn of(root: &Path) -> Result<Self, PackageError> {
        let path = root.join(MANIFEST_FILE);
        if !path.is_file() {
            return Ok(Self::Llava);
        }
        let text = read_text_capped(&path, MANIFEST_LIMIT_BYTES)?;
        check_format(&path, &text)?;
        Self::of_text(&path, &text)
    }

    /// The kind that a manifest's text tells.
    fn of_text(path: &Path, text: &str) -> Result<Self, PackageError> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|error| PackageError::Manifest { path: path.to_path_buf(), reason: error.to_string() })?;
        match table.get("kind") {
            None => Ok(Self::Llava),
            Some(kind) if kind.as_str() == Some(CLIP) => Ok(Self::Clip),
            Some(other) => Err(PackageError::Field {
                path: path.to_path_buf(),
                field: "kind".to_owned(),
                found: other.to_string(),
                expected: format!("{CLIP:?}, or none for a LLaVA package"),
            }),
        }
    }

    /// Refuses a manifest of another kind.
    pub(super) fn expect(self, root: &Path, text: &str) -> Result<(), PackageError> {
        let found = Self::of_text(&root.join(MANIFEST_FILE), text)?;
        if found == self { Ok(()) } else { Err(found.unlike(self, root)) }
    }

    /// The error for a package of this kind where another is needed.
    fn unlike(self, expected: Self, root: &Path) -> PackageError {
        PackageError::Kind {
            root: root.to_path_buf(),
            found: self.name(),
            found_does: self.does(),
            expected: expected.name(),
            expected_does: expected.does(),
        }
    }

    /// The name of the kind, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llava => "LLaVA",
            Self::Clip => "CLIP",
        }
    }

    /// What a package of this kind does, for messages.
    pub fn does(self) -> &'static str {
        match self {
            Self::Llava => "answers questions in words",
            Self::Clip => "compares images with texts (`classify`, zero-shot classification, retrieval)",
        }
    }
}
