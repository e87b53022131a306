//! `rescore`: stored answers scored again, without a model.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use super::judge::{JudgeArguments, judge_run, scorer_of, store_scores, stored_scores};
use super::run::StopSignal;
use super::{Globals, VerbResult, run, terminal};
use crate::benchmark::{Benchmark, ScorerRule, ScorerSpec};
use crate::run::rescore;
use crate::store::Run;

/// Arguments of `rescore`.
#[derive(Debug, Args)]
pub struct RescoreArguments {
    /// Run directories, or folders of them
    #[arg(required_unless_present = "list_scorers")]
    runs: Vec<PathBuf>,
    /// Scorer to apply, such as vqa-m4c [default: the one that the benchmark names]
    #[arg(long, value_name = "NAME", conflicts_with = "benchmark")]
    scorer: Option<String>,
    /// Apply the scorer that this benchmark or benchmark TOML file names
    #[arg(long, value_name = "NAME")]
    benchmark: Option<String>,
    /// Show what the scores would be and write nothing
    #[arg(long)]
    dry_run: bool,
    /// List the scorers and their versions
    #[arg(long)]
    list_scorers: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArguments,
}

/// Runs the verb.
pub fn run(arguments: RescoreArguments, globals: &Globals) -> VerbResult {
    if arguments.list_scorers {
        return list(arguments.json);
    }
    let given = match (&arguments.scorer, &arguments.benchmark) {
        (Some(name), _) => Some(ScorerSpec::new(by_name(name)?)),
        (None, Some(benchmark)) => Some(Benchmark::specification(benchmark)?.scorer),
        (None, None) => None,
    };
    if arguments.dry_run && arguments.judge.is_given() {
        return Err(Failure::new(
            Exit::Setup,
            anyhow!("--dry-run asks no judge: its replies cost something and would be stored"),
        ));
    }
    let stop = StopSignal::install()?;
    let judge = arguments.judge.open(globals)?;
    let mut rescored = Vec::new();
    for directory in crate::store::discover(&arguments.runs)? {
        let mut run = Run::open_log(&directory)?;
        let scorer = match &given {
            Some(scorer) => scorer.clone(),
            None => own_scorer(&run)?,
        };
        let before = run.header.benchmark.scorer.clone();
        if let Some(judge) = judge.as_ref().filter(|_| scorer.rule.needs_judge()) {
            // A scorer that does not suit the run's references says so before anybody is asked.
            rescore(&run, &scorer)?;
            match judge_run(judge, &directory, run, &scorer, &stop, globals)? {
                Some(run) => rescored.push(run),
                None => return Ok(stop.exit().unwrap_or(Exit::Interrupted)),
            }
            continue;
        }
        let scores = match stored_scores(&run, &scorer)? {
            Some(scores) => scores,
            None => rescore(&run, &scorer)?,
        };
        if arguments.dry_run {
            scores.apply(&mut run);
        } else {
            run = store_scores(&directory, run, scores)?;
        }
        eprintln!("{}: scored by {} (in the log: {before})", directory.display(), run.header.benchmark.scorer);
        rescored.push(run);
    }
    run::report_runs(&rescored, arguments.json)?;
    Ok(Exit::Success)
}

/// The scorer that the run's benchmark names now, or the one of the log where the benchmark is not a built-in one.
fn own_scorer(run: &Run) -> Result<ScorerSpec, Failure> {
    match Benchmark::specification(&run.header.benchmark.name) {
        Ok(specification) => Ok(specification.scorer),
        Err(_) => scorer_of(run),
    }
}

fn by_name(name: &str) -> Result<ScorerRule, Failure> {
    ScorerRule::by_name(name).ok_or_else(|| {
        let known: Vec<String> = ScorerRule::all().iter().map(|rule| rule.name().to_owned()).collect();
        Failure::new(Exit::Setup, anyhow!("no scorer is called {name:?}; there are {}", known.join(", ")))
    })
}

fn list(json: bool) -> VerbResult {
    let scorers: Vec<String> = ScorerRule::all().iter().map(ScorerRule::identity).collect();
    if json {
        terminal::print_json(&scorers)?;
    } else {
        terminal::print(&scorers.join("\n"))?;
    }
    Ok(Exit::Success)
}
