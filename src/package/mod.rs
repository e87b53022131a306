//! The package room: what a model package is.
//!
//! Owns the manifest (`package.toml`), the recipes that travel with a package (image preprocessing and prompt),
//! opening a package folder, and its identity hash. It must not know ONNX Runtime, images or tokenizers: other rooms
//! read the recipes and act on them.

mod clip;
mod contents;
mod error;
mod kind;
mod manifest;
mod open;
mod recipe;
pub mod safetensors;

pub use clip::{ClipManifest, ClipPackage, ClipPrecision, ClipSource, ClipTextStage, ClipVisionStage, TextPooling};
pub use error::PackageError;
pub use kind::PackageKind;
pub use manifest::{
    FORMAT, FileRecord, LanguageModelStage, MANIFEST_FILE, Manifest, Precision, ProjectorStage, Source, SourceFormat,
    StagePrecision, TensorDtype, TensorLocation, VisionStage,
};
pub use open::{PLAIN_NAME, Package, is_plain_name, sha256_of_file};
pub use recipe::{
    AspectMode, ImageRecipe, PromptRecipe, PromptTemplate, Resample, ResizeRule, TileMerge, TileOrder, Tiling, TokenizationMode,
    UnpadRounding,
};
pub use safetensors::TensorFile;
