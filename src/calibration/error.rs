//! Why statistics could not be collected.

use std::path::PathBuf;

use crate::engine::EngineError;
use crate::package::PackageError;
use crate::prompt::PromptError;

/// Why statistics could not be collected, or packages not compared.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The package cannot show what goes into its linear layers.
    #[error("{package}: {stage} is {precision}, but inputs of linear layers are collected from fp32 graphs of this program only")]
    Precision {
        /// Package name.
        package: String,
        /// The stage.
        stage: &'static str,
        /// What it is.
        precision: String,
    },
    /// Another program wrote the package.
    #[error("{package} is in the layout of {layout}; this needs packages that `llava-gauge export` wrote")]
    Foreign {
        /// Package name.
        package: String,
        /// Its layout.
        layout: String,
    },
    /// The benchmark has no questions for a LLaVA package.
    #[error("{benchmark} {reason}, so there is nothing to ask")]
    Unsuitable {
        /// Benchmark name.
        benchmark: String,
        /// Why not.
        reason: &'static str,
    },
    /// None of the samples could be asked.
    #[error("none of the {samples} samples of {benchmark} could be asked: {reason}")]
    NothingUsable {
        /// Benchmark name.
        benchmark: String,
        /// Samples that were chosen.
        samples: usize,
        /// What is wrong with the first.
        reason: String,
    },
    /// Tokens of one package mean nothing to the other.
    #[error("{base} and {other} cannot be compared token by token: {problem}")]
    Unequal {
        /// Name of the base package.
        base: String,
        /// Name of the other package.
        other: String,
        /// What differs.
        problem: String,
    },
    /// The stop signal came.
    #[error("interrupted while asking samples; nothing was written")]
    Interrupted,
    /// The temporary file of matrices could not be written or read.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A package could not be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A tokenizer or template could not be read.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A stage could not be loaded or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
