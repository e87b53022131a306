//! The export room: checkpoint readers and graph builders, which make a model package of a LLaVA checkpoint without
//! tracing and without Python.
//!
//! It must not run models: it reads configuration and tensor headers, and writes graphs that point at weights.

mod architecture;
mod checkpoint;
mod config;
mod error;
mod exporter;
mod families;
mod files;
mod graphs;
mod image_recipe;
mod llama;
mod lora;
mod merging;
mod numbers;
mod output;
mod projector;
mod prompt_recipe;
mod rotary;
mod sentencepiece;
mod torch;
mod vision;
mod weight_files;
mod weights;

pub use error::ExportError;
pub use exporter::{ExportOptions, ExportProgress, export};
pub use torch::TorchError;
