//! The run room: the conductor. It plans which samples are asked, groups them by image, drives the engine, scores and
//! stores behind it, and continues where an interrupted run stopped; it also replays a package's parity fixture.
//!
//! It must not know ONNX Runtime, tokenizers' internals or file formats: every other room does its own part.

mod clip;
mod conductor;
mod error;
mod execution;
mod extent;
mod images;
mod loader;
mod memory;
mod meter;
mod plan;
mod prompt_identity;
mod ranking;
mod record;
mod rescore;
mod shape;
mod stop;
mod verify;
mod verify_clip;
mod verify_provider;
mod window;

#[cfg(test)]
mod tests;

pub use clip::{ClipConductor, class_embeddings};
pub use conductor::{Conductor, Outcome, Progress, ProgressUpdate, PrompterStop, sample_segments, segments};
pub use error::RunError;
pub use execution::execution;
pub use extent::{run_extent, unknown_extent};
pub use images::PreparedImages;
pub use memory::{peak_memory_bytes, reset_peak_memory};
pub use plan::{Plan, PlannedGroup};
pub use prompt_identity::prompt_sha256;
pub use ranking::{LOGIT_FACTOR, best, class_embedding, logits};
pub use rescore::rescore;
pub use shape::run_shape;
pub use verify::{CaseReport, StageDifference, VerifyReport, verify_package};
pub use verify_clip::{ClipVerifyReport, verify_clip_package};
pub use verify_provider::{ProviderCheck, StageCheck, has_parity_fixture, verify_provider};
