//! Accuracy with intervals: charts and the table of all metrics.

use maud::{Markup, html};

use super::super::charts;
use super::super::format::MISSING;
use super::super::view::{BenchmarkView, View};
use super::{chart, is_long, said, scroll};

/// The section.
pub(super) fn section(view: &View<'_>) -> Markup {
    let panels: Vec<_> =
        view.benchmarks.iter().filter_map(|benchmark| Some((benchmark, charts::accuracy(view, benchmark)?))).collect();
    html! {
        section #accuracy aria-labelledby="accuracy-heading" {
            h2 #accuracy-heading { "Accuracy" }
            p.note { "Points are the measured values, lines their 95\u{a0}% intervals, clustered by image. Axes are cut to where the \
                values lie." }
            div.panels {
                @for (benchmark, drawing) in &panels {
                    figure {
                        h3 { (said(benchmark.title)) }
                        figcaption { (said(benchmark.primary_name())) }
                        (chart(drawing))
                    }
                }
            }
            details open[view.benchmarks.len() <= 4] {
                summary { "All metrics in a table" }
                (scroll("Accuracy by benchmark and package", &table(view)))
            }
        }
    }
}

/// Benchmarks × packages, the primary metric first and the others below it.
fn table(view: &View<'_>) -> Markup {
    html! {
        table.tight {
            caption { "Value ± half of the 95\u{a0}% interval" }
            thead { tr {
                th scope="col" { "Benchmark, metric" }
                @for package in &view.packages { th.n.package scope="col" { (said(package)) } }
            } }
            tbody {
                @for benchmark in &view.benchmarks {
                    @for (order, name) in benchmark.metric_names().into_iter().enumerate() {
                        @let unit = benchmark.unit(name);
                        tr.more[order > 0] {
                            th.long[is_long(benchmark.title) || is_long(name)] scope="row" {
                                @if order == 0 { (said(benchmark.title)) " " }
                                span.metric { (said(name)) (direction(benchmark, name)) @if unit.is_percent() { ", %" } }
                            }
                            @for package in 0..view.packages.len() {
                                @let metric = benchmark.run_of(package).and_then(|run| run.metric(name));
                                td.n { (metric.map_or_else(|| MISSING.to_owned(), |metric| unit.value_and_half(&metric.estimate))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn direction(benchmark: &BenchmarkView<'_>, metric: &str) -> &'static str {
    let known = benchmark.runs.iter().find_map(|run| run.metric(metric));
    match known.and_then(|metric| metric.higher_is_better) {
        Some(false) => " (lower is better)",
        Some(true) => "",
        None => " (description)",
    }
}
