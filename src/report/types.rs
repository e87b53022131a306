//! What goes into a report and what comes out.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::compare::{Attribution, Comparison};
use crate::store::SampleRecord;

/// Where the images of the samples are looked for. Every file is read through the guard: contained in the folder,
/// capped, decoded under limits and re-encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageSource {
    /// Below each run's `header.benchmark.data_root`.
    #[default]
    DataRoot,
    /// Below this folder instead, for runs whose data moved.
    Folder(PathBuf),
    /// Nowhere: the report shows no images.
    Omit,
}

/// The records of one run.
#[derive(Clone, Copy, Debug)]
pub struct RunSamples<'a> {
    /// Index into `Comparison::runs`.
    pub run: usize,
    /// Its records, in the order of the run.
    pub records: &'a [SampleRecord],
}

/// Everything that a report is made of.
#[derive(Clone, Debug)]
pub struct ReportInput<'a> {
    /// The numbers.
    pub comparison: &'a Comparison,
    /// Records of some or all runs; without any, the samples shown are the flips of the comparison, without images.
    pub samples: &'a [RunSamples<'a>],
    /// Where the images are.
    pub images: ImageSource,
    /// Title of the report.
    pub title: &'a str,
    /// When it was made, as it is to be shown (RFC 3339 in UTC).
    pub generated_at: &'a str,
}

/// A kind of file of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    /// `index.html`, and `samples-2.html`, … where the samples need more room.
    Html,
    /// `report.md`.
    Markdown,
    /// `results.json`.
    Json,
    /// `results.csv`.
    Csv,
    /// `plots/`: every chart as SVG and PNG.
    Plots,
}

impl ReportFormat {
    /// What a report has unless something else is asked for.
    pub const USUAL: [Self; 4] = [Self::Html, Self::Markdown, Self::Json, Self::Csv];
}

/// What a report shows beside the comparison, and as what.
#[derive(Clone, Copy, Debug)]
pub struct ReportOptions<'a> {
    /// What `attribute` found, if it was asked.
    pub attributions: &'a [Attribution],
    /// The kinds of files, in any order.
    pub formats: &'a [ReportFormat],
}

impl Default for ReportOptions<'_> {
    fn default() -> Self {
        Self { attributions: &[], formats: &ReportFormat::USUAL }
    }
}

/// One file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// File name; a folder stands before it with a `/`.
    pub name: Cow<'static, str>,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Why a report was not made or not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is nothing to report.
    #[error("the comparison holds no run: at least one is needed for a report")]
    NoRuns,
    /// Records were given for a run that the comparison does not have.
    #[error("samples were given for run {run}, but the comparison has {runs} runs (counted from 0)")]
    UnknownRun {
        /// The index given.
        run: usize,
        /// Runs in the comparison.
        runs: usize,
    },
    /// A chart could not be drawn.
    #[error("cannot draw the chart {chart}: {message}")]
    Chart {
        /// Which one.
        chart: String,
        /// The reason.
        message: String,
    },
    /// A file could not be put together.
    #[error("cannot write the content of {name}: {message}")]
    Content {
        /// File name.
        name: &'static str,
        /// The reason.
        message: String,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}
