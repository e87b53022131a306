//! The export room: checkpoint readers and graph builders, which make a model package of a LLaVA or CLIP checkpoint
//! without tracing and without Python.
//!
//! It must not run models: it reads configuration and tensor headers, and writes graphs that point at weights.

mod architecture;
mod checkpoint;
mod clip;
mod config;
mod error;
mod exporter;
mod families;
mod graphs;
mod image_recipe;
mod llama;
mod output;
mod projector;
mod prompt_recipe;
mod rotary;
mod vision;
mod weights;

pub use clip::{export_clip, is_clip_checkpoint};
pub use error::ExportError;
pub use exporter::{ExportOptions, ExportProgress, export};
