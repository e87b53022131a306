//! What can be wrong with a package folder.

use std::path::PathBuf;

use crate::guard::files::GuardError;
use crate::onnx::OnnxError;

/// Why a package was not opened.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file could not be read within its cap, or a name leads out of the package.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A graph could not be read or contains something that a package may not contain.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The folder has no manifest.
    #[error(
        "{root} is not a model package: it has no package.toml (make one with `llava-gauge export`) and no graphs in the \
             layout of transformers.js, onnxruntime-genai or mobius"
    )]
    NoManifest {
        /// The folder.
        root: PathBuf,
    },
    /// The manifest is not readable.
    #[error("{path}: {reason}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The reason, with line and field.
        reason: String,
    },
    /// The folder is a package of another kind.
    #[error("{root} is a {found} package, which {found_does}; here a {expected} package is needed, which {expected_does}")]
    Kind {
        /// The folder.
        root: PathBuf,
        /// What it is.
        found: &'static str,
        /// What such a package does.
        found_does: &'static str,
        /// What is needed.
        expected: &'static str,
        /// What such a package does.
        expected_does: &'static str,
    },
    /// A field has a value that it may not have.
    #[error("{path}: {field} is {found}, expected {expected}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
}
