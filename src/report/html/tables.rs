//! The tables of the page.

use maud::{Markup, html};

use crate::compare::{Estimate, PairedMetric, Quantiles, Verdict};
use crate::store::RunHeader;

use super::super::charts;
use super::super::format::{self, MISSING};
use super::super::view::{BenchmarkView, PairView, View};
use super::{is_long, said, scroll, tag};

/// Benchmarks × packages, the primary metric first and the others below it, then by category.
pub(super) fn accuracy(view: &View<'_>) -> Markup {
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Benchmark, metric" }
                @for package in &view.packages { th.n scope="col" { (said(package)) } }
            } }
            tbody {
                @for benchmark in &view.benchmarks {
                    @for (order, name) in benchmark.metric_names().into_iter().enumerate() {
                        @let unit = benchmark.unit(name);
                        tr.more[order > 0] {
                            th.name.long[is_long(benchmark.title) || is_long(name)] scope="row" {
                                @if order == 0 { (said(benchmark.title)) " " }
                                span.metric { (said(name)) (direction(benchmark, name)) @if unit.is_percent() { ", %" } }
                            }
                            @for package in 0..view.packages.len() {
                                @let metric = benchmark.run_of(package).and_then(|run| run.metric(name));
                                td.n { (metric.map_or_else(|| MISSING.to_owned(), |metric| unit.value_and_half(&metric.estimate))) }
                            }
                        }
                    }
                }
            }
        }
    };
    html! {
        p.note { "Value ± half of the 95\u{a0}% interval." }
        (scroll("Accuracy by benchmark and package", &table))
        @for benchmark in &view.benchmarks {
            @let categories = categories(benchmark);
            @if !categories.is_empty() {
                details {
                    summary { (said(benchmark.title)) " by category (" (categories.len()) ")" }
                    (scroll("Accuracy by category", &by_category(view, benchmark, &categories)))
                }
            }
        }
    }
}

fn direction(benchmark: &BenchmarkView<'_>, metric: &str) -> &'static str {
    let known = benchmark.runs.iter().find_map(|run| run.metric(metric));
    match known.and_then(|metric| metric.higher_is_better) {
        Some(false) => " (lower is better)",
        Some(true) => "",
        None => " (description)",
    }
}

fn categories<'a>(benchmark: &BenchmarkView<'a>) -> Vec<&'a str> {
    let mut names: Vec<&'a str> = Vec::new();
    for category in benchmark.runs.iter().flat_map(|run| &run.run.categories) {
        if !names.contains(&category.category.as_str()) {
            names.push(&category.category);
        }
    }
    names
}

fn by_category(view: &View<'_>, benchmark: &BenchmarkView<'_>, categories: &[&str]) -> Markup {
    let unit = benchmark.unit(benchmark.primary_name());
    html! {
        table {
            thead { tr {
                th scope="col" { "Category" }
                th.n scope="col" { "n" }
                @for package in &view.packages { th.n scope="col" { (said(package)) } }
            } }
            tbody {
                @for name in categories {
                    @let estimates: Vec<Option<&Estimate>> = (0..view.packages.len()).map(|package| {
                        let categories = &benchmark.run_of(package)?.run.categories;
                        categories.iter().find(|category| category.category == *name).map(|category| &category.estimate)
                    }).collect();
                    tr {
                        td.name.long[is_long(name)] { (said(name)) }
                        td.n { (estimates.iter().flatten().next().map_or_else(|| MISSING.to_owned(), |first| format::count(first.n))) }
                        @for estimate in estimates {
                            td.n { (estimate.map_or_else(|| MISSING.to_owned(), |estimate| unit.value_and_half(estimate))) }
                        }
                    }
                }
            }
        }
    }
}

/// A table for every pair of packages: primary metrics first, the others in a fold.
pub(super) fn differences(view: &View<'_>) -> Markup {
    let contests = view.contests();
    html! {
        @for contest in &contests {
            @let title = format!("{} against {}", view.package(contest.new), view.package(contest.base));
            @let pairs = || view.benchmarks.iter().flat_map(move |benchmark| {
                let pairs = benchmark.pairs.iter().filter(move |pair| (pair.base, pair.new) == (contest.base, contest.new));
                pairs.map(move |pair| (benchmark, pair))
            });
            h3 { (said(&title)) }
            (scroll(&format!("Paired differences, {title}"), &pair_table(view, pairs(), true)))
            @if pairs().any(|(_, pair)| pair.pair.metrics.len() > 1) {
                details {
                    summary { "The other metrics" }
                    (scroll(&format!("Paired differences of the other metrics, {title}"), &pair_table(view, pairs(), false)))
                }
            }
        }
        p.note {
            b { "MDE" } ": the smallest difference that this many samples detect with 80\u{a0}% power at the 5\u{a0}% level. "
            b { "Regressed" } " and " b { "improved" } ": the whole interval lies on one side of zero. "
            b { "No worse" } ": the interval reaches at most " (format::number(view.comparison.margin, 1))
            " beyond zero on the worse side (the shaded band). " b { "Inconclusive" } ": neither; that is not “equal”."
        }
    }
}

