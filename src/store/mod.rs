//! The store room: the run directory, an append-only sample log with recovery, and format versions.
//!
//! A run is one package on one benchmark, one directory:
//!
//! ```text
//! run.json        header, readable alone
//! samples.jsonl   one record a line, each with its checksum
//! summary.json    written when the run is complete
//! ```
//!
//! It must not know engines or scorers: it keeps what it is given, and gives back every acknowledged record.

mod types;

pub use types::{
    BenchmarkIdentity, Environment, Failure, GroupTimings, ModelIdentity, RunHeader, RunSettings, SampleRecord, SampleTimings,
};
