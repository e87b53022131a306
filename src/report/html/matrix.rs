//! Every run of a benchmark against every other, and who ranks where.

use maud::{Markup, html};

use crate::compare::{BenchmarkMatrix, RankedRun};

use super::super::format::{self, MISSING};
use super::super::view::{BenchmarkView, View};
use super::{is_long, said, scroll};

/// The section; nothing where no benchmark has three runs.
pub(super) fn section(view: &View<'_>) -> Markup {
    let matrices: Vec<(&BenchmarkView<'_>, &BenchmarkMatrix)> = view
        .comparison
        .matrices
        .iter()
        .filter_map(|matrix| Some((view.benchmarks.iter().find(|benchmark| benchmark.name == matrix.benchmark)?, matrix)))
        .collect();
    if matrices.is_empty() {
        return html! {};
    }
    html! {
        section #ranking aria-labelledby="ranking-heading" {
            h2 #ranking-heading { "Ranking and all pairs" }
            p.note { "A rank is 1 plus the number of packages that are better beyond doubt, at 5\u{a0}% for all pairs of the benchmark together \
                (Holm). A range such as 1–3 means that these samples cannot say which of those ranks it is." }
            (scroll("Ranks by benchmark and package", &ranks(view, &matrices)))
            details.block {
                summary { "All pairs, benchmark by benchmark" }
                @for (benchmark, matrix) in &matrices {
                    h3 { (said(benchmark.title)) }
                    (scroll(&format!("All pairs, {}", benchmark.title), &pairs(view, benchmark, matrix)))
                }
            }
        }
    }
}

/// The package of a run of a matrix, an index into `View::packages`.
fn package(benchmark: &BenchmarkView<'_>, run: usize) -> Option<usize> {
    benchmark.runs.get(run).map(|run| run.package)
}

fn ranks(view: &View<'_>, matrices: &[(&BenchmarkView<'_>, &BenchmarkMatrix)]) -> Markup {
    html! {
        table.glance.tight {
            caption { "Rank of each package, 1 is best" }
            thead { tr {
                th scope="col" { "Benchmark" }
                @for package in &view.packages { th.n.package scope="col" { (said(package)) } }
            } }
            tbody {
                @for (benchmark, matrix) in matrices {
                    tr {
                        th.long[is_long(benchmark.title)] scope="row" { (said(benchmark.title)) }
                        @for index in 0..view.packages.len() {
                            @match matrix.ranking.iter().find(|ranked| package(benchmark, ranked.run) == Some(index)) {
                                Some(ranked) => td.n { @if ranked.worst_rank == 1 { b { "1" } } @else { (rank(ranked)) } },
                                None => td.n.quiet { (MISSING) },
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `2`, or `1–3` where samples do not tell.
pub(in super::super) fn rank(ranked: &RankedRun) -> String {
    match ranked.worst_rank > ranked.rank {
        true => format!("{}–{}", ranked.rank, ranked.worst_rank),
        false => ranked.rank.to_string(),
    }
}

fn pairs(view: &View<'_>, benchmark: &BenchmarkView<'_>, matrix: &BenchmarkMatrix) -> Markup {
    let unit = benchmark.unit(&matrix.metric);
    let name = |run: usize| {
        let index = package(benchmark, run);
        index.map_or_else(|| matrix.packages.get(run).map_or("", String::as_str), |index| view.package(index))
    };
    let count = matrix.packages.len();
    html! {
        table.glance.tight {
            caption { (said(&matrix.metric)) ": row minus column ± half of its 95\u{a0}% interval" }
            thead { tr {
                th scope="col" { span.aloud { "Package" } }
                @for column in 0..count.saturating_sub(1) { th.n.package scope="col" { (said(name(column))) } }
            } }
            tbody {
                @for row in 1..count {
                    tr {
                        th.long[is_long(name(row))] scope="row" { (said(name(row))) }
                        @for column in 0..count.saturating_sub(1) {
                            @match matrix.cells.iter().find(|cell| cell.new == row && cell.base == column) {
                                Some(cell) => td class={"n tint " (format::verdict_class(cell.verdict))} {
                                    (format::verdict_symbol(cell.verdict)) span.aloud { " " (format::verdict_word(cell.verdict)) }
                                    " " (unit.difference_and_half(&cell.difference))
                                },
                                None => td.n {},
                            }
                        }
                    }
                }
            }
        }
    }
}
