//! The store room: the run directory, an append-only sample log with recovery, and format versions.
//!
//! A run is one package on one benchmark, one directory:
//!
//! ```text
//! run.json        header, readable alone
//! samples.jsonl   one record a line, each with its checksum
//! summary.json    written when the run is complete
//! judge.jsonl     only where a judge was asked: every reply (the judge room's)
//! scores.json     only where scores come from elsewhere than one answer: all answers together, a judge, another scorer
//! ```
//!
//! It must not know engines or scorers: it keeps what it is given, and gives back every acknowledged record.

mod baseline;
mod disk;
mod error;
mod execution;
mod follow;
mod log;
mod reader;
mod scores;
mod types;
mod writer;

#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod tests;

pub use baseline::{
    BASELINE_FILE, Baseline, BaselineError, BaselineRun, KeptFile, Saving, baseline_folder, list_baselines, remove_baseline,
    save_baseline,
};
pub use error::{HeaderDifference, StoreError};
pub use execution::{DeterminismClass, Execution, GraphExecution, NodeExecution};
pub use follow::{Followed, RunFollower};
pub use log::{LogNote, canonical_without_timings};
pub use reader::{Run, discover, read_header};
pub use scores::{JudgeIdentity, Scores, StoredScore};
pub use types::{
    BenchmarkIdentity, DataFacts, Environment, Failure, GroupTimings, MemoryPlan, ModelIdentity, PREDICTIONS_PROVIDER, RunHeader,
    RunSettings, SampleRecord, SampleTimings,
};
pub use writer::{RunWriter, write_summary};

/// Format version of run directories that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Name of the header file.
pub const HEADER_FILE: &str = "run.json";

/// Name of the sample log.
pub const LOG_FILE: &str = "samples.jsonl";

/// Name of the file of scores.
pub const SCORES_FILE: &str = "scores.json";

/// Name of the summary file.
pub const SUMMARY_FILE: &str = "summary.json";

/// Largest header read, in bytes.
const HEADER_LIMIT_BYTES: u64 = 4 << 20;

/// Largest sample log written and read, in bytes. A record is a few kilobytes, so this is about a million samples.
const LOG_LIMIT_BYTES: u64 = 4 << 30;
