//! The page: head, verdict, charts, and the order of the sections.

use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::guard::escape;

use super::super::charts;
use super::super::radar;
use super::super::samples::SampleList;
use super::super::types::{ReportError, ReportInput};
use super::super::view::View;
use super::{cards, prose, said, tables, tag};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(in super::super) fn page(input: &ReportInput<'_>, view: &View<'_>, samples: &SampleList) -> Result<String, ReportError> {
    let accuracy = accuracy(view)?;
    let latency = latency(view)?;
    let radar = radar::chart(view);
    let version = view.comparison.runs.first().map_or("", |run| run.header.environment.program_version.as_str());
    let paired = view.benchmarks.iter().any(|benchmark| !benchmark.pairs.is_empty());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(input.title))
            }
            body {
                header {
                    h1 { (said(input.title)) }
                    p.by { "llava-gauge " (said(version)) ", made " (said(input.generated_at)) }
                    nav aria-label="Sections" {
                        ul {
                            li { a href="#accuracy" { "Accuracy" } }
                            @if paired { li { a href="#differences" { "Differences" } } }
                            li { a href="#latency" { "Latency" } }
                            @if radar.is_some() { li { a href="#profile" { "Profile" } } }
                            li { a href="#basis" { "What the numbers rest on" } }
                            @if samples.shown() > 0 { li { a href="#samples" { "Samples" } } }
                        }
                    }
                }
                main {
                    (verdict(view))
                    section #accuracy {
                        h2 { "Accuracy" }
                        p.note { "Points are the measured values, lines their 95\u{a0}% intervals, clustered by image. Axes are cut to where \
                            the values lie." }
                        (accuracy)
                        (tables::accuracy(view))
                    }
                    @if paired {
                        section #differences {
                            h2 { "Paired differences" }
                            p.note { "New minus base over the samples that both answered, so that what is hard for both does not count. \
                                Fixed and broken are samples whose score rose and fell." }
                            (tables::differences(view))
                        }
                    }
                    section #latency {
                        h2 { "Latency by stage" }
                        p.note { "Mean milliseconds per question. The image is read and encoded once for all its questions, and its \
                            share is spread over them." }
                        (latency)
                        (tables::latency(view))
                    }
                    @if let Some((chart, reading)) = &radar {
                        section #profile {
                            h2 { "Profile over the benchmarks" }
                            div.beside {
                                (chart)
                                div {
                                    p.note { (reading) " The shape shows where packages differ; whether they do is said by the \
                                        intervals above." }
                                    (packages_legend(view))
                                }
                            }
                        }
                    }
                    (tables::basis(view))
                    (cards::section(view, samples))
                }
                footer {
                    p { "Made by llava-gauge. This page makes no request to anywhere; it can be kept, sent and printed as it is. \
                        The same numbers stand in results.json, results.csv and report.md beside it." }
                }
                (cards::sprite(samples, 0))
                script { (PreEscaped(cards::SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

/// The head of a page of the report.
pub(super) fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta http-equiv="Content-Security-Policy" content=(policy());
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="referrer" content="no-referrer";
        meta name="color-scheme" content="light dark";
        title { (escape::visible(title)) }
        link rel="icon" href="data:,";
        style { (PreEscaped(STYLE)) }
        style { (PreEscaped(cards::STYLE)) }
    }
}

/// Nothing may be loaded, and only the page's own script, known by its hash, may run.
fn policy() -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(cards::SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    )
}

fn verdict(view: &View<'_>) -> Markup {
    let contests = view.contests();
    let cautions = view.cautions();
    html! {
        section.verdict aria-label="Verdict" {
            @for contest in &contests {
                div.contest {
                    p.headline { (prose(&contest.headline(view))) }
                    ul.findings {
                        @for (verdict, finding) in contest.findings(view.comparison.margin) {
                            li { (tag(verdict)) span { (prose(&finding)) } }
                        }
                        @if let Some(speed) = contest.speed(view) {
                            li { span.tag { "speed" } span { (prose(&speed)) } }
                        }
                    }
                }
            }
            @if contests.is_empty() {
                p.headline { (nothing_to_compare(view)) }
            }
            @if !cautions.is_empty() {
                div.cautions {
                    h3 { "Caveats" }
                    ul { @for caution in &cautions { li { (prose(caution)) } } }
                }
            }
            @if let Some(sentence) = view.multiplicity() { p.note { (prose(&sentence)) } }
        }
    }
}

fn nothing_to_compare(view: &View<'_>) -> Markup {
    html! {
        @match view.packages.as_slice() {
            [only] => { "One package, " (said(only)) ", and nothing to compare it with." }
            _ => { "Nothing to compare: no benchmark was run by two packages." }
        }
    }
}

fn accuracy(view: &View<'_>) -> Result<Markup, ReportError> {
    let mut panels = Vec::new();
    for benchmark in &view.benchmarks {
        if let Some(chart) = charts::accuracy(view, benchmark)? {
            panels.push((benchmark.title, benchmark.primary_name(), chart));
        }
    }
    Ok(html! {
        div.panels.pairs[in_pairs(panels.len())] {
            @for (title, metric, chart) in &panels {
                figure {
                    h3 { (said(title)) }
                    figcaption { (said(metric)) }
                    (chart)
                }
            }
        }
    })
}

fn latency(view: &View<'_>) -> Result<Markup, ReportError> {
    let mut panels = Vec::new();
    for benchmark in &view.benchmarks {
        if let Some(chart) = charts::latency(view, benchmark)? {
            panels.push((benchmark.title, chart));
        }
    }
    if panels.is_empty() {
        return Ok(html! { p { "The runs hold no timings." } });
    }
    Ok(html! {
        ul.legend aria-label="Stages" {
            @for (name, color) in charts::STAGES {
                li { (swatch(&charts::hex(color))) (name) }
            }
        }
        div.panels.pairs[in_pairs(panels.len())] {
            @for (title, chart) in &panels { figure { h3 { (said(title)) } (chart) } }
        }
    })
}

/// Two panels a row where three would leave one alone.
fn in_pairs(panels: usize) -> bool {
    matches!(panels, 2 | 4)
}

fn swatch(color: &str) -> Markup {
    html! { svg.chart width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" { rect width="12" height="12" rx="2" fill=(color) {} } }
}

fn packages_legend(view: &View<'_>) -> Markup {
    html! {
        ul.legend aria-label="Packages" {
            @for (index, package) in view.packages.iter().enumerate() {
                @let color = charts::hex(charts::series(index));
                li {
                    svg.chart width="30" height="12" viewBox="0 0 30 12" aria-hidden="true" {
                        line x1="1" y1="6" x2="29" y2="6" stroke=(color) stroke-width="2" stroke-dasharray=(radar::dashes(index)) {}
                        @match index % 3 {
                            0 => circle cx="15" cy="6" r="4" fill=(color) {},
                            1 => rect x="11.5" y="2.5" width="7" height="7" fill=(color) {},
                            _ => path d="M15 1L20 6L15 11L10 6Z" fill=(color) {},
                        }
                    }
                    (said(package))
                }
            }
        }
    }
}
