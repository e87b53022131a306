//! `samples-2.html`, …: the samples that `index.html` has no room for, each page as complete in itself.

use maud::{DOCTYPE, PreEscaped, html};

use super::super::samples::{SampleList, file_name};
use super::super::types::ReportInput;
use super::super::view::View;
use super::{cards, page, said};

/// One further page, counted from 0 (`index.html`).
pub(in super::super) fn sample_page(input: &ReportInput<'_>, view: &View<'_>, samples: &SampleList, number: usize) -> String {
    let name = format!("samples, page {} of {}", number + 1, samples.pages.len());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { (page::head(&format!("{}: {name}", input.title))) }
            body {
                a.skip href="#samples" { "Skip to the samples" }
                header {
                    div {
                        h1 { (said(input.title)) ": " (name) }
                        p.by { a href=(file_name(0)) { "Back to the report" } ", made " (said(input.generated_at)) }
                    }
                    (page::theme_button())
                }
                main { (cards::browser(view, samples, number)) }
                footer { p { "Made by llava-gauge. This page makes no request to anywhere; its links lead to the pages beside it." } }
                (cards::sprite(samples, number))
                script { (PreEscaped(cards::SCRIPT)) }
            }
        }
    };
    page.into_string()
}