fn pair_table<'a>(
    view: &View<'a>,
    pairs: impl Iterator<Item = (&'a BenchmarkView<'a>, &'a PairView<'a>)>,
    primary: bool,
) -> Markup {
    let chosen: Vec<(&BenchmarkView<'_>, &PairView<'_>, &PairedMetric)> = pairs
        .flat_map(|(benchmark, pair)| {
            let main = pair.primary().map(|metric| metric.name.as_str());
            let metrics = pair.pair.metrics.iter().filter(move |metric| (Some(metric.name.as_str()) == main) == primary);
            metrics.map(move |metric| (benchmark, pair, metric))
        })
        .collect();
    // One scale for all rows in per cent, so that lines can be compared by eye.
    let shared = chosen
        .iter()
        .filter(|(benchmark, _, metric)| benchmark.unit(&metric.name).is_percent())
        .map(|(.., metric)| reach(metric))
        .fold(0.0, f64::max)
        .max(view.comparison.margin * 1.5);
    html! {
        table.tight {
            thead { tr {
                th scope="col" { "Benchmark, metric" }
                th scope="col" { "Verdict" }
                th.n scope="col" { "Difference" }
                th.n scope="col" { "95\u{a0}% interval" }
                th scope="col" { span aria-hidden="true" { "worse ← 0 → better" } }
                th.n scope="col" { "Base" }
                th.n scope="col" { "New" }
                th.n scope="col" { "p" }
                th.n scope="col" { abbr title="Minimum detectable effect" { "MDE" } }
                @if primary {
                    th.n scope="col" { "Fixed" }
                    th.n scope="col" { "Broken" }
                    th.n scope="col" { "Same" }
                }
            } }
            tbody {
                @for (benchmark, pair, metric) in &chosen {
                    @let unit = benchmark.unit(&metric.name);
                    @let reach = if unit.is_percent() { shared } else { reach(metric) };
                    tr {
                        th.name.long[is_long(benchmark.title) || is_long(&metric.name)] scope="row" {
                            (said(benchmark.title)) " " span.metric { (said(&metric.name)) @if unit.is_percent() { ", %" } }
                        }
                        td { (tag(metric.verdict)) }
                        td.n { (unit.difference(&metric.difference)) }
                        td.n { (unit.difference_interval(&metric.difference)) }
                        td class=(format::verdict_class(metric.verdict)) { (forest(metric, view.comparison.margin, reach)) }
                        td.n { (unit.value(&metric.base)) }
                        td.n { (unit.value(&metric.new)) }
                        td.n { (format::p_value(metric.p_value)) }
                        td.n { (metric.minimum_detectable_effect.map_or_else(|| MISSING.to_owned(), |effect| unit.size(effect))) }
                        @if primary {
                            td.n { (format::count(pair.pair.fixed)) }
                            td.n { (format::count(pair.pair.broken)) }
                            td.n { (format::count(pair.pair.same)) }
                        }
                    }
                }
            }
        }
    }
}

/// How far a difference's interval reaches from zero.
fn reach(metric: &PairedMetric) -> f64 {
    let [low, high] = metric.difference.interval.unwrap_or([metric.difference.value; 2]);
    let reach = low.abs().max(high.abs());
    if reach.is_finite() { reach } else { 0.0 }
}

/// A difference with its interval on a line around zero, better to the right.
fn forest(metric: &PairedMetric, margin: f64, reach: f64) -> Markup {
    const MIDDLE: f64 = 64.0;
    const HALF: f64 = 60.0;
    let difference = &metric.difference;
    if !difference.value.is_finite() || reach <= 0.0 || metric.verdict == Verdict::Descriptive {
        return html! {};
    }
    let sign = if metric.higher_is_better == Some(false) { -1.0 } else { 1.0 };
    let at = |value: f64| format!("{:.1}", MIDDLE + (sign * value / (reach * 1.05)).clamp(-1.0, 1.0) * HALF);
    let band = (margin / (reach * 1.05)).clamp(0.0, 1.0) * HALF;
    html! {
        svg.forest width="128" height="18" viewBox="0 0 128 18" aria-hidden="true" {
            rect.margin x=(format!("{:.1}", MIDDLE - band)) y="0" width=(format!("{band:.1}")) height="18" {}
            line.zero x1=(MIDDLE) y1="0" x2=(MIDDLE) y2="18" {}
            @if let Some([low, high]) = difference.interval {
                line.bar x1=(at(low)) y1="9" x2=(at(high)) y2="9" {}
            }
            circle.dot cx=(at(difference.value)) cy="9" r="3.5" {}
        }
    }
}

