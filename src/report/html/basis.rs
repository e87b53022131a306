//! What was run and how: everything that a number needs to be believed.

use maud::{Markup, html};

use crate::store::{Execution, RunHeader};

use super::super::format::{self, MISSING};
use super::super::view::View;
use super::latency::benchmark_cell;
use super::{is_long, said, scroll};

/// The section.
pub(super) fn section(view: &View<'_>) -> Markup {
    html! {
        section #basis aria-labelledby="basis-heading" {
            h2 #basis-heading { "How it was measured" }
            h3 { "Packages and settings" }
            p.note { "Precision is that of vision encoder, projector and language model." }
            (packages(view))
            details.block {
                summary { "Benchmarks and runs " span.quiet { (format::counted(view.comparison.runs.len(), "run", "runs")) } }
                (scroll("Samples of every run", &runs(view)))
            }
            details.block {
                summary { "Statistics" }
                p.note { "Every metric is a ratio of two sums over samples. Standard errors are clustered by image and intervals use t with \
                    clusters − 1 degrees of freedom, so that the questions of one image do not count as independent. The design effect is the \
                    squared ratio of the clustered to the naive standard error: how much the questions of one image repeat each other. \
                    Differences are paired: the same questions, new minus base. Where every sample is right or every one wrong, the interval is \
                    Wilson's with the clusters as trials. Metrics that are no plain mean also have a cluster bootstrap interval (BCa). Failed \
                    samples are shown and take no part in any mean." }
            }
            @let executions = view.executions();
            @if !executions.is_empty() {
                details.block {
                    summary { "What ran the graphs, node by node" }
                    ul.plain { @for execution in &executions { li { (said(execution)) } } }
                }
            }
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
                            td.name { (said(&minute(&header.started))) }
                        }
                    }
                    @if let Some(run) = benchmark.runs.first() {
                        @let of = &run.run.header.benchmark;
                        tr.about {
                            td colspan="8" {
                                "scored by " (said(&of.scorer)) ", sample set " code { (said(&format::short_hash(&of.samples_sha256))) }
                            }
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

/// What identifies a package and how it was run, name and value.
fn facts(header: &RunHeader) -> Vec<(&'static str, String)> {
    let (model, settings) = (&header.model, &header.settings);
    let mut facts = vec![
        ("Identity", format::short_hash(&model.identity)),
        ("Precision", model.precision_text()),
        ("Prompt template", model.template.clone()),
        ("Image recipe", model.image_recipe.clone()),
        ("Weights", model.weight_bytes.map_or_else(|| MISSING.to_owned(), format::bytes)),
        (
            "Provider",
            format!("{}, {}", settings.provider_text(), format::counted(settings.intra_op_threads, "thread", "threads")),
        ),
        ("Placement", header.execution.as_ref().map_or_else(|| MISSING.to_owned(), Execution::summary)),
        ("Determinism", determinism(header)),
        ("Scheduling", settings.scheduling_text()),
        ("Most new tokens", settings.max_new_tokens.to_string()),
    ];
    for (name, value) in [("Answering", &settings.answering), ("Tag", &header.tag), ("Commit", &header.commit)] {
        if let Some(value) = value {
            facts.push((name, value.clone()));
        }
    }
    facts
}

/// How far the answers would come again.
fn determinism(header: &RunHeader) -> String {
    header.determinism().map_or_else(|| MISSING.to_owned(), |class| format!("{}: {}", class.as_str(), class.meaning()))
}

/// One set of settings and the benchmarks that were run with it.
type Settings<'a> = (usize, Vec<(&'static str, String)>, Vec<&'a str>);

fn packages(view: &View<'_>) -> Markup {
    // Runs of a package that agree in everything share a card.
    let mut cards: Vec<Settings<'_>> = Vec::new();
    for benchmark in &view.benchmarks {
        for run in &benchmark.runs {
            let facts = facts(&run.run.header);
            match cards.iter_mut().find(|(package, known, _)| *package == run.package && *known == facts) {
                Some((.., benchmarks)) => benchmarks.push(benchmark.title),
                None => cards.push((run.package, facts, vec![benchmark.title])),
            }
        }
    }
    cards.sort_by_key(|(package, ..)| *package);
    html! {
        div.facts {
            @for (package, cards) in by_package(&cards) {
                div.fact-card {
                    h4 { (super::key(package)) (said(view.package(package))) }
                    @let first = cards.first().map(|(_, facts, _)| facts.as_slice()).unwrap_or_default();
                    @for (place, (_, facts, benchmarks)) in cards.iter().enumerate() {
                        @if cards.len() > 1 { p.by { "On " (said(&benchmarks.join(", "))) } }
                        dl {
                            @for (name, value) in facts {
                                // What a later card repeats of the first is not said again.
                                @if place == 0 || !first.iter().any(|known| known.0 == *name && known.1 == *value) {
                                    div { dt { (name) } dd { @if *name == "Identity" { code { (said(value)) } } @else { (said(value)) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn by_package<'c, 'a>(cards: &'c [Settings<'a>]) -> Vec<(usize, &'c [Settings<'a>])> {
    cards.chunk_by(|left, right| left.0 == right.0).filter_map(|chunk| Some((chunk.first()?.0, chunk))).collect()
}
