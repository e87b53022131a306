//! Many runs over time: one series of values per package, benchmark and measure, with the places where its level changed.
//!
//! Only runs that can be compared stand in one series: of the same samples, scorer, prompt and settings of answers for scores,
//! and besides on the same machine with the same threads for times and memory. Change points annotate and never gate.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::history_points::{Fact, Measure, differing, facts, measures};
use super::{Estimate, RunSummary};
use crate::stats::{CHANGE_POINT_P_VALUE, CHANGE_POINT_WINDOW, ChangePoint, change_points};

/// By what runs are put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryOrder {
    /// By the start of the run.
    #[default]
    Date,
    /// By tag, the tags by the date of their first run. Runs without a tag are left out.
    Tag,
    /// By commit, the commits by the date of their first run. Runs without a commit are left out.
    Commit,
}

/// Which runs and values are wanted.
#[derive(Clone, Debug, Default)]
pub struct HistoryOptions {
    /// By what runs are put in order.
    pub order: HistoryOrder,
    /// Packages by name; all if empty.
    pub packages: Vec<String>,
    /// Benchmarks by name; all if empty.
    pub benchmarks: Vec<String>,
    /// Metrics by name, in the place of each benchmark's primary one.
    pub metrics: Vec<String>,
}

/// What the values of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryUnit {
    /// A metric of the benchmark, already multiplied by its scale.
    Metric,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
}

/// A run in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRun {
    /// Its directory.
    pub directory: String,
    /// Package name.
    pub package: String,
    /// Identity hash of the package.
    pub identity: String,
    /// Benchmark name.
    pub benchmark: String,
    /// When it was started.
    pub started: String,
    /// Its tag.
    pub tag: Option<String>,
    /// Commit of what was run.
    pub commit: Option<String>,
    /// Records.
    pub records: usize,
    /// Samples without an answer.
    pub failed: usize,
}

/// One run's value in a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// Place in [`History::runs`].
    pub run: usize,
    /// The value; with an interval where it has one.
    pub estimate: Estimate,
}

/// A place where the level of a series changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryChange {
    /// Place in [`HistorySeries::points`] of the first value of the new level.
    pub point: usize,
    /// Place in [`History::runs`] of the run that it belongs to.
    pub run: usize,
    /// Mean of the points since the change before, or the start.
    pub mean_before: f64,
    /// Mean of the points up to the next change, or the end.
    pub mean_after: f64,
    /// Two-sided p-value of Student's t-test between the two.
    pub p_value: f64,
    /// Whether it stands at the level of significance of change points; if not, it is a possible one.
    pub strong: bool,
    /// Whether the new level is better; `None` where the measure has no direction.
    pub better: Option<bool>,
    /// Whether the change is no larger than half of the interval of the point where it begins, so that one run against one
    /// other would not show it without pairing their samples.
    pub within_interval: bool,
}

/// One measure of one package on one benchmark over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistorySeries {
    /// Package name.
    pub package: String,
    /// Benchmark name.
    pub benchmark: String,
    /// Benchmark title for people.
    pub title: String,
    /// Name of the measure: a metric, or `per_question_ms`, `ttft_p50_ms`, `peak_memory_bytes`, `weight_bytes`.
    pub measure: String,
    /// What the values are.
    pub unit: HistoryUnit,
    /// Scale of a metric: 100 for per cent.
    pub scale: f64,
    /// Whether values of a metric are points and no per cent, whatever the scale.
    pub points_of_score: bool,
    /// Direction.
    pub higher_is_better: Option<bool>,
    /// Which of the series of this package, benchmark and measure it is, from 1. Runs that cannot be compared start another.
    pub part: usize,
    /// What differs from the part before.
    pub begins: Option<String>,
    /// Values in order.
    pub points: Vec<HistoryPoint>,
    /// Change points in order, possible ones among them.
    pub changes: Vec<HistoryChange>,
}

impl HistorySeries {
    /// The change points proper.
    pub fn strong_changes(&self) -> impl Iterator<Item = &HistoryChange> {
        self.changes.iter().filter(|change| change.strong)
    }
}

/// Runs over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Format version, now 1.
    pub format: u32,
    /// By what runs are in order.
    pub order: HistoryOrder,
    /// Runs in order.
    pub runs: Vec<HistoryRun>,
    /// Series, by package and benchmark in the order of their first run, scores before times, memory and size.
    pub series: Vec<HistorySeries>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// Puts runs in order and makes the series. Each run comes with the name of its directory.
