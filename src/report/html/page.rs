//! The page: head, navigation, and the order of the sections.

use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::compare::{Attribution, trade_offs};
use crate::guard::escape;

use super::super::charts;
use super::super::radar;
use super::super::samples::SampleList;
use super::super::types::ReportInput;
use super::super::view::View;
use super::{
    accuracy, attribution, basis, cards, categories, chart, differences, latency, matrix, packages_legend, said, trade_off,
    verdict,
};

const STYLE: &str = include_str!("style.css");
/// Sets the theme before anything is painted.
const THEME: &str = include_str!("theme.js");

/// The whole page.
pub(in super::super) fn page(
    input: &ReportInput<'_>,
    view: &View<'_>,
    samples: &SampleList,
    attributions: &[Attribution],
) -> String {
    let radar = radar::chart(view);
    let version = view.comparison.runs.first().map_or("", |run| run.header.environment.program_version.as_str());
    let paired = view.benchmarks.iter().any(|benchmark| !benchmark.pairs.is_empty());
    let offs = trade_offs(&view.grid());
    let links = [
        ("verdict", "Verdict", true),
        ("accuracy", "Accuracy", true),
        ("profile", "Profile", radar.is_some()),
        ("differences", "Differences", paired),
        ("categories", "Categories", !categories::with_categories(view).is_empty()),
        ("ranking", "Ranking", !view.comparison.matrices.is_empty()),
        ("latency", "Latency", true),
        ("trade-off", "Trade-off", charts::scatter(view, &offs).is_some()),
        ("attribution", "Stages", !attributions.is_empty()),
        ("samples", "Samples", samples.shown() > 0),
        ("basis", "Method", true),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(input.title)) }
            body {
                a.skip href="#verdict" { "Skip to the verdict" }
                header {
                    div {
                        h1 { (said(input.title)) }
                        p.by { "llava-gauge " (said(version)) ", made " (said(input.generated_at)) }
                    }
                    (theme_button())
                }
                nav aria-label="Sections" {
                    ul { @for (id, name, _) in links.iter().filter(|(.., shown)| *shown) { li { a href={"#" (id)} { (name) } } } }
                }
                main {
                    (verdict::section(view))
                    (accuracy::section(view))
                    @if let Some((drawing, reading)) = &radar {
                        section #profile aria-labelledby="profile-heading" {
                            h2 #profile-heading { "Profile over the benchmarks" }
                            div.beside {
                                figure { (chart(drawing)) }
                                div {
                                    @let names: Vec<(usize, &str)> = view.packages.iter().map(String::as_str).enumerate().collect();
                                    (packages_legend(&names))
                                    p.note { (reading) " The shape shows where packages differ; whether they do is said by the intervals." }
                                }
                            }
                        }
                    }
                    @if paired { (differences::section(view)) }
                    (categories::section(view))
                    (matrix::section(view))
                    (latency::section(view))
                    (trade_off::section(view, &offs))
                    (attribution::section(view, attributions))
                    (cards::section(view, samples))
                    (basis::section(view))
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
    page.into_string()
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
        script { (PreEscaped(THEME)) }
    }
}

/// Switches between light and dark; shown only where the script runs.
pub(super) fn theme_button() -> Markup {
    html! { button #theme type="button" hidden { "Dark" } }
}

/// Nothing may be loaded, and only the page's own scripts and styles, known by their hashes, count.
fn policy() -> String {
    let hash =
        |text: &str| format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes())));
    format!(
        "default-src 'none'; img-src data:; style-src {} {}; script-src {} {}; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(cards::STYLE),
        hash(THEME),
        hash(cards::SCRIPT)
    )
}
