//! One series as an SVG: points in order with their intervals, the level between change points, and the changes marked.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use crate::compare::{History, HistorySeries, HistoryUnit};
use crate::guard::escape;

use super::{change_text, measure, number, point_value, run_label, suffix};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// Most points that get a circle and a whisker of their own; more would be a smear.
const MOST_MARKS: usize = 120;

/// The plot, with its content as a text alternative; `None` for a series of one point, of which there is no trend to see.
pub(super) fn trend(history: &History, series: &HistorySeries) -> Option<Markup> {
    let count = series.points.len();
    if count < 2 {
        return None;
    }
    let few = count <= MOST_MARKS;
    let shown = |index: usize| series.points.get(index).and_then(|point| point.estimate.interval).filter(|_| few);
    let bounds = series.points.iter().enumerate().flat_map(|(index, point)| {
        let value = point.estimate.value;
        let [low, high] = shown(index).unwrap_or([value, value]);
        [value, low, high]
    });
    let (mut low, mut high) =
        bounds.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if !(low.is_finite() && high.is_finite()) {
        return None;
    }
    // Times and sizes that differ by less than anybody would mind are not stretched over the whole plot.
    let middle = (low + high) / 2.0;
    if series.unit != HistoryUnit::Metric && high - low < 0.04 * middle.abs() {
        (low, high) = (middle * 0.98, middle * 1.02);
    }
    let margin = if high > low { 0.08 * (high - low) } else { (0.02 * high.abs()).max(1e-6) };
    (low, high) = (low - margin, high + margin);
    let x = |index: usize| LEFT + (WIDTH - LEFT - RIGHT) * (index as f64 + 0.5) / count as f64;
    let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (value - low) / (high - low));

    let mut line = String::new();
    for (index, point) in series.points.iter().enumerate() {
        let mark = if index == 0 { 'M' } else { 'L' };
        // Writing to a String cannot fail.
        let _ = write!(line, "{mark}{:.1} {:.1}", x(index), y(point.estimate.value));
    }
    let changes: Vec<_> = series.strong_changes().collect();
    let label = description(history, series);
    let (first, last) = (axis_label(history, series, 0), axis_label(history, series, count - 1));
    Some(html! {
        svg.trend viewBox={"0 0 " (WIDTH) " " (HEIGHT)} role="img" aria-label=(label) {
            @for tick in ticks(low, high) {
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(y(tick))) y2=(at(y(tick))) {}
                text.tick x=(LEFT - 6.0) y=(at(y(tick) + 4.0)) text-anchor="end" { (number(series, tick)) }
            }
            text.tick x=(LEFT) y=(HEIGHT - 8.0) text-anchor="start" { (first) }
            text.tick x=(WIDTH - RIGHT) y=(HEIGHT - 8.0) text-anchor="end" { (last) }
            @for index in 0..count {
                @if let Some([from, to]) = shown(index) {
                    line.whisker x1=(at(x(index))) x2=(at(x(index))) y1=(at(y(from))) y2=(at(y(to))) {}
                }
            }
            path.line d=(PreEscaped(line)) {}
            @for change in &changes {
                @let from = (x(change.point) + x(change.point.saturating_sub(1))) / 2.0;
                line class={"change " (class(change.better))} x1=(at(from)) x2=(at(from)) y1=(TOP) y2=(HEIGHT - BOTTOM) {}
                path class={"flag " (class(change.better))} d={"M" (at(from)) " " (TOP) "l5 0l-5 8l-5 -8z"} {}
            }
            @for (from, to, level) in levels(series) {
                line.level x1=(at(x(from) - 2.0)) x2=(at(x(to) + 2.0)) y1=(at(y(level))) y2=(at(y(level))) {}
            }
            @if few {
                @for (index, point) in series.points.iter().enumerate() {
                    @let run = history.runs.get(point.run);
                    circle.point cx=(at(x(index))) cy=(at(y(point.estimate.value))) r="3" {
                        title {
                            @if let Some(run) = run { (escape::visible(&run_label(run))) ", " (escape::visible(&run.started)) ": " }
                            (point_value(series, index)) (suffix(series))
                        }
                    }
                }
            }
        }
    })
}

/// A coordinate with one decimal.
fn at(value: f64) -> String {
    format!("{value:.1}")
}

/// The class of a change's colour; the words beside the plot say the same.
fn class(better: Option<bool>) -> &'static str {
    match better {
        Some(true) => "good",
        Some(false) => "bad",
        None => "open",
    }
}

/// The stretches between change points with their means, where there is any change.
fn levels(series: &HistorySeries) -> Vec<(usize, usize, f64)> {
    let changes: Vec<_> = series.strong_changes().collect();
    let mut levels = Vec::with_capacity(changes.len() + 1);
    let mut from = 0;
    for change in &changes {
        levels.push((from, change.point.saturating_sub(1), change.mean_before));
        from = change.point;
    }
    if let Some(last) = changes.last() {
        levels.push((from, series.points.len().saturating_sub(1), last.mean_after));
    }
    levels
}

/// Three to five round numbers within a range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    if !(rough > 0.0 && rough.is_finite()) {
        return Vec::new();
    }
    let decade = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * decade).find(|step| *step >= rough).unwrap_or(10.0 * decade);
    let first = (low / step).ceil();
    (0..8).map(|index| (first + f64::from(index)) * step).take_while(|tick| *tick <= high).collect()
}

fn axis_label(history: &History, series: &HistorySeries, index: usize) -> String {
    let run = series.points.get(index).and_then(|point| history.runs.get(point.run));
    let label = run.map_or_else(String::new, |run| match (&run.tag, &run.commit) {
        // The time of day takes more room than an axis has.
        (None, None) => run.started.chars().take(10).collect(),
        _ => run_label(run),
    });
    escape::visible(&escape::shorten_middle(&label, 20))
}

/// What the plot shows, in words.
fn description(history: &History, series: &HistorySeries) -> String {
    let count = series.points.len();
    let first = point_value(series, 0);
    let last = point_value(series, count.saturating_sub(1));
    let mut text = format!("{} over {count} runs, from {first} to {last}{}", measure(series), suffix(series));
    let changes: Vec<String> = series.strong_changes().map(|change| change_text(history, series, change)).collect();
    if changes.is_empty() {
        text.push_str("; no change point");
    } else {
        text.push_str("; change points: ");
        text.push_str(&changes.join("; "));
    }
    escape::visible(&text)
}
