//! `history`: many runs over time.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use super::{VerbResult, clock, run, terminal};
use crate::compare::{self, HistoryOptions, HistoryOrder, RunSummary};
use crate::report::history::{HistoryText, build, text};

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// Run directories, or folders that contain them, however deep: one package may be there many times
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Only this benchmark; repeat for several
    #[arg(long, value_name = "NAME")]
    benchmark: Vec<String>,
    /// Only this package; repeat for several
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// Order of the runs; tags and commits stand by the date of their first run
    #[arg(long, value_enum, default_value = "date")]
    by: By,
    /// Metric in the place of each benchmark's primary one; repeat for several
    #[arg(long, value_name = "NAME")]
    metric: Vec<String>,
    /// Folder for history.html, history.md and history.json
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Title of the page
    #[arg(long, default_value = "llava-gauge history")]
    title: String,
    /// Only ASCII in the table
    #[arg(long)]
    ascii: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    /// By the start of the run
    Date,
    /// By tag; runs without one are left out
    Tag,
    /// By commit; runs without one are left out
    Commit,
}

/// Runs the verb.
pub fn run(arguments: HistoryArguments) -> VerbResult {
    let (summaries, damaged) = summaries(&arguments.runs)?;
    check_names(&arguments, &summaries)?;
    let options = HistoryOptions {
        order: match arguments.by {
            By::Date => HistoryOrder::Date,
            By::Tag => HistoryOrder::Tag,
            By::Commit => HistoryOrder::Commit,
        },
        packages: arguments.package,
        benchmarks: arguments.benchmark,
        metrics: arguments.metric,
    };
    let mut history = compare::history(summaries, &options);
    history.notes.extend(damaged);
    if history.runs.is_empty() {
        let why = if history.notes.is_empty() { String::new() } else { format!(": {}", history.notes.join("; ")) };
        return Err(Failure::new(Exit::NothingSelected, anyhow!("no run is left for a history{why}")));
    }
    if arguments.json {
        terminal::print_json(&history)?;
    } else {
        let how = HistoryText {
            width: terminal::stdout_width(),
            colour: terminal::stdout_colour(),
            ascii: arguments.ascii || !terminal::unicode(),
        };
        terminal::print(&text(&history, how))?;
    }
    if let Some(folder) = &arguments.output {
        let files = crate::report::write_to(folder, &build(&history, &arguments.title, &clock::now_rfc3339())?)?;
        for file in files {
            // Standard output carries the table or the JSON alone.
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(Exit::Success)
}

/// Runs by the name of their directory.
type Named = Vec<(String, RunSummary)>;

/// Summaries of all runs below the paths, one read after another because their answers are not kept; and what could not be
/// read, which is no reason to see nothing of the others.
fn summaries(paths: &[PathBuf]) -> Result<(Named, Vec<String>), Failure> {
    let directories = crate::store::discover(paths)?;
    let mut summaries = Vec::with_capacity(directories.len());
    let mut damaged = Vec::new();
    let mut first_failure = None;
    for directory in &directories {
        match run::open_run(directory) {
            Ok(run) => summaries.push((name(directory), compare::summarise(&run))),
            Err(failure) => {
                let note = format!("{} is left out: {:#}", directory.display(), failure.error);
                eprintln!("warning: {}", crate::guard::escape::terminal(&note));
                damaged.push(note);
                first_failure.get_or_insert(failure);
            }
        }
    }
    match first_failure {
        Some(failure) if summaries.is_empty() => Err(failure),
        _ => Ok((summaries, damaged)),
    }
}

fn name(directory: &Path) -> String {
    directory.to_string_lossy().into_owned()
}

/// Refuses names that no run has, because an empty table would look like good news.
fn check_names(arguments: &HistoryArguments, runs: &[(String, RunSummary)]) -> Result<(), Failure> {
    let packages = runs.iter().map(|(_, run)| run.header.model.name.as_str());
    check("package", "--package", &arguments.package, packages.collect())?;
    let benchmarks = runs.iter().map(|(_, run)| run.header.benchmark.name.as_str());
    check("benchmark", "--benchmark", &arguments.benchmark, benchmarks.collect())?;
    let metrics = runs.iter().flat_map(|(_, run)| run.metrics.iter().map(|metric| metric.name.as_str()));
    check("metric", "--metric", &arguments.metric, metrics.collect())
}

fn check(what: &str, option: &str, asked: &[String], mut known: Vec<&str>) -> Result<(), Failure> {
    known.sort_unstable();
    known.dedup();
    match asked.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let error = anyhow!("{option}: no run has a {what} named {name:?}; found {}", known.join(", "));
            Err(Failure::new(Exit::Setup, error))
        }
        None => Ok(()),
    }
}
