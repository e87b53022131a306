//! The submission room: from a run to the file that a benchmark's server takes.
//!
//! It must not run models or score answers: it writes what a run recorded, as the official converters write it, and refuses a
//! run that lacks answers unless told otherwise.

mod answers;
mod error;
mod files;
mod python_json;
mod questions;
mod table;
mod workbook;

pub use error::SubmissionError;
pub use files::{Submission, SubmissionRequest, make};
