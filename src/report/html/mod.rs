//! `index.html`: one page that needs nothing but itself. maud escapes every text; a content security policy forbids any
//! request and any script but the page's own.

mod cards;
mod page;
mod sample_page;
mod tables;

pub(super) use page::page;
pub(super) use sample_page::sample_page;

use maud::{Markup, html};

use crate::compare::Verdict;
use crate::guard::escape;

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
