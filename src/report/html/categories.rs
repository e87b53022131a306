//! The primary metric by category.

use maud::{Markup, html};

use crate::compare::PairedCategory;

use super::super::charts::{self, CategoryRow};
use super::super::format::{self, MISSING, Unit};
use super::super::view::{BenchmarkView, View};
use super::{chart, is_long, packages_legend, said, scroll};

/// A list of categories that is too long to stand open.
const LONG: usize = 12;

/// Below this adjusted p-value a category's difference is marked.
const MARKED: f64 = 0.05;

/// The benchmarks with at least two categories.
pub(super) fn with_categories<'v, 'a>(view: &'v View<'a>) -> Vec<(&'v BenchmarkView<'a>, Vec<CategoryRow<'a>>)> {
    let rows = |benchmark: &'v BenchmarkView<'a>| (benchmark, charts::category_rows(view, benchmark));
    let mut found: Vec<_> = view.benchmarks.iter().map(rows).filter(|(_, rows)| rows.len() > 1).collect();
    // What can be compared comes first, and long lists last.
    found.sort_by_key(|(benchmark, rows)| (benchmark.pairs.is_empty(), rows.len() > LONG));
    found
}

/// The section; nothing where no benchmark has categories.
pub(super) fn section(view: &View<'_>) -> Markup {
    let benchmarks = with_categories(view);
    if benchmarks.is_empty() {
        return html! {};
    }
    html! {
        section #categories aria-labelledby="categories-heading" {
            h2 #categories-heading { "By category" }
            p.note { "The primary metric within each category, with 95\u{a0}% intervals. With many categories some differ by chance: marked \
                are those whose difference holds after correction over the categories (Benjamini and Hochberg, 5\u{a0}%). This is for \
                looking around; the verdicts above are on whole benchmarks." }
            @for (place, (benchmark, rows)) in benchmarks.iter().enumerate() {
                details.block open[place == 0 && rows.len() <= LONG] {
                    summary { (said(benchmark.title)) " " span.quiet { (rows.len()) " categories" } }
                    (one(view, benchmark, rows))
                }
            }
        }
    }
}

fn one(view: &View<'_>, benchmark: &BenchmarkView<'_>, rows: &[CategoryRow<'_>]) -> Markup {
    let packages: Vec<(usize, &str)> = benchmark.runs.iter().map(|run| (run.package, view.package(run.package))).collect();
    html! {
        div.beside {
            @if let Some((drawing, left_out)) = charts::by_category(view, benchmark) {
                figure {
                    (chart(&drawing))
                    (packages_legend(&packages))
                    @if left_out > 0 {
                        figcaption { (rows.len() - left_out) " of " (rows.len()) " categories, those that differ most; the table has all." }
                    }
                }
            }
            @if rows.len() <= LONG {
                (scroll("Values by category", &table(benchmark, rows, &packages)))
            } @else {
                details {
                    summary { "All " (rows.len()) " categories in a table" }
                    (scroll("Values by category", &table(benchmark, rows, &packages)))
                }
            }
        }
    }
}

fn table(benchmark: &BenchmarkView<'_>, rows: &[CategoryRow<'_>], packages: &[(usize, &str)]) -> Markup {
    let unit = benchmark.unit(benchmark.primary_name());
    html! {
        table.tight.glance {
            caption { (said(benchmark.title)) ", " (said(benchmark.primary_name())) @if unit.is_percent() { ", %" } }
            thead { tr {
                th scope="col" { "Category" }
                th.n scope="col" { "n" }
                @for (_, package) in packages { th.n.package scope="col" { (said(package)) } }
            } }
            tbody {
                @for row in rows {
                    tr {
                        th.long[is_long(row.name)] scope="row" { (said(row.name)) }
                        td.n { (row.estimates.iter().flatten().next().map_or_else(|| MISSING.to_owned(), |first| format::count(first.n))) }
                        @for (package, _) in packages {
                            @let estimate = row.estimates.get(*package).copied().flatten();
                            @match paired(benchmark, *package, row.name) {
                                Some(paired) => (paired_cell(unit, paired, benchmark)),
                                None => td.n { (estimate.map_or_else(|| MISSING.to_owned(), |estimate| unit.value_and_half(estimate))) },
                            }
                        }
                    }
                }
            }
        }
    }
}

fn paired<'a>(benchmark: &BenchmarkView<'a>, package: usize, category: &str) -> Option<&'a PairedCategory> {
    let pair = benchmark.pairs.iter().find(|pair| pair.new == package)?;
    pair.pair.categories.iter().find(|known| known.category == category)
}

fn paired_cell(unit: Unit, paired: &PairedCategory, benchmark: &BenchmarkView<'_>) -> Markup {
    let marked = paired.adjusted_p_value.is_some_and(|p| p <= MARKED);
    let name = benchmark.primary_name();
    let higher = benchmark.runs.iter().find_map(|run| run.metric(name)).and_then(|metric| metric.higher_is_better);
    let (class, symbol, word) = match (marked, higher) {
        (true, Some(higher)) if (paired.difference.value > 0.0) == higher => ("n tint good", "▲", " better"),
        (true, Some(_)) => ("n tint bad", "▼", " worse"),
        _ => ("n", "", ""),
    };
    html! {
        td class=(class) {
            (unit.value(&paired.new))
            span.delta { (symbol) @if !word.is_empty() { span.aloud { (word) } " " } (unit.difference_and_half(&paired.difference)) }
        }
    }
}
