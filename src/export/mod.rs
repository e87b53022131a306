//! The export room: checkpoint readers and graph builders, which make a model package of a LLaVA or CLIP checkpoint
//! without tracing and without Python; also adopting packages that other programs wrote, whose manifest is derived from their
//! configuration by the same rules.
//!
//! It must not run models: it reads configuration and tensor headers, and writes graphs that point at weights.

mod adopt;
mod architecture;
mod checkpoint;
mod clip;
mod config;
mod encoder;
mod error;
mod exporter;
mod families;
mod files;
mod graphs;
mod hugging_face;
mod image_recipe;
mod language_architecture;
mod llama;
mod lora;
mod merging;
mod numbers;
mod operators;
mod original;
mod output;
mod projector;
mod prompt_recipe;
mod quantise;
mod rotary;
mod rotary_scaling;
mod sentencepiece;
mod shapes;
mod standard_attention;
mod supported;
pub mod synth;
mod tiling;
mod torch;
mod vision;
mod vision_architecture;
mod weight_files;
mod weights;

pub use adopt::adopt;
pub use clip::{export_clip, is_clip_checkpoint};
pub use error::ExportError;
pub use exporter::{ExportOptions, ExportProgress, export};
pub use quantise::{Calibration, GramMatrix, InputStatistics, Int4Method, StagePrecisionChoice};
pub use shapes::{LanguageShape, StageShapes, VisionShape, stage_shapes};
pub use supported::{OtherSource, SupportedModel, other_sources, supported};
pub use torch::TorchError;
