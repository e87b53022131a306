//! `history.html`: trend plots on one page that needs nothing but itself and runs no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::compare::{History, HistoryChange, HistorySeries, change_direction};
use crate::guard::escape;

use super::{METHOD, change_caution, change_text, ends, measure_and_part, number, plot, point_value, run_label, suffix, summary};

const STYLE: &str = include_str!("history.css");

/// Nothing may be loaded and nothing may run.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Text from outside.
fn said(text: &str) -> Markup {
    html! { bdi { (escape::visible(text)) } }
}

/// The whole page.
pub(super) fn page(history: &History, title: &str, generated_at: &str) -> String {
    let mut groups: Vec<(&str, &str, &str, Vec<&HistorySeries>)> = Vec::new();
    for series in &history.series {
        match groups.iter_mut().find(|(package, benchmark, ..)| (*package, *benchmark) == (&series.package, &series.benchmark)) {
            Some((.., members)) => members.push(series),
            None => groups.push((&series.package, &series.benchmark, &series.title, vec![series])),
        }
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                title { (escape::visible(title)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (said(title)) }
                    p.by { "llava-gauge " (env!("CARGO_PKG_VERSION")) ", made " (said(generated_at)) ". " (summary(history)) "." }
                }
                main {
                    (overview(history))
                    @if groups.len() > 1 {
                        nav aria-label="Packages and benchmarks" {
                            ul {
                                @for (index, (package, _, title, _)) in groups.iter().enumerate() {
                                    li { a href={"#g" (index)} { (said(package)) " · " (said(title)) } }
                                }
                            }
                        }
                    }
                    @for (index, (package, benchmark, title, members)) in groups.iter().enumerate() {
                        section id={"g" (index)} {
                            h2 { (said(package)) " · " (said(title)) }
                            p.by { (said(benchmark)) }
                            div.panels { @for series in members { (panel(history, series)) } }
                            (values(history, members))
                        }
                    }
                }
                footer { p { (METHOD) " Lines at points are 95\u{a0}% intervals; horizontal lines are the levels between change points." } }
            }
        }
    };
    page.into_string()
}

/// All changes in one list, the possible ones folded away, and what was left out.
fn overview(history: &History) -> Markup {
    let all = || history.series.iter().flat_map(|series| series.changes.iter().map(move |change| (series, change)));
    let (strong, possible): (Vec<_>, Vec<_>) = all().partition(|(_, change)| change.strong);
    html! {
        section.overview aria-label="Overview" {
            p.headline { (if strong.is_empty() { "No level changed." } else { "Levels changed here:" }) }
            (change_list(history, &strong))
            @if !possible.is_empty() {
                details {
                    summary { "Possible changes, less sure: " (possible.len()) }
                    (change_list(history, &possible))
                }
            }
            @if !history.notes.is_empty() {
                ul.notes { @for note in &history.notes { li { (said(note)) } } }
            }
        }
    }
}

fn change_list(history: &History, changes: &[(&HistorySeries, &HistoryChange)]) -> Markup {
    html! {
        @if !changes.is_empty() {
            ul.changes {
                @for (series, change) in changes {
                    li {
                        @let class = match change.better { Some(true) => "good", Some(false) => "bad", None => "open" };
                        span class={"tag " (class)} { (change_direction(change)) }
                        span {
                            (said(&series.package)) " · " (said(&series.title)) " · " (said(&measure_and_part(history, series))) ": "
                            (said(change_text(history, series, change).trim_start_matches("possible: ")))
                            @if let Some(caution) = change_caution(change) { br; small { (caution) } }
                        }
                    }
                }
            }
        }
    }
}

fn panel(history: &History, series: &HistorySeries) -> Markup {
    let count = series.points.len();
    html! {
        figure {
            figcaption {
                strong { (said(&measure_and_part(history, series))) }
                " " (point_value(series, count.saturating_sub(1))) (suffix(series))
                @if count == 1 { " (1 run)" }
            }
            @if let Some(begins) = &series.begins { p.by { "Begins anew: " (said(begins)) } }
            @if let Some(svg) = plot::trend(history, series) { (svg) }
            @else if let Some((first, _)) = ends(history, series) { p.by { "One run: " (said(&run_label(first))) } }
        }
    }
}

/// Every run of a package on a benchmark with its values, folded away.
fn values(history: &History, members: &[&HistorySeries]) -> Markup {
    let mut places: Vec<usize> = members.iter().flat_map(|series| series.points.iter().map(|point| point.run)).collect();
    places.sort_unstable();
    places.dedup();
    html! {
        details {
            summary { "Values of every run" }
            div.scroll role="region" tabindex="0" aria-label="Values of every run" {
                table {
                    thead {
                        tr {
                            th scope="col" { "started" } th scope="col" { "tag" } th scope="col" { "commit" } th scope="col" { "package identity" }
                            @for series in members { th.number scope="col" { (said(&measure_and_part(history, series))) (suffix(series)) } }
                        }
                    }
                    tbody {
                        @for place in &places {
                            @if let Some(run) = history.runs.get(*place) {
                                tr {
                                    th scope="row" { (said(&run.started)) }
                                    td { (said(run.tag.as_deref().unwrap_or("–"))) }
                                    td { code { (said(run.commit.as_deref().map_or("–".to_owned(), super::commit_label).as_str())) } }
                                    td { code { (said(&super::format::short_hash(&run.identity))) } }
                                    @for series in members {
                                        td.number {
                                            @match series.points.iter().position(|point| point.run == *place) {
                                                Some(index) => {
                                                    (point_value(series, index))
                                                    @if let Some(change) = series.strong_changes().find(|change| change.point == index) {
                                                        " (" (number(series, change.mean_before)) " before)"
                                                    }
                                                }
                                                None => { "–" }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
