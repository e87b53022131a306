//! Why answers were not judged.

use std::path::PathBuf;
use std::time::Duration;

/// Why answers were not judged. What was replied until then is in the log and the cache.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The address is not one of an endpoint.
    #[error("the judge's address {found:?} cannot be used: {reason}")]
    Address {
        /// The address, without what may be secret.
        found: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting that has no meaning.
    #[error("{name}: expected {expected}, found {found}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A file of this program that cannot be read is a defect of this build.
    #[error("the judge's prompts of this program are broken: {0}")]
    Prompts(String),
    /// A sample that the rule has no prompt for.
    #[error("sample {key:?} cannot be judged by {rule}: {reason}")]
    Sample {
        /// Its key.
        key: String,
        /// The rule.
        rule: String,
        /// What is missing.
        reason: String,
    },
    /// The endpoint refuses, and would refuse again.
    #[error("the judge at {endpoint} refuses: {reason}")]
    Refused {
        /// The endpoint.
        endpoint: String,
        /// Status and message.
        reason: String,
    },
    /// The endpoint does not answer.
    #[error("the judge at {endpoint} gave no reply to {failed} questions one after another; the last time: {reason}")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// How many.
        failed: usize,
        /// Why not.
        reason: String,
    },
    /// The endpoint wants to be left alone for longer than this program waits.
    #[error("the judge at {endpoint} asks to wait {} s, longer than the {} s that are waited; try again later", .wait.as_secs(), .limit.as_secs())]
    Busy {
        /// The endpoint.
        endpoint: String,
        /// What it asks for.
        wait: Duration,
        /// The longest time that is waited.
        limit: Duration,
    },
    /// Another process judges the same run.
    #[error("{path} is being written by another process; wait for it")]
    Locked {
        /// The log.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] crate::guard::files::GuardError),
    /// A thread ended early.
    #[error("a judging thread ended unexpectedly")]
    Thread,
}

/// Why one request got no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Worth another try: too many requests, an error of the server, a broken connection, a reply that is none.
    Temporary {
        /// What happened, without secrets.
        reason: String,
        /// How long the endpoint asks to wait.
        retry_after: Option<Duration>,
    },
    /// This request will never get a reply; others may.
    Sample {
        /// What happened, without secrets.
        reason: String,
    },
    /// No request will get a reply.
    Fatal {
        /// What happened, without secrets.
        reason: String,
    },
}
