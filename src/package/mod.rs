//! The package room: what a model package is.
//!
//! Owns the manifest (`package.toml`), the recipes that travel with a package (image preprocessing and prompt),
//! opening a package folder, telling which stages of two packages are equal or can be mixed, recognising packages that other programs wrote, the identity hash, and the geometry of tiled
//! images, which is arithmetic on a recipe. It must not know ONNX Runtime, pixels or tokenizers: other rooms read the recipes
//! and act on them.

mod attention_probe;
mod cache_graphs;
mod choice_graph;
mod clip;
mod contents;
mod error;
mod external;
mod flavor;
pub mod foreign;
mod kind;
mod manifest;
mod open;
mod quantisation;
mod recipe;
pub mod safetensors;
mod stages;
mod taps;
mod tiling;

pub use crate::onnx::{Dimension, ExternalExtent, LayeredModel, Tap, TapOutputs, TappedModel, TensorPort};
pub use attention_probe::AttentionProbe;
pub use cache_graphs::CacheGraphs;
pub use choice_graph::choice_graph;
pub use clip::{ClipManifest, ClipPackage, ClipPrecision, ClipSource, ClipTextStage, ClipVisionStage, TextPooling};
pub use error::PackageError;
pub use external::{GraphInterface, external_extent, external_tensors, graph_interface};
pub use flavor::GraphFlavor;
pub use kind::PackageKind;
pub use manifest::{
    Compute, FORMAT, FileRecord, LanguageModelStage, MANIFEST_FILE, Manifest, Precision, ProjectorStage, Source, SourceFormat,
    StagePrecision, TensorDtype, TensorLocation, VisionStage,
};
pub use open::{PLAIN_NAME, Package, is_plain_name, sha256_of_file};
pub use quantisation::{CalibrationRecord, Quantisation, WeightQuantisation};
pub use recipe::{
    AspectMode, CONVERSATIONS, ImageRecipe, PromptRecipe, PromptTemplate, Resample, ResizeRule, TileMerge, TileOrder, Tiling,
    TokenizationMode, UnpadRounding,
};
pub use safetensors::TensorFile;
pub use stages::{Misfit, StageName, changes_of_stage, layered_stage, misfits, mixed_manifest};
pub use taps::{tapped_stage, taps_of_stage};
pub use tiling::{GridLayout, MAXIMUM_TILES, RowLayout, TilePlacement, TilingError};
