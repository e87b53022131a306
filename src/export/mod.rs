//! The export room: checkpoint readers and graph builders, which make a model package of a LLaVA checkpoint without
//! tracing and without Python; also adopting packages that other programs wrote, whose manifest is derived from their
//! configuration by the same rules.
//!
//! It must not run models: it reads configuration and tensor headers, and writes graphs that point at weights.

mod adopt;
mod architecture;
mod checkpoint;
mod config;
mod error;
mod exporter;
mod families;
mod files;
mod graphs;
mod hugging_face;
mod image_recipe;
mod language_architecture;
mod llama;
mod original;
mod lora;
mod merging;
mod numbers;
mod output;
mod projector;
mod prompt_recipe;
mod rotary;
mod rotary_scaling;
mod supported;
mod tiling;
mod sentencepiece;
mod torch;
mod vision;
mod weight_files;
mod vision_architecture;
mod weights;

pub use adopt::adopt;
pub use error::ExportError;
pub use exporter::{ExportOptions, ExportProgress, export};
pub use supported::{SupportedModel, supported};
pub use torch::TorchError;
