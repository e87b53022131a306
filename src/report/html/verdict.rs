//! What a reader sees first: the answer, the key table, and what to know before believing it.

use maud::{Markup, html};

use super::super::cautions::CautionGroup;
use super::super::view::{Contest, View};
use super::{glance, prose, said, tag};

/// Notes that are shown without being asked for.
const SHOWN_CAUTIONS: usize = 4;

/// The section.
pub(super) fn section(view: &View<'_>) -> Markup {
    let contests = view.contests();
    html! {
        section.verdict #verdict aria-labelledby="verdict-heading" {
            h2.aloud #verdict-heading { "Verdict" }
            @match contests.as_slice() {
                [] => p.headline { (nothing_to_compare(view)) },
                [only] => {
                    p.headline { (headline_tag(only)) (prose(&only.headline(view))) }
                    @if let Some(speed) = only.speed(view) { p.speed { (prose(&speed)) } }
                },
                several => (list(view, several)),
            }
            (glance::table(view, &contests))
            @if let Some(sentence) = view.multiplicity() { p.note { (prose(&sentence)) } }
            (cautions(view))
        }
    }
}

/// The word for one package against another over all benchmarks.
pub(super) fn headline_tag(contest: &Contest<'_>) -> Markup {
    match contest.overall() {
        Some(verdict) => tag(verdict),
        None => html! { span."tag open" { "◆ mixed" } },
    }
}

fn list(view: &View<'_>, contests: &[Contest<'_>]) -> Markup {
    let base = contests.first().map_or(0, |contest| contest.base);
    let one_base = contests.iter().all(|contest| contest.base == base);
    html! {
        @if one_base {
            p.headline.short { (contests.len()) " packages against " (said(view.package(base))) }
        }
        ul.contests {
            @for (place, contest) in contests.iter().enumerate() {
                li {
                    (headline_tag(contest))
                    div {
                        a href={"#against-" (place)} { (prose(&contest.headline(view))) }
                        @if let Some(speed) = contest.speed(view) { span.speed { (prose(&speed)) } }
                    }
                }
            }
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

/// The notes: the weightiest in sight, the others in a fold, each in full in another.
fn cautions(view: &View<'_>) -> Markup {
    let groups = view.caution_groups();
    if groups.is_empty() {
        return html! {};
    }
    let first = groups.iter().take_while(|group| group.weighty).take(SHOWN_CAUTIONS).count();
    let (shown, rest) = groups.split_at(first);
    let sentences = view.cautions();
    html! {
        div.cautions role="group" aria-labelledby="cautions-heading" {
            h3 #cautions-heading { "Before you believe it" }
            @if !shown.is_empty() { ul { @for group in shown { (caution(group)) } } }
            @if !rest.is_empty() {
                details {
                    summary {
                        @if rest.len() == 1 { "1 more note" } @else { (rest.len()) " more notes" }
                        @if rest.iter().all(|group| !group.weighty) { " on conditions that differ" }
                    }
                    ul { @for group in rest { (caution(group)) } }
                }
            }
            @if sentences.len() > groups.len() {
                details.in-full {
                    summary { "Each of the " (sentences.len()) " notes in full" }
                    ul.small { @for sentence in &sentences { li { (prose(sentence)) } } }
                }
            }
        }
    }
}

fn caution(group: &CautionGroup) -> Markup {
    html! { li { (prose(&group.statement)) " " span.quiet { "– " (prose(&group.who)) " " (prose(&group.place)) } } }
}
