//! The samples: the frame that the page's script fills (filters, list, dialogs, data), and the first cards ready-made, so that
//! there is something to read without it: image with boxes, question, reference, and every package's answer side by side.

use maud::{Markup, PreEscaped, html};

use crate::guard::escape;

use super::super::format::{self, MISSING};
use super::super::radar;
use super::super::samples::{Answer, Card, Corners, Mark, SampleList, SamplePage, file_name};
use super::super::view::View;
use super::{said, scroll};

/// What the section needs of a page: its rules of style and its script.
pub(super) const STYLE: &str = include_str!("samples.css");
pub(super) const SCRIPT: &str = include_str!("script.js");

/// The images of a page, once each; the cards refer to them by number.
pub(super) fn sprite(samples: &SampleList, page: usize) -> Markup {
    let pictures = samples.pages.get(page).map_or(&[][..], |page| page.pictures.as_slice());
    html! {
        @if !pictures.is_empty() {
            svg.sprite aria-hidden="true" focusable="false" {
                defs {
                    @for (index, picture) in pictures.iter().enumerate() {
                        @if let Some(picture) = samples.gallery.thumbnails.get(*picture) {
                            image id={"image-" (index)} width=(picture.width) height=(picture.height) preserveAspectRatio="none"
                                href=(picture.data_uri) {}
                        }
                    }
                }
            }
        }
    }
}

/// The section of `index.html`.
pub(super) fn section(view: &View<'_>, samples: &SampleList) -> Markup {
    browser(view, samples, 0)
}

/// The section of one page. `#samples` is its id on all of them, so that links to samples look alike.
pub(super) fn browser(view: &View<'_>, samples: &SampleList, page: usize) -> Markup {
    let Some(shown) = samples.pages.get(page) else { return html! {} };
    html! {
        section #samples {
            h2 { "Samples" }
            p.note { (introduction(samples, shown)) }
            (filters())
            p #sample-count.note role="status" aria-live="polite" {}
            noscript {
                p.note { "Searching, filtering and the samples beyond the first " (shown.ready.len()) " need scripts, which are off." }
            }
            div #sample-cards {
                @for (card, pictures) in &shown.ready { (one(view, samples, shown, card, pictures)) }
            }
            nav #sample-pager.pager aria-label="Further samples" hidden {}
            (other_pages(samples, page))
            (dialogs())
            script #sample-data type="application/json" { (PreEscaped(&shown.data)) }
        }
    }
}

fn introduction(samples: &SampleList, page: &SamplePage) -> Markup {
    let (known, differing) = (samples.total(), samples.differing());
    let all = samples.shown() == known;
    html! {
        @if all { (format::counted(known, "sample", "samples")) }
        @else { (format::count(samples.shown())) " of " (format::counted(known, "sample", "samples")) }
        @if samples.pages.len() > 1 {
            ", " (format::count(page.samples)) " of them on this page"
        }
        @if differing > 0 {
            "; the score of " (format::count(differing)) " differs between packages"
        }
        ". Broken ones come first, then fixed, failed and wrong ones. In an answer, words that the first package's answer lacks are \
         underlined; words left out are struck."
        @if samples.gallery.unreadable > 0 {
            " " (format::counted(samples.gallery.unreadable, "image", "images")) " could not be read."
        }
    }
}

