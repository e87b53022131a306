//! `report`: files for people and for machines.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{VerbResult, clock, run, terminal};
use crate::report::{self, ImageSource, ReportInput, RunSamples};
use crate::store::Run;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Run directories, or folders that contain them; the first run of a benchmark is the base
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Folder for index.html, report.md, results.json and results.csv
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Name of the package to compare the others with [default: the first found]
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Margin of "no worse", in the metric's units
    #[arg(long, value_name = "POINTS", default_value_t = 1.0)]
    margin: f64,
    /// Title of the page
    #[arg(long, default_value = "llava-gauge report")]
    title: String,
    /// Print the written files as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Written {
    format: u32,
    files: Vec<PathBuf>,
}

/// Runs the verb.
pub fn run(arguments: ReportArguments) -> VerbResult {
    let mut runs = run::open_runs(&arguments.runs)?;
    run::base_first(&mut runs, arguments.base.as_deref())?;
    let comparison = crate::compare::compare(&runs, arguments.margin)?;
    let files = write(&runs, &comparison, &arguments.title, &arguments.output)?;
    if arguments.json {
        terminal::print_json(&Written { format: 1, files })?;
    } else {
        for file in files {
            terminal::print(&file.display().to_string())?;
        }
    }
    Ok(Exit::Success)
}

/// Writes the report of `runs` into `output` and returns its files.
pub fn write(runs: &[Run], comparison: &crate::compare::Comparison, title: &str, output: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(report::write_to(output, &files(runs, comparison, title)?)?)
}

/// The files of the report of `runs`.
pub fn files(runs: &[Run], comparison: &crate::compare::Comparison, title: &str) -> Result<Vec<report::ReportFile>, Failure> {
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
    Ok(report::build(&input)?)
}
