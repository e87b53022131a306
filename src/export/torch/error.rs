//! Why a file of `torch.save` was rejected.

use std::path::PathBuf;

use crate::guard::files::GuardError;

/// Why a file of `torch.save` was rejected.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// It cannot be read.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// It is none of the formats that `torch.save` writes.
    #[error("{path} is not a file of torch.save: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its pickle asks for something that is no part of a tensor.
    #[error("{path}: its pickle {action} at byte {position}, which rebuilding tensors does not need; it was not run")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it asks for, as a verb with its object.
        action: String,
        /// Place of the instruction in the pickle.
        position: u64,
    },
    /// It is larger than any real file in some respect.
    #[error("{path}: its pickle has {what}, more than the {limit} allowed")]
    Limit {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
    /// A tensor does not fit its storage, or has an unknown number type.
    #[error("{path}: tensor {tensor:?}: {reason}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
}