/// The script fills the lists and shows it.
fn filters() -> Markup {
    html! {
        div #sample-filters.filters role="search" aria-label="Samples" hidden {
            label.find { "Search" input #filter-search type="search" autocomplete="off" spellcheck="false" placeholder="question, answer, reference or key" {} }
            label { "Outcome" select #filter-outcome {} }
            label { "Benchmark" select #filter-benchmark {} }
            label { "Category" select #filter-category {} }
            label { "Packages" select #filter-pair {} }
            div.buttons {
                button #filter-clear type="button" { "Clear" }
                button #keys-open type="button" aria-haspopup="dialog" { "Keys " kbd { "?" } }
            }
        }
    }
}

fn other_pages(samples: &SampleList, page: usize) -> Markup {
    html! {
        @if samples.pages.len() > 1 {
            nav.pager aria-label="Pages of samples" {
                span { "All samples, page" }
                @for (index, other) in samples.pages.iter().enumerate() {
                    @let label = format!("Page {} of {}, {}", index + 1, samples.pages.len(), format::counted(other.samples, "sample", "samples"));
                    @if index == page { span aria-current="page" title=(label) { (index + 1) } }
                    @else { a.other-page href={(file_name(index)) "#samples"} aria-label=(label) title=(label) { (index + 1) } }
                }
            }
        }
    }
}

fn dialogs() -> Markup {
    let keys = [
        ("/", "search"),
        ("j or ↓", "next sample"),
        ("k or ↑", "previous sample"),
        ("Enter", "open the sample, and close it again"),
        ("z", "enlarge its image"),
        ("n, p", "next, previous page of the list"),
        ("Esc", "close, or leave the search"),
        ("?", "this list"),
    ];
    html! {
        dialog #zoom-dialog aria-labelledby="zoom-title" {
            form method="dialog" { button type="submit" aria-label="Close" { "✕" } }
            p #zoom-title {}
            div #zoom-body {}
        }
        dialog #keys-dialog aria-labelledby="keys-title" {
            form method="dialog" { button type="submit" aria-label="Close" { "✕" } }
            h3 #keys-title { "Keys" }
            dl {
                @for (key, meaning) in keys { div { dt { kbd { (key) } } dd { (meaning) } } }
            }
            p.note { "The arrow keys work once a sample has the focus. Everything can be reached with Tab as well." }
        }
    }
}

fn title<'a>(view: &View<'a>, card: &Card) -> &'a str {
    view.benchmarks.get(card.benchmark).map_or("", |benchmark| benchmark.title)
}

/// A card without what the script adds: the marking of words, prompts and timings.
fn one(view: &View<'_>, samples: &SampleList, page: &SamplePage, card: &Card, pictures: &[usize]) -> Markup {
    let figure = figure(view, samples, page, card, pictures);
    html! {
        article.sample.bare[figure.is_none()] {
            @if let Some(figure) = &figure { (figure) }
            div.told {
                p.by {
                    @if card.broken { span."tag bad" { "▼ broken" } }
                    @if card.fixed { span."tag good" { "▲ fixed" } }
                    (said(title(view, card)))
                    @if let Some(category) = &card.category { " · " (said(&escape::shorten(category, 120))) }
                    " · " span.key { (said(&escape::shorten(&card.key, 120))) }
                }
                h3 { (said(&card.question)) }
                @if let Some(reference) = &card.reference { p.truth { span.quiet { "Reference: " } (said(reference)) } }
                (scroll("Answers", &answers(view, card)))
            }
        }
    }
}

fn answers(view: &View<'_>, card: &Card) -> Markup {
    html! {
        table.answers {
            tbody {
                @for answer in &card.answers {
                    tr {
                        th scope="row" { (said(view.package(answer.package))) }
                        td class={"mark " (answer.mark.class())} {
                            (answer.mark.symbol()) " " (answer.mark.word())
                            @if answer.mark == Mark::Partly { " " (answer.score.map_or_else(|| MISSING.to_owned(), |score| format::number(score, 2))) }
                        }
                        td.said { (said_by(answer)) }
                    }
                }
            }
        }
    }
}

fn said_by(answer: &Answer) -> Markup {
    html! {
        @if let Some(failure) = &answer.failure { span.quiet { (said(failure)) } }
        @else if answer.text.trim().is_empty() { span.quiet { "(empty answer)" } }
        @else { (said(&answer.text)) }
        @if let Some(parsed) = &answer.parsed { span.parsed { "understood as " (said(parsed)) } }
        @if let Some(iou) = answer.iou { span.parsed { "IoU " (format::number(iou, 2)) } }
    }
}

