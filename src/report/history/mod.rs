//! A history of runs for people: terminal, Markdown, and a page with trend plots.

mod markdown;
mod page;
mod plot;
mod terminal;

pub use terminal::{HistoryText, text};

use crate::compare::{History, HistoryChange, HistoryRun, HistorySeries, HistoryUnit};

use super::format::{self, Unit};
use super::types::{ReportError, ReportFile};

/// The files of a history: `history.html`, `history.md` and `history.json`.
pub fn build(history: &History, title: &str, generated_at: &str) -> Result<Vec<ReportFile>, ReportError> {
    let mut json = serde_json::to_vec_pretty(history)
        .map_err(|error| ReportError::Content { name: "history.json", message: error.to_string() })?;
    json.push(b'\n');
    Ok(vec![
        ReportFile { name: "history.html".into(), bytes: page::page(history, title, generated_at).into_bytes() },
        ReportFile { name: "history.md".into(), bytes: markdown::document(history, title).into_bytes() },
        ReportFile { name: "history.json".into(), bytes: json },
    ])
}

/// A measure's name for people.
fn measure(series: &HistorySeries) -> &str {
    match (series.unit, series.measure.as_str()) {
        (HistoryUnit::Metric, name) => name,
        (_, "per_question_ms") => "time per question",
        (_, "ttft_p50_ms") => "time to first token, median",
        (_, "peak_memory_bytes") => "peak memory",
        (_, "weight_bytes") => "size of weights",
        (_, other) => other,
    }
}

/// A measure's name with the part where there are several.
fn measure_and_part(history: &History, series: &HistorySeries) -> String {
    if parts(history, series) > 1 { format!("{} (part {})", measure(series), series.part) } else { measure(series).to_owned() }
}

/// Series of the same package, benchmark and measure.
fn parts(history: &History, series: &HistorySeries) -> usize {
    let same = |other: &&HistorySeries| {
        (&other.package, &other.benchmark, &other.measure) == (&series.package, &series.benchmark, &series.measure)
    };
    history.series.iter().filter(same).count()
}

/// The unit of a metric, as the other reports write it.
fn unit(series: &HistorySeries) -> Unit {
    Unit { scale: series.scale, points: series.points_of_score }
}

/// `" %"`, `" ms"`, or nothing where the number brings its unit along.
fn suffix(series: &HistorySeries) -> &'static str {
    match series.unit {
        HistoryUnit::Metric => unit(series).suffix(),
        HistoryUnit::Milliseconds => " ms",
        HistoryUnit::Bytes => "",
    }
}

/// A bare number of a series.
fn number(series: &HistorySeries, value: f64) -> String {
    match series.unit {
        HistoryUnit::Metric => unit(series).size(value),
        HistoryUnit::Milliseconds => format::significant(value),
        HistoryUnit::Bytes => bytes(value),
    }
}

/// A point's value, `84.1 ± 1.2` with an interval.
fn point_value(series: &HistorySeries, index: usize) -> String {
    let Some(point) = series.points.get(index) else { return format::MISSING.to_owned() };
    match series.unit {
        HistoryUnit::Metric => unit(series).value_and_half(&point.estimate),
        _ => number(series, point.estimate.value),
    }
}

/// Bytes in the largest binary unit that leaves a number of 1 or more.
fn bytes(value: f64) -> String {
    let mut rest = value;
    for unit in ["B", "KiB", "MiB"] {
        if rest.abs() < 1024.0 {
            return format!("{} {unit}", format::significant(rest));
        }
        rest /= 1024.0;
    }
    format!("{} GiB", format::significant(rest))
}

/// A change, such as `84.1 → 80.2 (−3.9, worse) from release-3`.
fn change_text(history: &History, series: &HistorySeries, change: &HistoryChange) -> String {
    let (before, after) = (number(series, change.mean_before), number(series, change.mean_after));
    let size = match series.unit {
        HistoryUnit::Metric => {
            let decimals = if series.scale <= 1.0 { 3 } else { 1 };
            format!("{}{}", format::signed(change.mean_after - change.mean_before, decimals), unit(series).difference_suffix())
        }
        _ if change.mean_before > 0.0 => {
            format!("{} %", format::signed(100.0 * (change.mean_after / change.mean_before - 1.0), 1))
        }
        _ => String::new(),
    };
    let word = crate::compare::change_direction(change);
    let first = history.runs.get(change.run).map_or_else(String::new, |run| format!(" from {}", run_label(run)));
    let possible = if change.strong { "" } else { "possible: " };
    let sfx = suffix(series);
    let p_value = match format::p_value(Some(change.p_value)) {
        // The sign stays with its number where a line ends.
        text if text.starts_with('<') => text.replace(' ', "\u{a0}"),
        text => format!("=\u{a0}{text}"),
    };
    format!("{possible}{before} → {after}{sfx} ({size}, {word}, p\u{a0}{p_value}){first}")
}

/// What a reader should know of a change, if anything.
fn change_caution(change: &HistoryChange) -> Option<&'static str> {
    change
        .within_interval
        .then_some("smaller than half of one run's interval: `compare` the run with the one before, paired by sample")
}

/// The name of a run: its tag, else its commit, else its date.
fn run_label(run: &HistoryRun) -> String {
    match (&run.tag, &run.commit) {
        (Some(tag), _) => tag.clone(),
        (None, Some(commit)) => commit_label(commit),
        (None, None) => run.started.clone(),
    }
}

fn commit_label(commit: &str) -> String {
    commit.chars().take(10).collect()
}

/// Names of the first and last run of a series.
fn ends<'a>(history: &'a History, series: &HistorySeries) -> Option<(&'a HistoryRun, &'a HistoryRun)> {
    let first = history.runs.get(series.points.first()?.run)?;
    let last = history.runs.get(series.points.last()?.run)?;
    Some((first, last))
}

/// The sentence above everything: how many runs, of what, and how many changes.
fn summary(history: &History) -> String {
    let changes: usize = history.series.iter().map(|series| series.strong_changes().count()).sum();
    let order = match history.order {
        crate::compare::HistoryOrder::Date => "date",
        crate::compare::HistoryOrder::Tag => "tag",
        crate::compare::HistoryOrder::Commit => "commit",
    };
    format!(
        "{} by {order}, {}, {}",
        format::counted(history.runs.len(), "run", "runs"),
        format::counted(history.series.len(), "series", "series"),
        format::counted(changes, "change point", "change points")
    )
}

/// How change points are found, for readers.
const METHOD: &str = "Change points by E-divisive with Student's t-test, windows of 30 runs, p < 0.001 (the method of Hunter and Apache \
                      Otava). They annotate: noise alone gives one now and then, and only a paired comparison says which of two runs is \
                      better.";
