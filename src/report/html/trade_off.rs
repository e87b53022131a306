//! Accuracy against time and size, with the Pareto front.

use maud::{Markup, html};

use crate::compare::{TradeOff, TradeOffs};

use super::super::charts;
use super::super::format::{self, MISSING};
use super::super::view::View;
use super::{chart, is_long, packages_legend, prose, said, scroll};

/// The section; nothing with fewer than two packages on the same benchmarks.
pub(super) fn section(view: &View<'_>, offs: &TradeOffs) -> Markup {
    let Some(drawing) = charts::scatter(view, offs) else { return html! {} };
    let points: Vec<(usize, TradeOff)> =
        offs.packages.iter().enumerate().filter_map(|(package, point)| Some((package, (*point)?))).collect();
    let names: Vec<(usize, &str)> = points.iter().map(|(package, _)| (*package, view.package(*package))).collect();
    html! {
        section #trade-off aria-labelledby="trade-off-heading" {
            h2 #trade-off-heading { "Accuracy, time and size" }
            p.note { (prose(&basis(view, offs))) }
            div.beside.wide-chart {
                figure { (chart(&drawing)) (packages_legend(&names)) }
                (scroll("Accuracy, time and size by package", &table(view, &points)))
            }
        }
    }
}

/// What the numbers are, and of whom there are none.
pub(in super::super) fn basis(view: &View<'_>, offs: &TradeOffs) -> String {
    let left_out: Vec<&str> =
        offs.packages.iter().enumerate().filter(|(_, point)| point.is_none()).map(|(package, _)| view.package(package)).collect();
    let titles: Vec<&str> =
        offs.benchmarks.iter().filter_map(|benchmark| view.benchmarks.get(*benchmark)).map(|benchmark| benchmark.title).collect();
    let over = match titles.as_slice() {
        [only] => format!("On {only}."),
        several if several.len() <= 3 => format!("Means over {}.", several.join("; ")),
        several => format!("Means over {} benchmarks that all of these packages ran.", several.len()),
    };
    let mut text = format!(
        "{over} Accuracy: primary metric in per cent, other metrics as a share of the best package's value. Time: engine milliseconds per \
         question, geometric mean. Marks are as large as the weights. Broken line: the Pareto front, beyond which no package is both \
         more accurate and faster. Points are estimates; the verdicts say what differs beyond doubt."
    );
    if !left_out.is_empty() {
        text.push_str(&format!(" Not shown, because they did not run these benchmarks: {}.", left_out.join(", ")));
    }
    text
}

fn table(view: &View<'_>, points: &[(usize, TradeOff)]) -> Markup {
    html! {
        table.tight {
            thead { tr {
                th scope="col" { "Package" }
                th.n scope="col" { "Accuracy, %" }
                th.n scope="col" { "ms per question" }
                th.n scope="col" { "Weights" }
                th scope="col" { "Pareto front" }
            } }
            tbody {
                @for (package, point) in points {
                    tr {
                        th.long[is_long(view.package(*package))] scope="row" { (said(view.package(*package))) }
                        td.n { (format::number(point.accuracy, 1)) }
                        td.n { (format::significant(point.per_question_ms)) }
                        td.n { (point.weight_bytes.map_or_else(|| MISSING.to_owned(), format::bytes)) }
                        td { (front(point)) }
                    }
                }
            }
        }
    }
}

/// Whether a package is on the front, in words.
pub(in super::super) fn front(point: &TradeOff) -> &'static str {
    match (point.on_front, point.on_front_with_size) {
        (true, _) => "● yes",
        (false, true) => "○ by its size",
        (false, false) => "no",
    }
}
