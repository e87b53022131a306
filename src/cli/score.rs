//! `score`: predictions made elsewhere, scored by the official rules; no model needed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::data::{DataArguments, warn_of_broken_rows};
use super::exit::{Exit, Failure};
use super::judge::{self, JudgeArguments};
use super::run::StopSignal;
use super::score_output::{PredictionRun, RunNames};
use super::{Globals, VerbResult, terminal};
use crate::benchmark::{Benchmark, predictions};
use crate::compare::{MetricSummary, ScoredSample, summarise_scored};
use crate::judge::{JUDGE_FILE, ReplyLog, Subject};
use crate::score::{Answered, SampleScore};
use crate::store::JudgeIdentity;

/// Arguments of `score`.
#[derive(Debug, Args)]
pub struct ScoreArguments {
    /// Benchmark name, or a benchmark TOML file; left out for your own questions (--data with --metric)
    #[arg(required_unless_present = "metric")]
    benchmark: Option<String>,
    /// Official results JSON, LLaVA answer JSONL, key/text JSONL, or our own samples.jsonl
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    #[command(flatten)]
    data: DataArguments,
    /// Also write a run directory, DIR/NAME/BENCHMARK, which compare, gate, report and rescore read like any other
    #[arg(short, long, value_name = "DIR", requires = "name")]
    output: Option<PathBuf>,
    /// Name of what answered, for --output
    #[arg(long, value_name = "NAME", requires = "output")]
    name: Option<String>,
    /// A name under which to find the run again, for --output
    #[arg(long, value_name = "TAG", requires = "output")]
    tag: Option<String>,
    /// Score although rows of the data are broken: their questions are left out
    #[arg(long)]
    allow_broken: bool,
    /// Score questions without a prediction as an empty answer instead of refusing
    #[arg(long)]
    allow_missing: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// With --json: list every sample too
    #[arg(long, requires = "json")]
    samples: bool,
    /// Keep every reply of the judge in this file, and ask only for those that it lacks
    #[arg(long, value_name = "FILE", help_heading = "Judge")]
    judge_log: Option<PathBuf>,
    #[command(flatten)]
    judge: JudgeArguments,
}

#[derive(Debug, Serialize)]
struct Scores {
    format: u32,
    benchmark: String,
    scorer: String,
    n: usize,
    /// Samples without a prediction, scored as empty answers.
    missing: usize,
    /// Rows of the data that could not be read, left out.
    broken_rows: usize,
    unparsed: usize,
    /// Answers without a score, because no judge has read them or the reference is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    unscored: Option<usize>,
    /// Who judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeIdentity>,
    metrics: BTreeMap<String, MetricValue>,
    /// The run directory that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Vec<SampleLine>>,
}

#[derive(Debug, Serialize)]
struct MetricValue {
    value: f64,
    stderr: Option<f64>,
    interval: Option<[f64; 2]>,
    clusters: usize,
    primary: bool,
    higher_is_better: Option<bool>,
}

#[derive(Debug, Serialize)]
struct SampleLine {
    key: String,
    prediction: String,
    parsed: Option<String>,
    score: Option<f64>,
}

