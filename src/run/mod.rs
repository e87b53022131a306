//! The run room: the conductor. It plans which samples are asked, groups them by image, drives the engine, scores and
//! stores behind it, and continues where an interrupted run stopped; it also replays a package's parity fixture.
//!
//! It must not know ONNX Runtime, tokenizers' internals or file formats: every other room does its own part.

mod conductor;
mod error;
mod images;
mod loader;
mod plan;
mod record;
mod verify;

#[cfg(test)]
mod tests;

pub use conductor::{Conductor, Outcome, Progress, ProgressUpdate, PrompterStop, segments};
pub use error::RunError;
pub use images::PreparedImages;
pub use plan::{Plan, PlannedGroup};
pub use verify::{CaseReport, StageDifference, VerifyReport, verify_package};
