//! The samples: image with boxes, question, reference, and every package's answer side by side.

use maud::{Markup, html};

use crate::guard::escape;

use super::super::format::{self, MISSING};
use super::super::radar;
use super::super::samples::{Answer, Card, Corners, Mark, SampleGroup, SampleList};
use super::super::view::View;
use super::{said, scroll};

/// Filters the samples.
pub(super) const SCRIPT: &str = include_str!("script.js");
/// The look of the samples.
pub(super) const STYLE: &str = "";

/// Cards of a benchmark that stand open; the others are folded away.
const OPEN_CARDS: usize = 6;

/// The images, once each; the cards refer to them by number.
pub(super) fn sprite(samples: &SampleList) -> Markup {
    html! {
        @if !samples.gallery.thumbnails.is_empty() {
            svg.sprite aria-hidden="true" focusable="false" {
                defs {
                    @for (index, picture) in samples.gallery.thumbnails.iter().enumerate() {
                        image id={"image-" (index)} width=(picture.width) height=(picture.height) preserveAspectRatio="none"
                            href=(picture.data_uri) {}
                    }
                }
            }
        }
    }
}

/// The section with all cards.
pub(super) fn section(view: &View<'_>, samples: &SampleList) -> Markup {
    if samples.shown() == 0 {
        return html! {};
    }
    let differing: usize = samples.groups.iter().map(|group| group.differing).sum();
    let differing_shown = samples.groups.iter().flat_map(|group| &group.cards).filter(|card| card.differs()).count();
    html! {
        section #samples {
            h2 { "Samples" }
            p.note {
                (format::count(samples.shown())) " of " (format::counted(samples.total(), "sample", "samples")) " are shown"
                @if differing > 0 {
                    ", among them " (format::count(differing_shown)) " of the " (format::count(differing))
                    " whose score differs between packages"
                }
                ". They are chosen, not drawn at random: broken ones first, then fixed, failed and wrong ones, and a few right ones."
                @if samples.gallery.unreadable > 0 {
                    " " (format::counted(samples.gallery.unreadable, "image", "images")) " could not be read."
                }
            }
            div.filters #filters hidden {
                label { "Benchmark"
                    select #filter-benchmark {
                        option value="" { "all" }
                        @for group in &samples.groups {
                            option value=(group.benchmark) { (escape::visible(&escape::shorten(title(view, group), 60))) }
                        }
                    }
                }
                label { "Samples"
                    select #filter-kind {
                        option value="" { "all" }
                        option value="differs" { "only differences" }
                        option value="broken" { "only broken" }
                        option value="fixed" { "only fixed" }
                        option value="wrong" { "only with a wrong answer" }
                        option value="failed" { "only failed" }
                        option value="right" { "only all right" }
                    }
                }
                output #filter-count for="filter-benchmark filter-kind" {}
            }
            div.cards {
                @for group in &samples.groups {
                    @if !group.cards.is_empty() {
                        div.bench {
                            h3 { (said(title(view, group))) }
                            p.by { (format::count(group.cards.len())) " of " (format::counted(group.total, "sample", "samples")) }
                            @let (first, rest) = group.cards.split_at(group.cards.len().min(OPEN_CARDS));
                            @for card in first { (one(view, samples, group, card)) }
                            @if !rest.is_empty() {
                                details.rest {
                                    summary { (rest.len()) " more of " (said(title(view, group))) }
                                    @for card in rest { (one(view, samples, group, card)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn title<'a>(view: &View<'a>, group: &SampleGroup) -> &'a str {
    view.benchmarks.get(group.benchmark).map_or("", |benchmark| benchmark.title)
}

fn kinds(card: &Card) -> String {
    let mut kinds = Vec::new();
    for (name, holds) in [
        ("differs", card.differs()),
        ("broken", card.broken),
        ("fixed", card.fixed),
        ("failed", card.failed()),
        ("wrong", card.wrong()),
        ("right", !card.wrong()),
    ] {
        if holds {
            kinds.push(name);
        }
    }
    kinds.join(" ")
}

fn one(view: &View<'_>, samples: &SampleList, group: &SampleGroup, card: &Card) -> Markup {
    let figure = figure(view, samples, card);
    html! {
        article.card.bare[figure.is_none()] data-benchmark=(group.benchmark) data-kinds=(kinds(card)) {
            @if let Some(figure) = &figure { (figure) }
            div {
                h4 { (said(&card.question)) }
                p.by {
                    @if card.broken { span."tag bad" { "▼ broken" } }
                    @if card.fixed { span."tag good" { "▲ fixed" } }
                    span.key { (said(&escape::shorten(&card.key, 120))) }
                    @if let Some(category) = &card.category { ", " (said(&escape::shorten(category, 120))) }
                }
                (scroll("Answers", &answers(view, card)))
                @if let Some(reference) = &card.reference { p.truth { span.quiet { "Reference: " } (said(reference)) } }
                (more(view, card))
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
                            @if answer.mark == Mark::Partly { " " (score(answer.score)) }
                        }
                        td.said { (said_by(answer)) }
                    }
                }
            }
        }
    }
}

fn said_by(answer: &Answer) -> Markup {
    // What was understood is told only where it is not what was said.
    let parsed =
        answer.parsed.as_ref().filter(|parsed| !parsed.trim().eq_ignore_ascii_case(answer.text.trim().trim_end_matches('.')));
    html! {
        @if let Some(failure) = &answer.failure { span.quiet { (said(failure)) } }
        @else if answer.text.trim().is_empty() { span.quiet { "(empty answer)" } }
        @else { (said(&answer.text)) }
        @if let Some(parsed) = parsed { span.parsed { "understood as " (said(parsed)) } }
        @if let Some(iou) = answer.iou { span.parsed { "IoU " (format::number(iou, 2)) } }
    }
}

fn score(value: Option<f64>) -> String {
    value.map_or_else(|| MISSING.to_owned(), |value| format::number(value, 2))
}

fn more(view: &View<'_>, card: &Card) -> Markup {
    let told: Vec<&Answer> = card.answers.iter().filter(|answer| !answer.prompt.is_empty() || !answer.facts.is_empty()).collect();
    if told.is_empty() {
        return html! {};
    }
    // Packages of one template have the same prompt, which is then shown once.
    let mut prompts: Vec<(&str, Vec<&str>)> = Vec::new();
    for answer in &told {
        match prompts.iter_mut().find(|(prompt, _)| *prompt == answer.prompt) {
            Some((_, packages)) => packages.push(view.package(answer.package)),
            None => prompts.push((&answer.prompt, vec![view.package(answer.package)])),
        }
    }
    html! {
        details {
            summary { "Prompt and generation" }
            dl {
                @for (prompt, packages) in &prompts {
                    div {
                        dt { "Prompt" @if prompts.len() > 1 { " of " (said(&packages.join(", "))) } }
                        dd { code { (said(prompt)) } }
                    }
                }
                @for answer in &told {
                    div {
                        dt { (said(view.package(answer.package))) }
                        dd { (said(&answer.facts)) @if answer.score.is_some() { ", score " (score(answer.score)) } }
                    }
                }
            }
        }
    }
}

/// The image with the boxes on it; `None` where there is neither.
fn figure(view: &View<'_>, samples: &SampleList, card: &Card) -> Option<Markup> {
    let picture = card.thumbnail.and_then(|index| Some((index, samples.gallery.thumbnails.get(index)?)));
    let has_boxes = card.region.is_some() || card.answers.iter().any(|answer| answer.predicted.is_some());
    let (width, height) = match (picture, card.size) {
        (Some((_, picture)), _) => (picture.width, picture.height),
        (None, Some((width, height))) if has_boxes && width > 0 && height > 0 => (width, height),
        _ => return None,
    };
    let name = card.image.as_deref().unwrap_or("");
    let label = match picture {
        Some(_) => format!("Image {name} for the question: {}", card.question),
        None => format!("Boxes on image {name}, which is not shown"),
    };
    Some(html! {
        figure {
            svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(escape::visible(&label)) {
                @if let Some((index, _)) = picture { use href={"#image-" (index)} {} }
                @if let Some(region) = card.region { (outline(region, "truth-line", "none", (width, height))) }
                @for answer in &card.answers {
                    @if let Some(predicted) = answer.predicted {
                        (outline(predicted, &format!("k{}", answer.package % 6), dashes(answer.package), (width, height)))
                    }
                }
            }
            @if has_boxes {
                ul.legend aria-label="Boxes" {
                    @if card.region.is_some() { li { (line("truth-line", "none")) "reference" } }
                    @for answer in card.answers.iter().filter(|answer| answer.predicted.is_some()) {
                        li { (line(&format!("k{}", answer.package % 6), dashes(answer.package))) (said(view.package(answer.package))) }
                    }
                }
            }
            figcaption {
                (said(&escape::shorten_middle(name, 80)))
                @if card.further_images > 0 { " and " (card.further_images) " more" }
                @if picture.is_none() { " (not shown)" }
            }
        }
    })
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
