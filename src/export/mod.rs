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
mod graphs;
mod image_recipe;
mod llama;
mod output;
mod projector;
mod prompt_recipe;
mod rotary;
mod vision;
mod weights;

pub use adopt::adopt;
pub use error::ExportError;
pub use exporter::{ExportOptions, ExportProgress, export};
