//! The score room: the official metrics as pure functions of an answer and a reference.
//!
//! It must not read files, know models, or compute intervals: it turns text into a parsed answer, a score and
//! contributions to metrics.

mod types;

pub use types::SampleScore;