///
/// Incomplete runs, copies of a run, and runs without a tag or commit where that is the order are left out and noted.
pub fn history(runs: Vec<(String, RunSummary)>, options: &HistoryOptions) -> History {
    let mut notes = Vec::new();
    let wanted = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    let mut kept: Vec<(String, RunSummary)> = runs
        .into_iter()
        .filter(|(_, run)| {
            wanted(&options.packages, &run.header.model.name) && wanted(&options.benchmarks, &run.header.benchmark.name)
        })
        .collect();
    left_out(&mut kept, &mut notes, "incomplete", |run| !run.complete);
    let label = |run: &RunSummary| match options.order {
        HistoryOrder::Date => Some(String::new()),
        HistoryOrder::Tag => run.header.tag.clone(),
        HistoryOrder::Commit => run.header.commit.clone(),
    };
    match options.order {
        HistoryOrder::Date => {}
        HistoryOrder::Tag => left_out(&mut kept, &mut notes, "without a tag", |run| run.header.tag.is_none()),
        HistoryOrder::Commit => left_out(&mut kept, &mut notes, "without a commit", |run| run.header.commit.is_none()),
    }
    kept.sort_by(|(left_directory, left), (right_directory, right)| {
        let moment = |run: &RunSummary| (seconds(&run.header.started).unwrap_or(i64::MAX), run.header.started.clone());
        moment(left).cmp(&moment(right)).then_with(|| left_directory.cmp(right_directory))
    });
    let undated = kept.iter().filter(|(_, run)| seconds(&run.header.started).is_none()).count();
    if undated > 0 {
        notes.push(format!("{} no date that can be read and last", counted(undated, "run stands with", "runs stand with")));
    }
    let before = kept.len();
    let mut seen = HashSet::new();
    // A run's start, its package and its answers' number: what a copy of its folder shares with it.
    kept.retain(|(_, run)| seen.insert(serde_json::to_string(&(&run.header, run.records)).unwrap_or_default()));
    if before > kept.len() {
        notes.push(format!("{} left out", counted(before - kept.len(), "copy of a run is", "copies of runs are")));
    }
    if options.order != HistoryOrder::Date {
        let mut first: HashMap<Option<String>, usize> = HashMap::new();
        for (place, (_, run)) in kept.iter().enumerate() {
            first.entry(label(run)).or_insert(place);
        }
        // Stable: runs of one tag stay by date.
        kept.sort_by_key(|(_, run)| first.get(&label(run)).copied());
    }
    let series = all_series(&kept, options);
    History { format: 1, order: options.order, runs: kept.into_iter().map(placed).collect(), series, notes }
}

