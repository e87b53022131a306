//! `demo`: the main job on what the project ships.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::data::DataArguments;
use super::exit::Exit;
use super::run::{StopSignal, Suite, run_suite};
use super::schedule::ScheduleArguments;
use super::{Globals, VerbResult, report, shipped, terminal};

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Folder for the report and its runs
    #[arg(short, long, value_name = "DIR", default_value = "reports/demo")]
    output: PathBuf,
    /// Ask only this many questions of each benchmark
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// Margin of "no worse" in percentage points.
const MARGIN: f64 = 1.0;

/// Runs the verb: an interrupted demo continues, a finished one is run anew.
pub fn run(arguments: DemoArguments, globals: &Globals) -> VerbResult {
    let runs_folder = arguments.output.join("runs");
    if finished(&runs_folder) {
        std::fs::remove_dir_all(&runs_folder).with_context(|| format!("cannot remove {}", runs_folder.display()))?;
    }
    let stop = StopSignal::install()?;
    let mut runs = Vec::new();
    for part in &shipped::DEMO {
        let suite = Suite {
            models: part.packages.iter().map(PathBuf::from).collect(),
            benchmarks: part.benchmarks.iter().map(|name| (*name).to_owned()).collect(),
            output: runs_folder.clone(),
            limit: arguments.limit,
            max_new_tokens: None,
            data: DataArguments::default(),
            variant: None,
            scheduling: ScheduleArguments::packed_tree(),
            choosing: Default::default(),
            stop_when_decided: false,
            label: Default::default(),
        };
        runs.extend(run_suite(&suite, globals, &stop)?);
    }
    if let Some(exit) = stop.exit() {
        eprintln!("interrupted; the same command continues");
        return Ok(exit);
    }
    let comparison = crate::compare::compare(&runs, MARGIN)?;
    let files = report::write(&runs, &comparison, "llava-gauge demo: the shipped checkpoints", &arguments.output)?;
    if arguments.json {
        terminal::print_json(&comparison)?;
    } else {
        let text = crate::report::terminal::comparison(&comparison, terminal::stdout_width(), terminal::stdout_colour());
        terminal::print(&text)?;
        if let Some(page) = files.iter().find(|file| file.extension().is_some_and(|extension| extension == "html")) {
            terminal::print(&format!("\nreport: {}", page.display()))?;
        }
    }
    Ok(Exit::Success)
}

/// Whether every run of an earlier demo was completed.
fn finished(runs_folder: &Path) -> bool {
    let is_finished = |package: &str, benchmark: &str| runs_folder.join(package).join(benchmark).join("summary.json").is_file();
    shipped::DEMO
        .iter()
        .all(|part| part.packages.iter().all(|package| part.benchmarks.iter().all(|name| is_finished(package, name))))
}
