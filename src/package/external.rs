//! What graphs read from other files, for whoever may not read graphs themselves.

use std::path::Path;

use super::PackageError;
use crate::onnx::{ExternalExtent, ExternalTensor, MICROSOFT_DOMAIN, TensorPort, inspect_model};

/// The constants that a graph of a package reads from other files; `path` is only for messages.
pub fn external_tensors(path: &Path, bytes: &[u8]) -> Result<Vec<ExternalTensor>, PackageError> {
    Ok(inspect_model(path, bytes)?.external)
}

/// From which files, and how far into them, an optimised graph that ONNX Runtime saved reads; `path` is only for messages.
pub fn external_extent(path: &Path, bytes: &[u8]) -> Result<ExternalExtent, PackageError> {
    Ok(crate::onnx::external_extent(path, bytes)?)
}

/// What a graph takes, and of which operators it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphInterface {
    /// Inputs in order.
    pub inputs: Vec<TensorPort>,
    /// Whether it declares no operators but standard ones.
    pub standard: bool,
}

/// The interface of a graph of a package; `path` is only for messages.
pub fn graph_interface(path: &Path, bytes: &[u8]) -> Result<GraphInterface, PackageError> {
    let header = inspect_model(path, bytes)?;
    Ok(GraphInterface { standard: !header.opsets.contains_key(MICROSOFT_DOMAIN), inputs: header.inputs })
}
