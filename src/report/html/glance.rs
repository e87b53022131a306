//! The key table: every benchmark, every package, the difference and its verdict.

use maud::{Markup, html};

use crate::compare::{PairedMetric, Verdict};
use crate::guard::escape;

use super::super::format::{self, MISSING, Unit};
use super::super::view::{BenchmarkView, Contest, View};
use super::{is_long, said, scroll, tag};

/// The table for what there is: one pair, several packages, or runs that nothing is compared with.
pub(super) fn table(view: &View<'_>, contests: &[Contest<'_>]) -> Markup {
    match contests {
        [only] if view.packages.len() == 2 => of_pair(view, only),
        _ => of_packages(view, contests),
    }
}

fn of_pair(view: &View<'_>, contest: &Contest<'_>) -> Markup {
    let shared = shared_reach(contest.standings.iter().map(|standing| (standing.unit, standing.metric)), view.comparison.margin);
    let (base, new) = (escape::visible(view.package(contest.base)), escape::visible(view.package(contest.new)));
    let table = html! {
        table.stack {
            caption { "Primary metric of each benchmark; differences with 95\u{a0}% interval, paired by sample" }
            thead { tr {
                th scope="col" { "Benchmark" }
                th scope="col" { "Verdict" }
                th.n scope="col" { "Difference" }
                th.forest-head scope="col" { span aria-hidden="true" { "worse ← 0 → better" } span.aloud { "As a line" } }
                th.n.package scope="col" { (said(view.package(contest.base))) }
                th.n.package scope="col" { (said(view.package(contest.new))) }
                th.n scope="col" { "Fixed, broken" }
            } }
            tbody {
                @for standing in &contest.standings {
                    @let metric = standing.metric;
                    @let unit = standing.unit;
                    tr {
                        th scope="row" { (benchmark_name(standing.title, &metric.name, unit)) }
                        td { (tag(metric.verdict)) }
                        td.n data-label="Difference" { (difference(unit, metric)) }
                        td.forest-cell { (forest(unit, metric, view.comparison.margin, shared)) }
                        td.n data-label=(base) { (unit.value(&metric.base)) }
                        td.n data-label=(new) { (unit.value(&metric.new)) }
                        td.n data-label="Fixed, broken" { (format::count(standing.pair.fixed)) ", " (format::count(standing.pair.broken)) }
                    }
                }
            }
        }
    };
    let alone: Vec<&BenchmarkView<'_>> = view
        .benchmarks
        .iter()
        .filter(|benchmark| !contest.standings.iter().any(|standing| standing.name == benchmark.name))
        .collect();
    html! {
        (scroll("Key results", &table))
        @if !alone.is_empty() {
            p.note {
                "Not compared: "
                @for (place, benchmark) in alone.iter().enumerate() { @if place > 0 { ", " } (said(benchmark.title)) }
                "; see " a href="#accuracy" { "accuracy" } "."
            }
        }
    }
}

/// A benchmark and its metric.
pub(super) fn benchmark_name(title: &str, metric: &str, unit: Unit) -> Markup {
    html! { (said(title)) " " span.metric { (said(metric)) @if unit.is_percent() { ", %" } } }
}

/// A difference and its interval below it.
pub(super) fn difference(unit: Unit, metric: &PairedMetric) -> Markup {
    html! {
        span.figure { (unit.difference(&metric.difference)) }
        span.metric { (unit.difference_interval(&metric.difference)) }
    }
}

fn of_packages(view: &View<'_>, contests: &[Contest<'_>]) -> Markup {
    let compared = |benchmark: &&BenchmarkView<'_>| !benchmark.pairs.is_empty();
    let (first, alone): (Vec<_>, Vec<_>) = view.benchmarks.iter().partition(compared);
    let order = base_first(view, contests);
    let table = html! {
        table.glance {
            caption {
                span {
                    "Primary metric of each benchmark"
                    @if !contests.is_empty() { "; below it the paired difference from the base ± half of its 95\u{a0}% interval" }
                    @else { " ± half of its 95\u{a0}% interval" }
                }
            }
            thead { tr {
                th scope="col" { "Benchmark" }
                @for package in &order {
                    th.n.package scope="col" {
                        (said(view.package(*package)))
                        @if contests.iter().any(|contest| contest.base == *package) { span.metric { "base" } }
                    }
                }
            } }
            tbody {
                @for benchmark in first.into_iter().chain(alone) {
                    @let metric = benchmark.primary_name();
                    @let unit = benchmark.unit(metric);
                    tr {
                        th.long[is_long(benchmark.title)] scope="row" { (benchmark_name(benchmark.title, metric, unit)) }
                        @for package in &order { (package_cell(benchmark, metric, unit, *package)) }
                    }
                }
            }
        }
    };
    scroll("Key results by benchmark and package", &table)
}