/// Runs the verb.
pub fn run(arguments: ScoreArguments, globals: &Globals) -> VerbResult {
    arguments.judge.check()?;
    let benchmark = arguments.data.load(arguments.benchmark.as_deref())?;
    warn_of_broken_rows(&benchmark);
    if !benchmark.broken.is_empty() && !arguments.allow_broken {
        let error = anyhow!("{} rows of the data are broken; --allow-broken scores without them", benchmark.broken.len());
        return Err(Failure::new(Exit::Rejected, error));
    }
    let predictions = predictions::read(&arguments.predictions, &benchmark, arguments.allow_missing)?;
    let scorer = &benchmark.spec.scorer;
    let texts: HashMap<&str, &str> =
        predictions.found.iter().map(|prediction| (prediction.key.as_str(), prediction.text.as_str())).collect();
    let mut answers: Vec<Answered<'_>> = benchmark
        .samples
        .iter()
        .map(|sample| {
            // A missing prediction counts as an empty answer, as LLaVA's converter submits it.
            let text = texts.get(sample.key.as_str()).copied().unwrap_or_default();
            Answered {
                cluster: &sample.cluster,
                category: sample.category.as_deref(),
                reference: &sample.reference,
                text,
                score: crate::score::score_in_category(scorer, &sample.reference, sample.category.as_deref(), text),
            }
        })
        .collect();
    let names = arguments.output.as_deref().zip(arguments.name.as_deref());
    let kept = match names {
        Some((folder, name)) => {
            let names = RunNames { folder, name, tag: arguments.tag.as_deref() };
            Some(PredictionRun::write(&names, &benchmark, &predictions, &answers)?)
        }
        None => None,
    };
    crate::score::complete(scorer, &mut answers);
    let mut judge = None;
    if scorer.rule.needs_judge() {
        let stop = StopSignal::install()?;
        // A run keeps the replies of its judge, which scoring it again reads.
        let beside = kept.as_ref().map(|run| run.directory.join(JUDGE_FILE));
        let log = arguments.judge_log.as_deref().or(beside.as_deref());
        match judge_answers(&arguments, log, &benchmark, &mut answers, &stop, globals)? {
            Asked::Judged(identity) => judge = Some(identity),
            Asked::Nobody => eprintln!(
                "{} has no score before a judge has read the answers: add --judge-url URL --judge-model NAME",
                benchmark.spec.name
            ),
            Asked::Interrupted => return Ok(stop.exit().unwrap_or(Exit::Interrupted)),
        }
    }
    let run = match kept {
        Some(kept) => {
            let scores: Vec<SampleScore> = answers.iter().map(|answer| answer.score.clone()).collect();
            let run = kept.finish(&scores, judge.as_ref())?;
            eprintln!("{}: run of {} answers", run.directory.display(), run.records.len());
            Some(run.directory)
        }
        None => None,
    };
    let mut lines = Vec::with_capacity(benchmark.samples.len());
    let mut contributions = Vec::with_capacity(benchmark.samples.len());
    for (sample, answer) in benchmark.samples.iter().zip(answers) {
        lines.push(SampleLine {
            key: sample.key.clone(),
            prediction: answer.text.to_owned(),
            parsed: answer.score.parsed,
            score: answer.score.value,
        });
        contributions.push(answer.score.contributions);
    }
    let scored: Vec<ScoredSample<'_>> = benchmark
        .samples
        .iter()
        .zip(&contributions)
        .map(|(sample, contributions)| ScoredSample {
            cluster: &sample.cluster,
            category: sample.category.as_deref(),
            contributions,
        })
        .collect();
    let metrics = summarise_scored(&crate::score::metrics(scorer), &scored);
    // A judge's reply that cannot be read leaves an answer without a score; it says nothing of the answer.
    let unparsed = lines.iter().filter(|line| line.parsed.is_none() && line.score.is_some()).count();
    let unscored = lines.iter().filter(|line| line.score.is_none()).count();
    if arguments.json {
        let scores = Scores {
            format: 1,
            benchmark: benchmark.spec.name.clone(),
            scorer: scorer.identity(),
            n: lines.len(),
            missing: predictions.missing.len(),
            broken_rows: benchmark.broken.len(),
            unparsed,
            unscored: Some(unscored).filter(|count| *count > 0 || scorer.rule.needs_judge()),
            judge,
            metrics: metrics.into_iter().map(|metric| (metric.name.clone(), value(&metric))).collect(),
            run,
            samples: arguments.samples.then_some(lines),
        };
        terminal::print_json(&scores)?;
    } else {
        terminal::print(&table(&benchmark, &metrics, lines.len(), unparsed, unscored))?;
    }
    Ok(Exit::Success)
}

/// What came of asking a judge.
enum Asked {
    Judged(JudgeIdentity),
    /// `--judge none`.
    Nobody,
    Interrupted,
}

/// Has the answers read by the judge that is named, and puts its scores in the place of none.
fn judge_answers(
    arguments: &ScoreArguments,
    log: Option<&Path>,
    benchmark: &Benchmark,
    answers: &mut [Answered<'_>],
    stop: &StopSignal,
    globals: &Globals,
) -> Result<Asked, Failure> {
    let Some(judge) = arguments.judge.open(globals)? else { return Ok(Asked::Nobody) };
    let subjects: Vec<Subject<'_>> = benchmark
        .samples
        .iter()
        .zip(answers.iter())
        .map(|(sample, answer)| Subject {
            key: &sample.key,
            question: &sample.question,
            category: sample.category.as_deref(),
            reference: &sample.reference,
            answer: answer.text,
        })
        .collect();
    let log = log.map(ReplyLog::open).transpose()?;
    let label = format!("{} · {}", arguments.predictions.display(), benchmark.spec.name);
    let judged = judge::ask(&judge, &benchmark.spec.scorer, &subjects, log, &label, stop, globals)?;
    let Some(judged) = judged else { return Ok(Asked::Interrupted) };
    for (answer, outcome) in answers.iter_mut().zip(judged.outcomes) {
        if let Some(outcome) = outcome {
            answer.score = outcome.into_score();
        }
    }
    Ok(Asked::Judged(judged.identity))
}

fn value(metric: &MetricSummary) -> MetricValue {
    MetricValue {
        value: metric.estimate.value,
        stderr: metric.estimate.standard_error,
        interval: metric.estimate.interval,
        clusters: metric.estimate.clusters,
        primary: metric.primary,
        higher_is_better: metric.higher_is_better,
    }
}

fn table(benchmark: &Benchmark, metrics: &[MetricSummary], n: usize, unparsed: usize, unscored: usize) -> String {
    use std::fmt::Write as _;
    let without = if unscored > 0 { format!(", without a score {unscored}") } else { String::new() };
    let (title, scorer) = (&benchmark.spec.title, benchmark.spec.scorer.identity());
    let mut text = format!("{title} · {scorer} · n = {n}, unparsed {unparsed}{without}\n");
    let width = metrics.iter().map(|metric| metric.name.len()).max().unwrap_or(0);
    for metric in metrics {
        let interval = metric.estimate.interval.map_or(String::new(), |[low, high]| format!("  [{low:.2}, {high:.2}]"));
        let primary = if metric.primary { "  primary" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:width$}  {:8.2}{interval}{primary}", metric.name, metric.estimate.value);
    }
    text
}
