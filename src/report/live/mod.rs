//! What is shown of runs while they are made: `status.json`, and the page that asks for it.
//!
//! Everything from outside is made visible and short here; the page puts it in as text and never as markup.

use base64::Engine as _;
use maud::{DOCTYPE, PreEscaped, html};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::compare::{LIVE_STAGES, LiveRun};
use crate::guard::escape;
use crate::store::{RunHeader, SampleRecord};

use super::types::ReportError;

const STYLE: &str = include_str!("live.css");
const SCRIPT: &str = include_str!("live.js");

/// Longest text of a question or an answer, in characters.
const LONGEST_TEXT: usize = 400;

/// Longest name, tag or path, in characters.
const LONGEST_NAME: usize = 120;

/// One run as it is watched.
#[derive(Clone, Copy, Debug)]
pub struct WatchedRun<'a> {
    /// Its directory.
    pub directory: &'a str,
    /// Its header.
    pub header: &'a RunHeader,
    /// What is recorded so far.
    pub live: &'a LiveRun,
    /// Damaged lines of the log.
    pub damaged_lines: usize,
    /// Questions a second as seen while watching; before anything was seen, from the times in the records.
    pub questions_per_second: Option<f64>,
    /// Seconds since the log was last written.
    pub seconds_since_last_record: Option<f64>,
    /// The newest records, the newest first.
    pub latest: &'a [SampleRecord],
    /// Why the run cannot be read any more.
    pub problem: Option<&'a str>,
}

impl WatchedRun<'_> {
    /// Seconds until the run will be complete at its present pace.
    pub fn eta_seconds(&self) -> Option<f64> {
        let left = self.live.planned.saturating_sub(self.live.recorded);
        self.questions_per_second.filter(|rate| *rate > 0.0 && left > 0).map(|rate| left as f64 / rate)
    }
}

#[derive(Serialize)]
struct Status {
    format: u32,
    generated_at: String,
    program_version: &'static str,
    finished: bool,
    planned: usize,
    recorded: usize,
    failed: usize,
    eta_seconds: Option<f64>,
    notes: Vec<String>,
    runs: Vec<RunStatus>,
}

#[derive(Serialize)]
struct RunStatus {
    directory: String,
    package: String,
    benchmark: String,
    title: String,
    tag: Option<String>,
    commit: Option<String>,
    started: String,
    planned: usize,
    recorded: usize,
    answered: usize,
    failed: usize,
    damaged_lines: usize,
    complete: bool,
    metric: Option<MetricStatus>,
    questions_per_second: Option<f64>,
    eta_seconds: Option<f64>,
    seconds_since_last_record: Option<f64>,
    stages: Vec<StageStatus>,
    latest: Vec<AnswerStatus>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct MetricStatus {
    name: String,
    percent: bool,
    value: f64,
    interval: Option<[f64; 2]>,
    n: usize,
    clusters: usize,
}

#[derive(Serialize)]
struct StageStatus {
    name: &'static str,
    share: f64,
    milliseconds: f64,
}

#[derive(Serialize)]
struct AnswerStatus {
    key: String,
    question: String,
    answer: String,
    parsed: Option<String>,
    score: Option<f64>,
    failure: Option<String>,
}

fn name(text: &str) -> String {
    escape::visible(&escape::shorten_middle(text, LONGEST_NAME))
}

fn said(text: &str) -> String {
    escape::visible(&escape::shorten(text, LONGEST_TEXT))
}

/// `status.json`: the runs in the order given, and all of them together. `eta_seconds` is that of all.
pub fn status(
    runs: &[WatchedRun<'_>],
    eta_seconds: Option<f64>,
    notes: &[String],
    generated_at: &str,
) -> Result<Vec<u8>, ReportError> {
    let sum = |pick: fn(&LiveRun) -> usize| runs.iter().map(|run| pick(run.live)).sum();
    let status = Status {
        format: 1,
        generated_at: generated_at.to_owned(),
        program_version: env!("CARGO_PKG_VERSION"),
        finished: !runs.is_empty() && runs.iter().all(|run| run.live.complete()),
        planned: sum(|live| live.planned),
        recorded: sum(|live| live.recorded),
        failed: sum(|live| live.failed),
        eta_seconds,
        notes: notes.iter().map(|note| said(note)).collect(),
        runs: runs.iter().map(run_status).collect(),
    };
    serde_json::to_vec(&status).map_err(|error| ReportError::Content { name: "status.json", message: error.to_string() })
}

fn run_status(run: &WatchedRun<'_>) -> RunStatus {
    let (header, live) = (run.header, run.live);
    let shares = live.stage_shares();
    let stage = |(index, share): (usize, f64)| StageStatus {
        name: LIVE_STAGES.get(index).copied().unwrap_or("other"),
        share,
        milliseconds: live.stage_ms.get(index).copied().unwrap_or(0.0),
    };
    let metric = live.estimate().map(|(spec, estimate)| MetricStatus {
        name: name(&spec.name),
        percent: spec.scale == 100.0 && !spec.points,
        value: estimate.value,
        interval: estimate.interval,
        n: estimate.n,
        clusters: estimate.clusters,
    });
    RunStatus {
        directory: name(run.directory),
        package: name(&header.model.name),
        benchmark: name(&header.benchmark.name),
        title: name(&header.benchmark.title),
        tag: header.tag.as_deref().map(name),
        commit: header.commit.as_deref().map(name),
        started: name(&header.started),
        planned: live.planned,
        recorded: live.recorded,
        answered: live.answered,
        failed: live.failed,
        damaged_lines: run.damaged_lines,
        complete: live.complete(),
        metric,
        questions_per_second: run.questions_per_second,
        eta_seconds: run.eta_seconds(),
        seconds_since_last_record: run.seconds_since_last_record,
        stages: shares.into_iter().flat_map(|shares| shares.into_iter().enumerate().map(stage).collect::<Vec<_>>()).collect(),
        latest: run.latest.iter().map(answer).collect(),
        problem: run.problem.map(said),
    }
}

fn answer(record: &SampleRecord) -> AnswerStatus {
    AnswerStatus {
        key: name(&record.key),
        question: said(&record.question),
        answer: said(&record.text),
        parsed: record.parsed.as_deref().map(said),
        score: record.score,
        failure: record.failure.as_ref().map(|failure| said(&format!("{}: {}", failure.kind, failure.message))),
    }
}

/// The page. It asks `status.json` beside it every second or two and nothing else.
pub fn page() -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "llava-gauge, live" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Evaluation, live" }
                    p #state role="status" { "Asking for the state of the runs …" }
                    div.bar #whole-bar hidden { div {} }
                    ul #notes {}
                    p { a #report href="report/" { "Report of what is recorded so far" } }
                    noscript { p { "This page needs its script to keep up. The state of the runs stands in " a href="status.json" { "status.json" } "." } }
                }
                main #runs {}
                footer { p { "Read from the run directories by llava-gauge serve, which changes nothing in them." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The policy of the page: its own style and script by their hashes, and requests to where it comes from.
pub fn policy() -> String {
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}
