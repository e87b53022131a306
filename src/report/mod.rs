//! The report room: a comparison (or a single run) as bytes for people and for machines: HTML, Markdown, JSON, CSV and
//! the terminal.
//!
//! It must not compute a score or a verdict: it formats what `compare` says. Everything that came from outside (answers,
//! questions, names, images) is escaped or re-encoded on its way out, and no output refers to anything outside itself.

pub mod attribution;
mod charts;
pub mod ci;
mod csv;
mod format;
pub mod history;
mod html;
mod json;
mod markdown;
mod radar;
mod samples;
pub mod terminal;
mod thumbnails;
mod types;
mod view;
mod write;

pub use types::{ImageSource, ReportError, ReportFile, ReportInput, RunSamples};
pub use write::{build, write_to};