/// Stages, TTFT and TPOT of every run.
pub(super) fn latency(view: &View<'_>) -> Markup {
    let paired = view.benchmarks.iter().any(|benchmark| !benchmark.pairs.is_empty());
    let table = html! {
        table.tight {
            thead {
                tr {
                    th rowspan="2" scope="col" { "Benchmark" }
                    th rowspan="2" scope="col" { "Package" }
                    th.span colspan="6" scope="colgroup" { "Mean per question" }
                    th.span colspan="2" scope="colgroup" { "TTFT" }
                    th.span colspan="2" scope="colgroup" { "TPOT" }
                    @if paired { th.n rowspan="2" scope="col" { "Against base" } }
                }
                tr {
                    @for (stage, _) in charts::STAGES { th.n scope="col" { (stage) } }
                    th.n scope="col" { "engine" }
                    @for _ in 0..2 {
                        th.n scope="col" { "median" }
                        th.n scope="col" { "P90" }
                    }
                }
            }
            tbody {
                @for benchmark in &view.benchmarks {
                    @for (order, run) in benchmark.runs.iter().enumerate() {
                        @let latency = &run.run.latency;
                        @let ratio = benchmark.pairs.iter().find(|pair| pair.new == run.package).and_then(|pair| pair.pair.latency.as_ref()).map(|latency| latency.ratio);
                        tr.inner[order + 1 < benchmark.runs.len()] {
                            (benchmark_cell(benchmark, order))
                            td.name.long[is_long(view.package(run.package))] { (said(view.package(run.package))) }
                            @for stage in stages(charts::stages_per_question(run.run)) { td.n { (stage) } }
                            td.n { (format::milliseconds(latency.per_question_ms)) }
                            @for quantiles in [latency.ttft.as_ref(), latency.tpot.as_ref()] {
                                td.n { (format::median_ms(quantiles)) }
                                td.n { (percentile(quantiles)) }
                            }
                            @if paired { td.n { @match ratio { Some(ratio) => (times(&ratio)), None => (MISSING) } } }
                        }
                    }
                }
            }
        }
    };
    html! {
        p.note { "Milliseconds. Engine: all stages but the image's decoding and resizing. TTFT: time to first token, from reading the image; \
            TPOT: time per output token after the first. “–” stands where a percentile needs more samples than there are, or where \
            runs cannot be compared in time." }
        (scroll("Latency by benchmark and package", &table))
    }
}

/// The row header of a benchmark; said aloud on every row, shown on its first.
fn benchmark_cell(benchmark: &BenchmarkView<'_>, order: usize) -> Markup {
    html! {
        th.name.long[is_long(benchmark.title)] scope="row" {
            @if order == 0 { (said(benchmark.title)) } @else { span.aloud { (said(benchmark.title)) } }
        }
    }
}

fn stages(stages: Option<[f64; 5]>) -> [String; 5] {
    stages.map_or_else(|| [MISSING; 5].map(str::to_owned), |stages| stages.map(format::significant))
}

fn percentile(quantiles: Option<&Quantiles>) -> String {
    format::milliseconds(quantiles.and_then(|quantiles| quantiles.p90_ms))
}

/// `0.62 ×` and its interval below.
fn times(ratio: &Estimate) -> Markup {
    html! {
        (format::significant(ratio.value)) " ×"
        @if let Some([low, high]) = ratio.interval {
            span.metric { (format::significant(low)) " to " (format::significant(high)) }
        }
    }
}

/// Everything that a number needs to be believed.
pub(super) fn basis(view: &View<'_>) -> Markup {
    html! {
        section #basis {
            h2 { "What the numbers rest on" }
            p.note { "Standard errors are clustered by image and intervals use t with clusters − 1 degrees of freedom. The design effect is \
                the squared ratio of the clustered to the naive standard error: how much the questions of one image repeat each other." }
            h3 { "Runs" }
            (scroll("Samples of every run", &runs(view)))
            h3 { "Packages and settings" }
            p.note { "Precision is that of vision encoder, projector and language model." }
            (scroll("Packages and settings", &settings(view)))
            @let judges = view.judges();
            @if !judges.is_empty() {
                h3 { "Judges" }
                ul.plain { @for judge in &judges { li { (said(judge)) } } }
            }
            h3 { "Machine and libraries" }
            ul.plain { @for environment in view.environments() { li { (said(&environment)) } } }
        }
    }
}

