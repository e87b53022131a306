//! What continuous integration reads: gates as a table, JUnit, GitHub's job summary and comment; numbers for trackers; results
//! in lm-evaluation-harness's form.

mod junit;
mod lm_eval;
mod summary;
mod table;
mod trackers;
mod words;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::compare::gate::GateReport;
use crate::compare::{Comparison, RunSummary};

use super::types::{ReportError, ReportInput};
use super::view::View;
use super::{csv, json, markdown};

pub use table::table;

/// A format of `--export FORMAT=PATH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// JUnit XML; needs gates.
    Junit,
    /// GitHub's job summary, at most 1 MiB.
    Github,
    /// A comment on a GitHub pull request, at most 64 KiB.
    GithubComment,
    /// github-action-benchmark, numbers of which more is better.
    BenchmarkBigger,
    /// github-action-benchmark, numbers of which less is better.
    BenchmarkSmaller,
    /// Bencher Metric Format.
    Bencher,
    /// lm-evaluation-harness's results.
    LmEval,
    /// results.csv of a report.
    Csv,
    /// report.md of a report.
    Markdown,
    /// results.json of a report.
    Json,
}

/// All formats with their names.
pub const EXPORT_FORMATS: [(&str, ExportFormat); 10] = [
    ("junit", ExportFormat::Junit),
    ("github", ExportFormat::Github),
    ("github-comment", ExportFormat::GithubComment),
    ("benchmark-bigger", ExportFormat::BenchmarkBigger),
    ("benchmark-smaller", ExportFormat::BenchmarkSmaller),
    ("bmf", ExportFormat::Bencher),
    ("lm-eval", ExportFormat::LmEval),
    ("csv", ExportFormat::Csv),
    ("markdown", ExportFormat::Markdown),
    ("json", ExportFormat::Json),
];

impl ExportFormat {
    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        EXPORT_FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        EXPORT_FORMATS.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| *name)
    }
}

/// What an export is made of.
#[derive(Clone, Copy, Debug)]
pub struct ExportInput<'a> {
    /// The numbers.
    pub comparison: &'a Comparison,
    /// Places in `comparison.runs` of the runs whose numbers are tracked: without those of a baseline.
    pub runs: &'a [usize],
    /// The gates, if there are any.
    pub gates: Option<&'a GateReport>,
    /// Title for people.
    pub title: &'a str,
    /// When it was made, RFC 3339 in UTC.
    pub generated_at: &'a str,
}

/// A run whose numbers are exported.
struct Selected<'a> {
    /// Package name, told apart from those of other packages of the same name.
    name: String,
    run: &'a RunSummary,
}

fn selected<'a>(input: &ExportInput<'a>) -> Vec<Selected<'a>> {
    let mut selected: Vec<Selected<'a>> = Vec::new();
    for run in input.runs.iter().filter_map(|index| input.comparison.runs.get(*index)) {
        let plain = &run.header.model.name;
        let benchmark = &run.header.benchmark.name;
        let same = |other: &&Selected<'_>| (&other.run.header.model.name, &other.run.header.benchmark.name) == (plain, benchmark);
        let earlier = selected.iter().filter(same).count();
        let name = if earlier == 0 { plain.clone() } else { format!("{plain} ({})", earlier + 1) };
        selected.push(Selected { name, run });
    }
    selected
}

/// The bytes of one export.
pub fn export(format: ExportFormat, input: &ExportInput<'_>) -> Result<Vec<u8>, ReportError> {
    let view = || View::new(input.comparison);
    let text = |text: String| Ok(text.into_bytes());
    match format {
        ExportFormat::Junit => match input.gates {
            Some(gates) => text(junit::document(gates, input.generated_at)),
            None => Err(ReportError::Content { name: "junit", message: "it shows gates, and there are none here".to_owned() }),
        },
        ExportFormat::Github => text(summary::job_summary(input, &view())),
        ExportFormat::GithubComment => text(summary::comment(input, &view())),
        ExportFormat::BenchmarkBigger => json_bytes(format, &trackers::github_action_benchmark(&selected(input), true)),
        ExportFormat::BenchmarkSmaller => json_bytes(format, &trackers::github_action_benchmark(&selected(input), false)),
        ExportFormat::Bencher => json_bytes(format, &trackers::bencher(&selected(input))),
        ExportFormat::LmEval => json_bytes(format, &lm_eval::document(&selected(input))?),
        ExportFormat::Csv => csv::table(&view()),
        ExportFormat::Json => json::document(input.comparison),
        ExportFormat::Markdown => {
            let (title, generated_at) = (input.title, input.generated_at);
            let report =
                ReportInput { comparison: input.comparison, samples: &[], images: Default::default(), title, generated_at };
            text(markdown::document(&report, &view()))
        }
    }
}

fn json_bytes(format: ExportFormat, value: &serde_json::Value) -> Result<Vec<u8>, ReportError> {
    let content = |error: serde_json::Error| ReportError::Content { name: format.name(), message: error.to_string() };
    let mut bytes = serde_json::to_vec_pretty(value).map_err(content)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes an export. A file appears whole or not at all, its folder is made if need be; anything else (a pipe, a terminal) is
/// written to as it is. With `append`, the bytes are added to what the file holds, as GitHub wants it for its job summary.
pub fn write_export(path: &Path, bytes: &[u8], append: bool) -> Result<(), ReportError> {
    let failed = |source| ReportError::Write { path: path.to_path_buf(), source };
    if append || path.exists() && !path.is_file() {
        let mut file = File::options().append(append).write(true).create(append).open(path).map_err(failed)?;
        return file.write_all(bytes).map_err(failed);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        // The leftover is of no use; that it may be missing or stuck is less important than the first error.
        let _ = fs::remove_file(&partial);
        failed(source)
    })
}
