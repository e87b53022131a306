//! Why there is no submission file.

use std::path::PathBuf;

use crate::guard::files::GuardError;

/// Why there is no submission file.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// A file could not be read or is too large.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The run has no answer to some questions.
    #[error("{run}: {message}; --allow-missing submits them as empty answers")]
    Incomplete {
        /// The run directory.
        run: PathBuf,
        /// How many of which kind.
        message: String,
    },
    /// An answer of the run cannot stand in this format.
    #[error("{run}, sample {key}: expected {expected}, found {found}")]
    Sample {
        /// The run directory.
        run: PathBuf,
        /// The sample.
        key: String,
        /// What the format needs.
        expected: String,
        /// What the run has.
        found: String,
    },
    /// The file of questions is not what it should be.
    #[error("{path}{}: expected {expected}, found {found}", .row.map_or(String::new(), |row| format!(", row {row}")))]
    Questions {
        /// The file.
        path: PathBuf,
        /// The row, from 1.
        row: Option<usize>,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The format needs a file of questions.
    #[error("the format {format} needs {needs}: give it with --questions FILE")]
    NeedsQuestions {
        /// Format name.
        format: &'static str,
        /// Which file.
        needs: &'static str,
    },
    /// The format has no use for a file of questions.
    #[error("the format {format} takes no file of questions")]
    NoQuestions {
        /// Format name.
        format: &'static str,
    },
    /// The workbook could not be packed.
    #[error("cannot pack the workbook: {0}")]
    Workbook(String),
}
