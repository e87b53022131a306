//! `compare`: runs paired by sample.

use std::path::PathBuf;

use clap::Args;

use super::exit::Exit;
use super::{VerbResult, run, terminal};

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Run directories, or folders that contain them; the first run of a benchmark is the base
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Name of the package to compare the others with [default: the first found]
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Margin of "no worse", in the metric's units (percentage points for accuracies)
    #[arg(long, value_name = "POINTS", default_value_t = 1.0)]
    margin: f64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(arguments: CompareArguments) -> VerbResult {
    let mut runs = run::open_runs(&arguments.runs)?;
    run::base_first(&mut runs, arguments.base.as_deref())?;
    let comparison = crate::compare::compare(&runs, arguments.margin)?;
    if arguments.json {
        terminal::print_json(&comparison)?;
    } else {
        let text = crate::report::terminal::comparison(&comparison, terminal::stdout_width(), terminal::stdout_colour());
        terminal::print(&text)?;
    }
    let incomplete = comparison.runs.iter().any(|run| !run.complete);
    Ok(if incomplete { Exit::IncompleteRun } else { Exit::Success })
}
