//! What can go wrong with an ONNX model file.

use std::path::PathBuf;

use crate::guard::files::GuardError;

/// Why a model was not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file could not be read within its cap.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The bytes are not a protobuf ONNX model.
    #[error("{path} is not an ONNX model: {reason}")]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The model contains something that a package may not contain.
    #[error("{path}: {what} is {found}, expected {expected}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The field.
        what: String,
        /// What it is.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A graph was built with two values of one name: a fault of the caller.
    #[error("the graph {graph:?} has two values named {name:?}")]
    DuplicateName {
        /// The graph.
        graph: String,
        /// The name.
        name: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}
