//! The report room: a comparison (or a single run) as bytes for people and for machines: HTML, Markdown, JSON, CSV and
//! the terminal.
//!
//! It must not compute a score or a verdict: it formats what `compare` says. Everything that came from outside (answers,
//! questions, names, images) is escaped or re-encoded on its way out, and no output refers to anything outside itself.

pub mod attribution;
mod cautions;
mod charts;
pub mod ci;
mod csv;
mod drawing;
mod format;
pub mod history;
mod html;
mod json;
pub mod live;
mod markdown;
mod plots;
pub mod power;
mod radar;
mod samples;
pub mod terminal;
mod thumbnails;
mod types;
mod view;
mod write;

pub use types::{ImageSource, ReportError, ReportFile, ReportFormat, ReportInput, ReportOptions, RunSamples};
pub use write::{build, build_with, write_to};