/// Takes out runs that have no place, and says so.
fn left_out(runs: &mut Vec<(String, RunSummary)>, notes: &mut Vec<String>, what: &str, is: fn(&RunSummary) -> bool) {
    let before = runs.len();
    runs.retain(|(_, run)| !is(run));
    let count = before - runs.len();
    if count > 0 {
        notes.push(format!("{} left out: {what}", counted(count, "run is", "runs are")));
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn placed((directory, run): (String, RunSummary)) -> HistoryRun {
    let header = run.header;
    HistoryRun {
        directory,
        package: header.model.name,
        identity: header.model.identity,
        benchmark: header.benchmark.name,
        started: header.started,
        tag: header.tag,
        commit: header.commit,
        records: run.records,
        failed: run.failed,
    }
}

/// A series in the making.
struct Growing {
    measure: Measure,
    facts: Vec<Fact>,
    series: HistorySeries,
}

fn all_series(runs: &[(String, RunSummary)], options: &HistoryOptions) -> Vec<HistorySeries> {
    // Packages and benchmarks in the order of their first run.
    let mut groups: Vec<(&str, &str, Vec<usize>)> = Vec::new();
    for (place, (_, run)) in runs.iter().enumerate() {
        let (package, benchmark) = (run.header.model.name.as_str(), run.header.benchmark.name.as_str());
        match groups.iter_mut().find(|(known, on, _)| (*known, *on) == (package, benchmark)) {
            Some((.., places)) => places.push(place),
            None => groups.push((package, benchmark, vec![place])),
        }
    }
    let mut finished = Vec::new();
    for (_, _, places) in &groups {
        let mut growing: Vec<Growing> = Vec::new();
        for &place in places {
            let Some((_, run)) = runs.get(place) else { continue };
            for (measure, estimate) in measures(run, &options.metrics) {
                let facts = facts(run, &measure);
                let known = growing.iter_mut().find(|one| one.measure == measure && one.facts == facts);
                let point = HistoryPoint { run: place, estimate };
                match known {
                    Some(one) => one.series.points.push(point),
                    None => growing.push(begin(run, measure, facts, point, &growing)),
                }
            }
        }
        // By measure in the order of the first run, then by part.
        let mut order: BTreeMap<usize, Vec<HistorySeries>> = BTreeMap::new();
        let mut names: Vec<String> = Vec::new();
        for one in growing {
            let name = one.measure.name.clone();
            let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            order.entry(place).or_default().push(with_changes(one.series));
        }
        finished.extend(order.into_values().flatten());
    }
    finished
}

/// A new series for a run whose value fits into none of those that are there.
fn begin(run: &RunSummary, measure: Measure, facts: Vec<Fact>, point: HistoryPoint, known: &[Growing]) -> Growing {
    let before: Vec<&Growing> = known.iter().filter(|one| one.measure.name == measure.name).collect();
    let begins = before.last().map(|last| differing(&last.facts, &facts));
    let benchmark = &run.header.benchmark;
    let title = if benchmark.title.trim().is_empty() { &benchmark.name } else { &benchmark.title };
    let series = HistorySeries {
        package: run.header.model.name.clone(),
        benchmark: benchmark.name.clone(),
        title: title.clone(),
        measure: measure.name.clone(),
        unit: measure.unit,
        scale: measure.scale,
        points_of_score: measure.points,
        higher_is_better: measure.higher_is_better,
        part: before.len() + 1,
        begins,
        points: vec![point],
        changes: Vec::new(),
    };
    Growing { measure, facts, series }
}

/// Finds the places where the level of a series changed.
fn with_changes(mut series: HistorySeries) -> HistorySeries {
    let values: Vec<f64> = series.points.iter().map(|point| point.estimate.value).collect();
    let found = change_points(&values, CHANGE_POINT_WINDOW, CHANGE_POINT_P_VALUE, smallest_change(&series));
    let is_strong = |place: usize| found.strong.iter().any(|point| point.index == place);
    let is_large =
        |point: &&ChangePoint| (point.mean_after - point.mean_before).abs() > smallest_change(&series) * point.mean_before.abs();
    let possible = found.weak.iter().filter(|point| !is_strong(point.index)).filter(is_large).map(|point| (point, false));
    let mut changes: Vec<HistoryChange> = found
        .strong
        .iter()
        .map(|point| (point, true))
        .chain(possible)
        .filter_map(|(point, strong)| change(&series, point, strong))
        .collect();
    changes.sort_by_key(|change| change.point);
    series.changes = changes;
    series
}

/// The smallest change that is marked, as a share of the level: any of a score; of times what is beyond their usual noise, and
/// of memory and size what anybody would notice.
fn smallest_change(series: &HistorySeries) -> f64 {
    match series.unit {
        HistoryUnit::Metric => 0.0,
        HistoryUnit::Milliseconds => 0.03,
        HistoryUnit::Bytes => 0.01,
    }
}

fn change(series: &HistorySeries, found: &ChangePoint, strong: bool) -> Option<HistoryChange> {
    let point = series.points.get(found.index)?;
    let size = (found.mean_after - found.mean_before).abs();
    let half = point.estimate.interval.map(|[low, high]| (high - low) / 2.0);
    Some(HistoryChange {
        point: found.index,
        run: point.run,
        mean_before: found.mean_before,
        mean_after: found.mean_after,
        p_value: found.p_value,
        strong,
        better: series.higher_is_better.map(|higher| (found.mean_after > found.mean_before) == higher),
        within_interval: half.is_some_and(|half| size <= half),
    })
}

/// The word for a change: better, worse, or neither where the measure has no direction.
pub fn change_direction(change: &HistoryChange) -> &'static str {
    match change.better {
        Some(true) => "better",
        Some(false) => "worse",
        None if change.mean_after > change.mean_before => "higher",
        None => "lower",
    }
}

/// Seconds since 1970 of an RFC 3339 time, fractions left out; `None` for anything else. The calendar is Hinnant's
/// `days_from_civil`.
fn seconds(text: &str) -> Option<i64> {
    let part = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let mark = |at: usize, expected: &[u8]| text.as_bytes().get(at).is_some_and(|byte| expected.contains(byte));
    if ![(4, &b"-"[..]), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")].into_iter().all(|(at, expected)| mark(at, expected)) {
        return None;
    }
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?.trim_start_matches(|character: char| character == '.' || character.is_ascii_digit());
    let offset = match rest.as_bytes().first() {
        Some(b'Z' | b'z') if rest.len() == 1 => 0,
        Some(sign @ (b'+' | b'-')) if rest.len() == 6 => {
            let number = |from: usize, to: usize| rest.get(from..to)?.parse::<i64>().ok();
            let minutes = number(1, 3)? * 60 + number(4, 6)?;
            if *sign == b'+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second - offset)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn moments_are_compared_whatever_their_offset() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(seconds("2023-11-14T23:13:20.25+01:00"), Some(1_700_000_000));
        assert_eq!(seconds("2100-02-28T23:59:59Z"), Some(4_107_542_399));
        for wrong in [
            "",
            "yesterday",
            "2023-11-14",
            "2023-13-01T00:00:00Z",
            "2023-11-14T23:13:20",
            "２０２３-11-14T00:00:00Z",
            "2023-11-14T23:13:20+é1",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
