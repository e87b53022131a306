//! The onnx room: protobuf messages, a small typed graph builder, and header inspection of a model file without
//! ONNX Runtime, comparing what two models compute, opening a transformer at its layers, and reading what goes into linear layers.
//!
//! It must not know LLaVA or packages: it writes what it is told, and says what a file contains.

mod content;
mod error;
mod extent;
mod graph;
mod inspect;
mod layers;
pub mod proto;
mod summary;
mod taps;

pub use content::{ModelContent, model_content};
pub use error::OnnxError;
pub use extent::{ExternalExtent, external_extent};
pub use graph::{Attribute, Dimension, ElementType, ExternalData, GraphBuilder, Value};
pub use inspect::{ExternalTensor, ModelHeader, TensorPort, inspect_file, inspect_model};
pub use layers::{LayeredModel, layered_model};
pub use summary::{ModelSummary, summarise_file, summarise_model};
pub use taps::{Tap, TapOutputs, TappedModel, tapped_model, taps};

/// IR version written into every model; ONNX Runtime 1.31 reads up to 13.
pub const IR_VERSION: i64 = 10;
/// Version of the standard operator set that the graphs use.
pub const STANDARD_OPSET: i64 = 21;
/// Version of the standard operator set of small graphs that GPUs run, too: CUDA has kernels for a reduction of version 18 and not of
/// 20, and for a comparison of version 13 and not of 19.
pub const SMALL_GRAPH_OPSET: i64 = 18;
/// IR version of models that use nothing but standard operators.
pub const STANDARD_FLAVOR_IR_VERSION: i64 = 11;
/// Version of the standard operator set of such models: the first in which `Attention` takes what the graphs give it.
pub const STANDARD_FLAVOR_OPSET: i64 = 24;
/// Version of the `com.microsoft` operator set that the graphs use.
pub const MICROSOFT_OPSET: i64 = 1;
/// Name of ONNX Runtime's own operator set.
pub const MICROSOFT_DOMAIN: &str = "com.microsoft";
