//! `report`: files for people and for machines.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::exporting::{self, Export};
use super::{VerbResult, clock, run, terminal};
use crate::compare::{Attribution, Comparison};
use crate::guard::files::read_capped;
use crate::report::ci::ExportInput;
use crate::report::{self, ImageSource, ReportFile, ReportFormat, ReportInput, ReportOptions, RunSamples};
use crate::store::Run;

/// What `attribute` writes.
const ATTRIBUTION: &str = "attribution.json";
/// Largest such file that is read; real ones have some kilobytes.
const ATTRIBUTION_BYTES: u64 = 16 << 20;
/// How deep below the given folders such files are looked for.
const ATTRIBUTION_DEPTH: usize = 3;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Run directories, or folders that contain them; the first run of a benchmark is the base
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Folder for the files
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Name of the package to compare the others with [default: the first found]
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Margin of "no worse" in points: hundredths of a metric's full scale
    #[arg(long, value_name = "POINTS", default_value_t = 1.0)]
    margin: f64,
    /// Title of the page
    #[arg(long, default_value = "llava-gauge report")]
    title: String,
    /// What `attribute` wrote, to be shown too [default: every attribution.json below the given folders that is about these
    /// packages]
    #[arg(long, value_name = "FILE")]
    attribution: Vec<PathBuf>,
    /// Kinds of files to write
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FORMAT", default_values_t = [Format::Html, Format::Markdown, Format::Json, Format::Csv])]
    format: Vec<Format>,
    /// Write the numbers in a form for other programs too, - for standard output: github, github-comment, benchmark-bigger,
    /// benchmark-smaller, bmf, lm-eval; may be given several times
    #[arg(long, value_name = "FORMAT=PATH", value_parser = exporting::parse)]
    export: Vec<Export>,
    /// Print the written files as JSON
    #[arg(long)]
    json: bool,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// index.html, complete in itself
    Html,
    /// report.md
    Markdown,
    /// results.json
    Json,
    /// results.csv
    Csv,
    /// plots/: every chart as SVG and PNG
    Plots,
}

impl Format {
    fn of_report(self) -> ReportFormat {
        match self {
            Self::Html => ReportFormat::Html,
            Self::Markdown => ReportFormat::Markdown,
            Self::Json => ReportFormat::Json,
            Self::Csv => ReportFormat::Csv,
            Self::Plots => ReportFormat::Plots,
        }
    }
}

#[derive(Serialize)]
struct Written {
    format: u32,
    files: Vec<PathBuf>,
}

/// Runs the verb.
pub fn run(arguments: ReportArguments) -> VerbResult {
    let to_stdout = exporting::takes_stdout(&arguments.export, arguments.json)?;
    let mut runs = run::open_runs(&arguments.runs)?;
    run::base_first(&mut runs, arguments.base.as_deref())?;
    let comparison = crate::compare::compare(&runs, arguments.margin)?;
    let attributions = attributions(&arguments, &comparison)?;
    let formats: Vec<ReportFormat> = arguments.format.iter().map(|format| format.of_report()).collect();
    let options = ReportOptions { attributions: &attributions, formats: &formats };
    let files = report::write_to(&arguments.output, &files_with(&runs, &comparison, &arguments.title, &options)?)?;
    let all: Vec<usize> = (0..comparison.runs.len()).collect();
    let generated_at = clock::now_rfc3339();
    let (title, generated_at) = (arguments.title.as_str(), generated_at.as_str());
    exporting::write(&arguments.export, &ExportInput { comparison: &comparison, runs: &all, gates: None, title, generated_at })?;
    if arguments.json {
        terminal::print_json(&Written { format: 1, files })?;
    } else if !to_stdout {
        for file in files {
            terminal::print(&file.display().to_string())?;
        }
    }
    Ok(Exit::Success)
}

/// Writes the usual report of `runs` into `output` and returns its files.
pub fn write(runs: &[Run], comparison: &Comparison, title: &str, output: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(report::write_to(output, &files(runs, comparison, title)?)?)
}

/// The files of the usual report of `runs`.
pub fn files(runs: &[Run], comparison: &Comparison, title: &str) -> Result<Vec<ReportFile>, Failure> {
    files_with(runs, comparison, title, &ReportOptions::default())
}

fn files_with(
    runs: &[Run],
    comparison: &Comparison,
    title: &str,
    options: &ReportOptions<'_>,
) -> Result<Vec<ReportFile>, Failure> {
    let samples: Vec<RunSamples<'_>> = comparison
        .runs
        .iter()
        .enumerate()
        .filter_map(|(index, summary)| {
            let run = runs.iter().find(|run| run.header == summary.header)?;
            Some(RunSamples { run: index, records: &run.records })
        })
        .collect();
    let generated_at = clock::now_rfc3339();
    let input = ReportInput { comparison, samples: &samples, images: ImageSource::DataRoot, title, generated_at: &generated_at };
    Ok(report::build_with(&input, options)?)
}

/// The files that were named, or else those below the given folders that are about packages of the comparison.
fn attributions(arguments: &ReportArguments, comparison: &Comparison) -> Result<Vec<Attribution>, Failure> {
    if !arguments.attribution.is_empty() {
        return arguments.attribution.iter().map(|path| read_attribution(path)).collect();
    }
    let mut paths = Vec::new();
    for folder in &arguments.runs {
        find_attributions(folder, ATTRIBUTION_DEPTH, &mut paths);
    }
    paths.sort();
    paths.dedup();
    let known = |name: &str| comparison.runs.iter().any(|run| run.header.model.name == name);
    let mut found = Vec::new();
    for path in paths {
        let attribution = read_attribution(&path)?;
        if known(&attribution.base) && known(&attribution.new) {
            found.push(attribution);
        }
    }
    Ok(found)
}

/// Folders that cannot be read hold nothing that could be shown.
fn find_attributions(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let here = folder.join(ATTRIBUTION);
    if here.is_file() {
        found.push(here);
    }
    if depth == 0 {
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Links may lead round in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_attributions(&entry.path(), depth - 1, found);
        }
    }
}

fn read_attribution(path: &Path) -> Result<Attribution, Failure> {
    let bytes = read_capped(path, ATTRIBUTION_BYTES)
        .with_context(|| format!("cannot read the attribution {}", path.display()))
        .map_err(|error| Failure::new(Exit::Setup, error))?;
    let attribution: Attribution = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no attribution as `attribute` writes it", path.display()))
        .map_err(|error| Failure::new(Exit::Setup, error))?;
    if attribution.format != 1 {
        let found = attribution.format;
        return Err(Failure::new(
            Exit::IncompleteRun,
            anyhow!("{}: format is {found}, this program reads format 1: use a newer llava-gauge", path.display()),
        ));
    }
    Ok(attribution)
}
