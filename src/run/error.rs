//! What can end a run. A bad sample never does: it is recorded as failed.

use std::path::PathBuf;

/// Why a run or a verification could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine failed on a whole group.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// The run directory could not be read or written.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The tokenizer or template of the package is broken.
    #[error(transparent)]
    Prompt(#[from] crate::prompt::PromptError),
    /// A thread of the conductor ended early.
    #[error("the {0} thread ended unexpectedly")]
    Thread(&'static str),
    /// A scorer does not suit the references of a run.
    #[error("{reason}, which the run on {benchmark} has")]
    Scorer {
        /// Benchmark name.
        benchmark: String,
        /// What does not suit.
        reason: String,
    },
    /// Nothing was selected.
    #[error("no sample of {benchmark} was selected")]
    NothingSelected {
        /// Benchmark name.
        benchmark: String,
    },
    /// Embeddings that cannot be compared.
    #[error("{0}")]
    Embedding(String),
    /// The package has no parity fixture, or a broken one.
    #[error("{path}: {message}")]
    Parity {
        /// The fixture.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}
