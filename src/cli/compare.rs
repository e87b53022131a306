//! `compare`: runs paired by sample.

use std::path::PathBuf;

use clap::Args;

use serde::Serialize;

use super::exit::Exit;
use super::{VerbResult, run, terminal};
use crate::compare::{CompareError, CompareOptions, RunDifference, compare_with};
use crate::report::terminal::{TerminalOptions, comparison_with, prompt_changes};

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
    /// Earlier runs, or folders of them: those of one package tell how far times scatter on this machine; repeatable
    #[arg(long, value_name = "DIR")]
    aa_history: Vec<PathBuf>,
    /// Compare although answers were had in another way (generated, by likelihood) or cut off at another length
    #[arg(long)]
    across_settings: bool,
    /// List this many samples whose score changed for each pair of runs, or all
    #[arg(long, value_name = "N", default_value = "10")]
    flips: Flips,
    /// Show every pair by category
    #[arg(long)]
    categories: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// How many changed samples are listed.
#[derive(Clone, Copy, Debug)]
struct Flips(usize);

impl std::str::FromStr for Flips {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(usize::MAX)),
            number => number.parse().map(Self).map_err(|_| format!("expected a number or all, found {number:?}")),
        }
    }
}

#[derive(Serialize)]
struct Refused<'a> {
    format: u32,
    not_comparable: &'a [RunDifference],
}

/// Runs the verb.
pub fn run(arguments: CompareArguments) -> VerbResult {
    let mut runs = run::open_runs(&arguments.runs)?;
    run::base_first(&mut runs, arguments.base.as_deref())?;
    let history = match arguments.aa_history.as_slice() {
        [] => Vec::new(),
        folders => run::open_runs(folders)?,
    };
    let options = CompareOptions { margin: arguments.margin, history: &history, across_settings: arguments.across_settings };
    let comparison = match compare_with(&runs, &options) {
        Ok(comparison) => comparison,
        Err(error) => {
            if let CompareError::NotComparable { differences } = &error {
                refuse(differences, arguments.json)?;
            }
            return Err(error.into());
        }
    };
    if arguments.json {
        terminal::print_json(&comparison)?;
    } else {
        let options = TerminalOptions {
            width: terminal::stdout_width(),
            colour: terminal::stdout_colour(),
            flips: arguments.flips.0,
            categories: arguments.categories,
        };
        terminal::print(&comparison_with(&comparison, &options))?;
    }
    let incomplete = comparison.runs.iter().any(|run| !run.complete);
    Ok(if incomplete { Exit::IncompleteRun } else { Exit::Success })
}

/// Shows how prompts differ that must not: on standard error below the error's own line, or everything as JSON.
fn refuse(differences: &[RunDifference], json: bool) -> Result<(), anyhow::Error> {
    if json {
        return terminal::print_json(&Refused { format: 1, not_comparable: differences });
    }
    for prompts in differences.iter().filter_map(|difference| difference.prompts.as_ref()) {
        eprintln!("{}, as [-first-]{{+second+}}:", crate::guard::escape::terminal(&prompts.key));
        for line in prompt_changes(prompts, terminal::stdout_width()) {
            eprintln!("{line}");
        }
    }
    Ok(())
}
