//! `package compare`: packages of one checkpoint, token by token.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::data::{DataArguments, warn_of_broken_rows};
use super::exit::{Exit, Failure};
use super::run::StopSignal;
use super::{Globals, VerbResult, model, terminal};
use crate::calibration::{AgreementQuestion, CalibrationError, PackageComparison, Share, compare_packages};
use crate::engine::Scheduling;
use crate::guard::escape;
use crate::run::Plan;

/// Arguments of `package compare`.
#[derive(Debug, Args)]
pub struct PackageCompareArguments {
    /// The package to compare with, usually the fp32 one: a folder, or the name of a shipped package
    base: PathBuf,
    /// Packages of the same checkpoint in other precisions
    #[arg(required = true)]
    new: Vec<PathBuf>,
    /// Benchmark name, or a benchmark TOML file, whose questions are asked
    #[arg(long, value_name = "NAME", required_unless_present = "metric")]
    benchmark: Option<String>,
    /// Ask only this many questions: whole images in a fixed pseudo-random order
    #[arg(long, value_name = "N", default_value = "128")]
    limit: std::num::NonZeroUsize,
    /// Look at this many tokens of each answer at most
    #[arg(long, value_name = "N", default_value = "16")]
    max_new_tokens: std::num::NonZeroUsize,
    #[command(flatten)]
    data: DataArguments,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    format: u32,
    benchmark: &'a str,
    max_new_tokens: usize,
    #[serde(flatten)]
    comparison: &'a PackageComparison,
}

/// Between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs the verb.
pub fn run(arguments: &PackageCompareArguments, globals: &Globals) -> VerbResult {
    let benchmark = arguments.data.load(arguments.benchmark.as_deref())?;
    warn_of_broken_rows(&benchmark);
    let plan = Plan::new(&benchmark.samples, Some(arguments.limit.get()));
    if plan.samples() == 0 {
        let error = anyhow!("no sample of {} was selected", benchmark.spec.name);
        return Err(Failure::new(Exit::NothingSelected, error));
    }
    let given = std::iter::once(&arguments.base).chain(&arguments.new);
    let packages = given.map(|given| model::open(given, None)).collect::<Result<Vec<_>, _>>()?;
    let stop = StopSignal::install()?;
    let progress = reporter(globals.no_progress);
    let max_new_tokens = arguments.max_new_tokens.get().min(benchmark.spec.max_new_tokens.max(1));
    let question =
        AgreementQuestion { benchmark: &benchmark, plan: &plan, max_new_tokens, stop: stop.flag(), progress: &progress };
    let options = model::engine_options(globals, Scheduling::OneByOne);
    let comparison = match compare_packages(&packages, &options, &question) {
        Err(CalibrationError::Interrupted) => return Ok(stop.exit().unwrap_or(Exit::Interrupted)),
        other => other?,
    };
    for message in comparison.left_out.iter().take(5) {
        eprintln!("left out: {}", escape::terminal(message));
    }
    if arguments.json {
        let output = Output { format: 1, benchmark: &benchmark.spec.name, max_new_tokens, comparison: &comparison };
        terminal::print_json(&output)?;
    } else {
        terminal::print(&table(&comparison, &benchmark.spec.name))?;
    }
    Ok(Exit::Success)
}

/// Tells on standard error how many prompts a package has answered.
fn reporter(silent: bool) -> impl Fn(&str, usize, usize) {
    let bar = (!silent && terminal::interactive()).then(|| {
        let style = ProgressStyle::with_template("{msg} [{bar:24}] {pos}/{len} prompts eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        ProgressBar::new(0).with_style(style)
    });
    let last = Cell::new(Instant::now());
    move |package, done, total| match &bar {
        _ if silent => {}
        Some(bar) => {
            if done == 1 {
                bar.reset();
            }
            bar.set_message(escape::terminal(&escape::shorten_middle(package, 32)));
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        }
        None => {
            if done == total || last.get().elapsed() >= LINE_EVERY {
                last.set(Instant::now());
                eprintln!("{}: {done}/{total} prompts", escape::terminal(package));
            }
        }
    }
}

fn table(comparison: &PackageComparison, benchmark: &str) -> String {
    use std::fmt::Write as _;
    let width = comparison.packages.iter().map(|package| package.name.chars().count()).max().unwrap_or(0).clamp(7, 40);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:width$}  {:>26}  {:>9} {:>9}  {:>21}  {:>21}  {:>9} {:>9}  {:>8} {:>8}",
        "package",
        "vision/projector/llm",
        "mean KL",
        "max KL",
        "first token equal",
        "led tokens equal",
        "max error",
        "relative",
        "disk MB",
        "peak MB"
    );
    let percent = |share: &Share| {
        let [low, high] = share.interval;
        format!("{:.1} % [{:.1}, {:.1}]", 100.0 * share.share, 100.0 * low, 100.0 * high)
    };
    for package in &comparison.packages {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let memory = package.peak_memory_bytes.map_or_else(|| "–".to_owned(), megabytes);
        let found = match &package.agreement {
            None => ["base", "", "", "", "", ""].map(str::to_owned),
            Some(found) => [
                format!("{:.2e}", found.first_token_mean_kl),
                format!("{:.2e}", found.first_token_max_kl),
                percent(&found.first_token),
                percent(&found.led_tokens),
                format!("{:.2e}", found.logit_max_error),
                format!("{:.2e}", found.logit_relative_error),
            ],
        };
        let [mean, largest, first, led, error, relative] = &found;
        let _ = writeln!(
            text,
            "{:width$}  {:>26}  {mean:>9} {largest:>9}  {first:>21}  {led:>21}  {error:>9} {relative:>9}  {:>8} {memory:>8}",
            escape::terminal(&escape::shorten_middle(&package.name, 40)),
            package.precision.join("/"),
            megabytes(package.disk_bytes),
        );
    }
    let _ = writeln!(
        text,
        "{} prompts of {}; KL in nats of the first token's distribution; led: the most likely next token at each position of the \
         base's answer; relative: of the logits' spread; 95 % intervals of Wilson",
        comparison.samples,
        escape::terminal(benchmark)
    );
    text
}
