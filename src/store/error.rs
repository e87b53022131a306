//! What can go wrong with a run directory.

use std::fmt;
use std::path::PathBuf;

use crate::guard::files::GuardError;

/// One field in which a header differs from the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderDifference {
    /// Dotted path of the field, such as `settings.max_new_tokens`.
    pub field: String,
    /// What the run directory holds, as JSON.
    pub expected: String,
    /// What this run would have, as JSON.
    pub found: String,
}

impl fmt::Display for HeaderDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: expected {}, found {}", self.field, self.expected, self.found)
    }
}

/// Joins differences for one message.
fn listed(differences: &[HeaderDifference]) -> String {
    differences.iter().map(HeaderDifference::to_string).collect::<Vec<_>>().join("; ")
}

/// What can go wrong with a run directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}")]
    Disk {
        /// What was being done, such as `append to`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] GuardError),
    /// The directory was written in a format that this program does not know.
    #[error(
        "{path} has run format {found}, and this program reads format {expected}: use the version that wrote it, or a newer one"
    )]
    Format {
        /// The header file.
        path: PathBuf,
        /// The format of this program.
        expected: u32,
        /// The format in the file.
        found: u32,
    },
    /// The file of scores is not what it must be.
    #[error("{path} has no scores of a run: {message}")]
    Scores {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The header is not what it must be.
    #[error("{path} is not a run header: {message}")]
    Header {
        /// The header file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// The directory holds another run.
    #[error("{path} holds another run: {}; choose another output folder, or remove this one to start anew", listed(.differences))]
    OtherRun {
        /// The header file.
        path: PathBuf,
        /// Every field that differs.
        differences: Vec<HeaderDifference>,
    },
    /// There are samples but no header, so nobody can say what they answer.
    #[error("{path} holds samples but its run.json is missing; restore it, or remove the folder to start anew")]
    HeaderMissing {
        /// The sample log.
        path: PathBuf,
    },
    /// Another process writes this run.
    #[error("{path} is being written by another process; wait for it, or choose another output folder")]
    Locked {
        /// The sample log.
        path: PathBuf,
    },
    /// A sample was given twice.
    #[error("sample {key:?} is already in {path}")]
    DuplicateKey {
        /// The sample log.
        path: PathBuf,
        /// The sample's key.
        key: String,
    },
    /// A record could not be read back from JSON.
    #[error("sample {key:?} cannot be stored: {message}")]
    Unstorable {
        /// The sample's key.
        key: String,
        /// Which field, and why.
        message: String,
    },
    /// The log would outgrow what readers accept.
    #[error("{path} would exceed the {limit_bytes} bytes allowed for a sample log; split the run with a limit on samples")]
    LogFull {
        /// The sample log.
        path: PathBuf,
        /// The cap in bytes.
        limit_bytes: u64,
    },
    /// An earlier write failed and could not be undone.
    #[error("an earlier write to {path} failed and could not be undone; start the same command again to continue")]
    Broken {
        /// The sample log.
        path: PathBuf,
    },
    /// A path holds no run.
    #[error("there is no run (a folder with run.json) at or below {path}")]
    NoRuns {
        /// The path given.
        path: PathBuf,
    },
}
