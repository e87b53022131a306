//! What a model file computes, apart from who wrote it and where its weights lie.

use std::path::Path;

use prost::Message;

use super::inspect::{MODEL_LIMIT_BYTES, inspect_model};
use super::proto::ModelProto;
use super::{ExternalTensor, OnnxError};
use crate::guard::files::read_capped;

/// A model without what may differ between two that compute the same.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelContent {
    /// The model, encoded again without its producer and without the places of its external weights.
    pub graph: Vec<u8>,
    /// The external weights, in the order of the graph; equal models may keep them elsewhere.
    pub external: Vec<ExternalTensor>,
}

/// Reads the content of a model file, which is refused where [`super::inspect_file`] refuses it.
pub fn model_content(path: &Path) -> Result<ModelContent, OnnxError> {
    let bytes = read_capped(path, MODEL_LIMIT_BYTES)?;
    let external = inspect_model(path, &bytes)?.external;
    let mut model = ModelProto::decode(bytes.as_slice())
        .map_err(|error| OnnxError::NotAModel { path: path.to_path_buf(), reason: error.to_string() })?;
    model.producer_name = None;
    model.producer_version = None;
    if let Some(graph) = &mut model.graph {
        graph.initializer.iter_mut().for_each(|tensor| tensor.external_data.clear());
    }
    Ok(ModelContent { graph: model.encode_to_vec(), external })
}
