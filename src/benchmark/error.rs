//! Why a benchmark or a prediction file cannot be used.

use std::path::PathBuf;

use crate::guard::files::GuardError;

/// Why a benchmark or a prediction file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    /// A file could not be read, is too large, or lies outside of the data folder.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Neither a built-in name nor a file.
    #[error("no benchmark is called {name:?}; built in are {known}; any other is given as the path of its .toml file")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Built-in names.
        known: String,
    },
    /// The TOML file is wrong. The message names line and column where there is one.
    #[error("{path}: {message}")]
    Spec {
        /// The TOML file, or the name of a built-in one.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No form of the data is there.
    #[error("the data of benchmark {name} were not found; {looked}; give their folder with --data DIR (source: {source_url})")]
    NoData {
        /// Benchmark name.
        name: String,
        /// By form: where it was looked for, and how it can be had.
        looked: String,
        /// Where the data come from.
        source_url: String,
    },
    /// The benchmark has no such form of its data.
    #[error("the benchmark {name} has no form of its data called {form:?}; it has {known}")]
    UnknownForm {
        /// Benchmark name.
        name: String,
        /// What was asked for.
        form: String,
        /// Forms that there are.
        known: String,
    },
    /// A data or prediction file as a whole is not what it should be.
    #[error("{path}: expected {expected}, found {found}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A row of a data or prediction file is not what it should be.
    #[error("{path}, row {row}, field `{field}`: expected {expected}, found {found}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 1. In JSON Lines it is the line.
        row: usize,
        /// The field, `-` for the row as a whole.
        field: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
}