/// The packages: bases first, then what is compared with them, then the others.
fn base_first(view: &View<'_>, contests: &[Contest<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..view.packages.len()).collect();
    order.sort_by_key(|package| {
        let base = contests.iter().any(|contest| contest.base == *package);
        let new = contests.iter().any(|contest| contest.new == *package);
        (!base, !new)
    });
    order
}

fn package_cell(benchmark: &BenchmarkView<'_>, metric: &str, unit: Unit, package: usize) -> Markup {
    let Some(summary) = benchmark.run_of(package).and_then(|run| run.metric(metric)) else {
        return html! { td.n.quiet { (MISSING) } };
    };
    let Some(pair) = benchmark.pairs.iter().find(|pair| pair.new == package) else {
        let alone = benchmark.pairs.is_empty();
        return html! { td.n { @if alone { (unit.value_and_half(&summary.estimate)) } @else { (unit.value(&summary.estimate)) } } };
    };
    let Some(paired) = pair.pair.metrics.iter().find(|paired| paired.name == metric) else {
        return html! { td.n { (unit.value(&summary.estimate)) } };
    };
    html! {
        td class={"n tint " (format::verdict_class(paired.verdict))} {
            (unit.value(&summary.estimate))
            span.delta {
                (format::verdict_symbol(paired.verdict)) span.aloud { " " (format::verdict_word(paired.verdict)) }
                " " (unit.difference_and_half(&paired.difference))
            }
        }
    }
}

/// The reach of an axis that all differences in per cent share, so that lines can be compared by eye.
pub(super) fn shared_reach<'a>(metrics: impl Iterator<Item = (Unit, &'a PairedMetric)>, margin: f64) -> f64 {
    metrics.filter(|(unit, _)| unit.is_percent()).map(|(_, metric)| reach(metric)).fold(0.0, f64::max).max(margin * 1.5)
}

/// How far a difference's interval reaches from zero.
fn reach(metric: &PairedMetric) -> f64 {
    let [low, high] = metric.difference.interval.unwrap_or([metric.difference.value; 2]);
    let reach = low.abs().max(high.abs());
    if reach.is_finite() { reach } else { 0.0 }
}

/// A difference with its interval on a line around zero, better to the right; `shared` is the reach of the axis for per cent.
pub(super) fn forest(unit: Unit, metric: &PairedMetric, margin: f64, shared: f64) -> Markup {
    const MIDDLE: f64 = 64.0;
    const HALF: f64 = 60.0;
    let reach = if unit.is_percent() { shared } else { reach(metric) };
    let difference = &metric.difference;
    if !difference.value.is_finite() || reach <= 0.0 || metric.verdict == Verdict::Descriptive {
        return html! {};
    }
    let sign = if metric.higher_is_better == Some(false) { -1.0 } else { 1.0 };
    let at = |value: f64| format!("{:.1}", MIDDLE + (sign * value / (reach * 1.05)).clamp(-1.0, 1.0) * HALF);
    // The margin is in hundredths of the metric's full scale.
    let band = (margin * unit.scale / 100.0 / (reach * 1.05)).clamp(0.0, 1.0) * HALF;
    html! {
        svg.forest.(format::verdict_class(metric.verdict)) width="128" height="18" viewBox="0 0 128 18" aria-hidden="true" {
            rect.margin x=(format!("{:.1}", MIDDLE - band)) y="0" width=(format!("{band:.1}")) height="18" {}
            line.zero x1=(MIDDLE) y1="0" x2=(MIDDLE) y2="18" {}
            @if let Some([low, high]) = difference.interval {
                line.bar x1=(at(low)) y1="9" x2=(at(high)) y2="9" {}
            }
            circle.dot cx=(at(difference.value)) cy="9" r="3.5" {}
        }
    }
}
