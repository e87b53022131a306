//! `gate`: whether runs may pass, for CI.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::baseline::{self, Resolved};
use super::exit::{Exit, Failure};
use super::exporting::{self, Export};
use super::{VerbResult, clock, run, terminal};
use crate::compare::CompareOptions;
use crate::compare::gate::{self, GateReport, GateResult, Policy};
use crate::report::ci::{self, ExportInput};
use crate::store::{LogNote, Run};

/// Arguments of `gate`.
#[derive(Debug, Args)]
pub struct GateArguments {
    /// Run directories, or folders that contain them
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// What to measure by: the name of a saved baseline, its folder, run directories, or the tag of a baseline's runs
    #[arg(long, value_name = "NAME|PATH|TAG", required_unless_present = "no_baseline")]
    baseline: Option<String>,
    /// Judge by the limits of the policy alone, without a baseline
    #[arg(long, conflicts_with = "baseline")]
    no_baseline: bool,
    /// Folder of saved baselines
    #[arg(long, value_name = "DIR", default_value = baseline::DEFAULT_FOLDER)]
    baselines: PathBuf,
    /// Name of the package of the baseline to measure by, where it has several
    #[arg(long, value_name = "NAME", conflicts_with = "no_baseline")]
    base: Option<String>,
    /// Folder of earlier runs: those of one package on this machine tell how far its times scatter by themselves
    #[arg(long, value_name = "DIR")]
    aa_history: Option<PathBuf>,
    /// Policy file [default: no primary metric regressed, at most 1 % of samples without an answer]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Fail on inconclusive metrics and missing runs too, whatever the policy says
    #[arg(long)]
    strict: bool,
    /// Write the result in another form too, - for standard output: junit, github, github-comment, benchmark-bigger,
    /// benchmark-smaller, bmf, lm-eval, csv, markdown, json; may be given several times
    #[arg(long, value_name = "FORMAT=PATH", value_parser = exporting::parse)]
    export: Vec<Export>,
    /// Title of summaries and comments
    #[arg(long, default_value = "llava-gauge")]
    title: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Largest policy file read, in bytes.
const POLICY_LIMIT_BYTES: u64 = 1 << 20;

/// Runs the verb.
pub fn run(arguments: GateArguments) -> VerbResult {
    let to_stdout = exporting::takes_stdout(&arguments.export, arguments.json)?;
    let mut policy = match &arguments.policy {
        Some(path) => read_policy(path)?,
        None => Policy::default(),
    };
    policy.strict |= arguments.strict;
    let new = run::open_runs(&arguments.runs)?;
    let baseline = arguments.baseline.as_deref().map(|given| baseline::resolve(given, &arguments.baselines)).transpose()?;
    let Resolved { label, runs: base } = baseline.unwrap_or(Resolved { label: String::new(), runs: Vec::new() });
    refuse_damaged(new.iter().chain(&base))?;
    let history = arguments.aa_history.as_ref().map(|path| run::open_runs(std::slice::from_ref(path))).transpose()?;
    let options = CompareOptions {
        margin: policy.defaults.margin.unwrap_or(crate::compare::DEFAULT_MARGIN),
        history: history.as_deref().unwrap_or_default(),
        across_settings: false,
    };
    let contest = gate::against_baseline(&base, &new, arguments.base.as_deref(), &options)?;
    let report = gate::gate(&contest, &policy, arguments.baseline.as_ref().map(|_| label.as_str()))?;

    let tracked: Vec<usize> = contest.contenders.iter().map(|contender| contender.new).collect();
    let generated_at = clock::now_rfc3339();
    let input = ExportInput {
        comparison: &contest.comparison,
        runs: &tracked,
        gates: Some(&report),
        title: &arguments.title,
        generated_at: &generated_at,
    };
    exporting::write(&arguments.export, &input)?;
    if arguments.json {
        terminal::print_json(&report)?;
    } else if !to_stdout {
        terminal::print(&ci::table(&report, terminal::stdout_colour()))?;
    } else {
        eprint!("{}", ci::table(&report, false));
    }
    Ok(exit(&report))
}

/// The exit code of a result.
fn exit(report: &GateReport) -> Exit {
    match report.result {
        GateResult::Passed => Exit::Success,
        GateResult::Incomplete => Exit::Incomplete,
        GateResult::TooManyFailures => Exit::TooManyFailures,
        GateResult::Failed => Exit::GateFailed,
    }
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let refuse = |message: String| Failure::new(Exit::Setup, anyhow!("{}: {message}", path.display()));
    let text =
        crate::guard::files::read_text_capped(path, POLICY_LIMIT_BYTES).map_err(|error| Failure::new(Exit::Setup, error))?;
    Policy::parse(&text).map_err(|error| refuse(error.to_string()))
}

/// A damaged line is an answer that was given and is lost: what the rest says is no measurement of the run.
fn refuse_damaged<'a>(mut runs: impl Iterator<Item = &'a Run>) -> Result<(), Failure> {
    let damaged = |run: &'a Run| {
        let note = run.notes.iter().find(|note| matches!(note, LogNote::DamagedLine { .. }))?;
        Some(anyhow!("the log of {} is damaged: {note}; run it again", run.directory.display()))
    };
    runs.find_map(damaged).map_or(Ok(()), |error| Err(Failure::new(Exit::IncompleteRun, error)))
}