/// The images, the first with the boxes on it; `None` where there is neither.
fn figure(view: &View<'_>, samples: &SampleList, page: &SamplePage, card: &Card, pictures: &[usize]) -> Option<Markup> {
    let of = |place: &usize| samples.gallery.thumbnails.get(*page.pictures.get(*place)?);
    let known: Vec<(usize, u32, u32)> =
        pictures.iter().filter_map(|place| of(place).map(|picture| (*place, picture.width, picture.height))).collect();
    let drawn: Vec<(Option<usize>, u32, u32)> = match (known.as_slice(), card.size) {
        ([], Some((width, height))) if card.has_boxes() && width > 0 && height > 0 => vec![(None, width, height)],
        ([], _) => return None,
        (some, _) => some.iter().map(|(place, width, height)| (Some(*place), *width, *height)).collect(),
    };
    let name = card.images.first().map_or("", String::as_str);
    let label = if known.is_empty() { format!("Boxes on image {name}, which is not shown") } else { format!("Image {name}") };
    Some(html! {
        figure {
            @for (index, (place, width, height)) in drawn.iter().enumerate() {
                svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(escape::visible(&label)) {
                    @if let Some(place) = place { use href={"#image-" (place)} {} }
                    @if index == 0 { (boxes(card, (*width, *height))) }
                }
            }
            @if card.has_boxes() {
                ul.legend aria-label="Boxes" {
                    @if card.region.is_some() { li { (line("truth-line", "none")) b { "R" } "reference" } }
                    @for answer in card.answers.iter().filter(|answer| answer.predicted.is_some()) {
                        li {
                            (line(&format!("k{}", answer.package % 6), dashes(answer.package)))
                            b { (letter(answer.package)) } (said(view.package(answer.package)))
                        }
                    }
                }
            }
            figcaption {
                (said(&escape::shorten_middle(name, 80)))
                @let further = card.further_images + card.images.len().saturating_sub(drawn.len());
                @if further > 0 { " and " (further) " more" }
                @if known.is_empty() { " (not shown)" }
            }
        }
    })
}

/// A, B, …, as the boxes are lettered.
fn letter(package: usize) -> String {
    u8::try_from(package)
        .ok()
        .filter(|package| *package < 26)
        .map_or_else(|| format!("{}", package + 1), |package| char::from(b'A' + package).to_string())
}

/// Line patterns of predicted boxes; the reference alone is solid.
fn dashes(package: usize) -> &'static str {
    match radar::dashes(package) {
        "none" => "9 4",
        pattern => pattern,
    }
}

fn line(class: &str, dashes: &str) -> Markup {
    html! {
        svg width="22" height="8" viewBox="0 0 22 8" aria-hidden="true" {
            line class=(class) x1="0" y1="4" x2="22" y2="4" stroke-width="2.5" stroke-dasharray=(dashes) {}
        }
    }
}

fn boxes(card: &Card, size: (u32, u32)) -> Markup {
    html! {
        @if let Some(region) = card.region { (outline(region, "truth-line", "none", size)) }
        @for answer in &card.answers {
            @if let Some(predicted) = answer.predicted {
                (outline(predicted, &format!("k{}", answer.package % 6), dashes(answer.package), size))
            }
        }
    }
}

/// A box with a light edge below it, so that it is seen on any image. Kept within sight of the image.
fn outline([left, top, right, bottom]: Corners, class: &str, dashes: &str, (width, height): (u32, u32)) -> Markup {
    let (width, height) = (f64::from(width), f64::from(height));
    let (x1, x2) = (left.min(right).clamp(0.0, width), left.max(right).clamp(0.0, width));
    let (y1, y2) = (top.min(bottom).clamp(0.0, height), top.max(bottom).clamp(0.0, height));
    let px = |value: f64| format!("{value:.1}");
    html! {
        @for (class, dashes) in [("box-under", "none"), (class, dashes)] {
            rect class={"box " (class)} x=(px(x1)) y=(px(y1)) width=(px(x2 - x1)) height=(px(y2 - y1)) stroke-dasharray=(dashes) {}
        }
    }
}
