//! `index.html`: one page that needs nothing but itself. maud escapes every text; a content security policy forbids any
//! request and any script or style but the page's own.

mod accuracy;
mod attribution;
mod basis;
mod cards;
mod categories;
mod differences;
mod glance;
mod latency;
mod matrix;
mod page;
mod sample_page;
mod trade_off;
mod verdict;

pub(super) use attribution::{blame, share, start_sentence, unit_of};
pub(super) use matrix::rank;
pub(super) use page::page;
pub(super) use sample_page::sample_page;
pub(super) use trade_off::{basis as trade_off_basis, front};

use maud::{Markup, PreEscaped, html};

use crate::compare::Verdict;
use crate::guard::escape;

use super::drawing::{Dash, Drawing, Paint};
use super::format;

/// Text from outside: invisible characters made visible, its direction kept to itself.
fn said(text: &str) -> Markup {
    html! { bdi { (escape::visible(text)) } }
}

/// A sentence of the program: as [`said`], and a number stays with its per cent sign.
fn prose(text: &str) -> Markup {
    said(&text.replace(" %", "\u{a0}%"))
}

/// Whether a name is too long for one line of a table.
fn is_long(name: &str) -> bool {
    name.chars().nth(28).is_some()
}

/// A verdict's symbol and word.
fn tag(verdict: Verdict) -> Markup {
    html! { span class={"tag " (format::verdict_class(verdict))} { (format::verdict_symbol(verdict)) " " (format::verdict_word(verdict)) } }
}

/// A table in a box of its own that scrolls sideways where the page is narrow.
fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" tabindex="0" aria-label=(escape::visible(label)) { (table) } }
}

/// A drawing as part of the page.
fn chart(drawing: &Drawing) -> Markup {
    // The drawing has escaped every text that it was given.
    PreEscaped(drawing.inline(""))
}

/// A package's mark and line, as in the charts.
fn key(package: usize) -> Markup {
    let mut drawing = Drawing::new(30.0, 12.0, String::new());
    drawing.dashed(&[[1.0, 6.0], [29.0, 6.0]], Paint::Series(package), 2.0, Dash::of_package(package));
    drawing.mark(package, [15.0, 6.0], 4.5, Paint::Series(package), 1.0);
    html! { span.key-mark aria-hidden="true" { (chart(&drawing)) } }
}

/// The packages with their marks.
fn packages_legend(packages: &[(usize, &str)]) -> Markup {
    html! {
        ul.legend aria-label="Packages" {
            @for (package, name) in packages { li { (key(*package)) (said(name)) } }
        }
    }
}

/// The stages of the engine with their areas.
fn stages_legend() -> Markup {
    html! {
        ul.legend aria-label="Stages" {
            @for (stage, name) in super::charts::STAGES.iter().enumerate() {
                li { span.key-mark aria-hidden="true" { (chart(&stage_key(stage))) } (name) }
            }
        }
    }
}

fn stage_key(stage: usize) -> Drawing {
    let mut drawing = Drawing::new(18.0, 12.0, String::new());
    super::charts::stage_area(&mut drawing, stage, [0.0, 0.0], [18.0, 12.0]);
    drawing
}