fn runs(view: &View<'_>) -> Markup {
    html! {
        table.tight {
            thead { tr {
                th scope="col" { "Benchmark" }
                th scope="col" { "Package" }
                th.n scope="col" { "Samples" }
                th.n scope="col" { "Clusters" }
                th.n scope="col" { "Design effect" }
                th.n scope="col" { "Failed" }
                th.n scope="col" { "Unparsed" }
                th scope="col" { "Scorer" }
                th scope="col" { "Sample set" }
                th scope="col" { "Started" }
            } }
            tbody {
                @for benchmark in &view.benchmarks {
                    @for (order, run) in benchmark.runs.iter().enumerate() {
                        @let header = &run.run.header;
                        @let estimate = run.primary().map(|metric| &metric.estimate);
                        tr.inner[order + 1 < benchmark.runs.len()] {
                            (benchmark_cell(benchmark, order))
                            td.name.long[is_long(view.package(run.package))] { (said(view.package(run.package))) }
                            td.n {
                                (format::count(run.run.records))
                                @if run.run.records != header.benchmark.samples_available {
                                    " of " (format::count(header.benchmark.samples_available))
                                }
                                @if !run.run.complete { span.metric.bad { "✗ not complete" } }
                            }
                            td.n { (estimate.map_or_else(|| MISSING.to_owned(), |estimate| format::count(estimate.clusters))) }
                            td.n {
                                (estimate.and_then(|estimate| estimate.design_effect)
                                    .map_or_else(|| MISSING.to_owned(), |effect| format::number(effect, 2)))
                            }
                            td.n { (format::count(run.run.failed)) }
                            td.n { (format::count(run.run.unparsed)) }
                            td.name.long[is_long(&header.benchmark.scorer)] { (said(&header.benchmark.scorer)) }
                            td { code { (said(&format::short_hash(&header.benchmark.samples_sha256))) } }
                            td.name { (said(&minute(&header.started))) }
                        }
                    }
                }
            }
        }
    }
}

/// `2026-11-23 09:14` of an RFC 3339 time; anything else as it is.
fn minute(started: &str) -> String {
    match started.split_once('T') {
        Some((day, time)) if day.len() == 10 && time.len() >= 5 && time.is_char_boundary(5) => format!("{day} {}", &time[..5]),
        _ => started.to_owned(),
    }
}

/// Facts of a package and its settings that are shown in one row.
fn facts(header: &RunHeader) -> [String; 8] {
    let (model, settings) = (&header.model, &header.settings);
    [
        format::short_hash(&model.identity),
        model.precision.clone(),
        model.template.clone(),
        model.image_recipe.clone(),
        settings.provider.clone(),
        settings.intra_op_threads.to_string(),
        settings.scheduling_text(),
        settings.max_new_tokens.to_string(),
    ]
}

fn settings(view: &View<'_>) -> Markup {
    // Runs of a package that agree in everything share a row.
    let mut rows: Vec<(usize, [String; 8], Vec<&str>)> = Vec::new();
    for benchmark in &view.benchmarks {
        for run in &benchmark.runs {
            let facts = facts(&run.run.header);
            match rows.iter_mut().find(|(package, known, _)| *package == run.package && *known == facts) {
                Some((.., benchmarks)) => benchmarks.push(benchmark.name),
                None => rows.push((run.package, facts, vec![benchmark.name])),
            }
        }
    }
    rows.sort_by_key(|(package, ..)| *package);
    let apart = rows.len() > view.packages.len();
    html! {
        table.tight {
            thead { tr {
                th scope="col" { "Package" }
                @for name in ["Identity", "Precision", "Prompt template", "Image recipe", "Provider"] { th scope="col" { (name) } }
                th.n scope="col" { "Threads" }
                th scope="col" { "Scheduling" }
                th.n scope="col" { "Most new tokens" }
                @if apart { th scope="col" { "Benchmarks" } }
            } }
            tbody {
                @for (package, facts, benchmarks) in &rows {
                    @let [identity, precision, template, recipe, provider, threads, scheduling, tokens] = facts;
                    tr {
                        th.name.long[is_long(view.package(*package))] scope="row" { (said(view.package(*package))) }
                        td { code { (said(identity)) } }
                        @for fact in [precision, template, recipe, provider] { td.name.long[is_long(fact)] { (said(fact)) } }
                        td.n { (threads) }
                        td.name.long[is_long(scheduling)] { (said(scheduling)) }
                        td.n { (tokens) }
                        @if apart { td.wide { (said(&benchmarks.join(", "))) } }
                    }
                }
            }
        }
    }
}
