//! All runs of a benchmark against each other.

use super::super::format;
use super::super::view::{BenchmarkView, View};
use super::details::verdict_color;
use super::layout::{columns, fit, left, paint, right, wrap};
use crate::compare::{BenchmarkMatrix, MatrixCell};
use crate::guard::escape;

/// Longest name of a package in a head of a column.
const LONGEST_NAME: usize = 18;

/// The matrices of all benchmarks.
pub(super) fn all(view: &View<'_>, width: usize, colour: bool, lines: &mut Vec<String>) {
    for matrix in &view.comparison.matrices {
        let Some(benchmark) = view.benchmarks.iter().find(|benchmark| benchmark.name == matrix.benchmark) else { continue };
        one(view, benchmark, matrix, width, colour, lines);
    }
}

fn one(
    view: &View<'_>,
    benchmark: &BenchmarkView<'_>,
    matrix: &BenchmarkMatrix,
    width: usize,
    colour: bool,
    lines: &mut Vec<String>,
) {
    // Labels tell runs of equal names apart.
    let labels: Vec<String> = matrix
        .packages
        .iter()
        .enumerate()
        .map(|(place, name)| escape::terminal(benchmark.runs.get(place).map_or(name.as_str(), |run| view.package(run.package))))
        .collect();
    let label = |place: usize| labels.get(place).map_or("", String::as_str);
    lines.push(String::new());
    let title = format!(
        "{} {}, every two runs: row minus column, verdicts corrected for all {} pairs",
        matrix.benchmark,
        matrix.metric,
        matrix.cells.len()
    );
    lines.extend(wrap(&escape::terminal(&title), width, "").into_iter().map(|line| paint(&line, "1", colour)));
    let unit = benchmark.unit(&matrix.metric);
    let text = |cell: &MatrixCell| format!("{} {}", unit.difference(&cell.difference), format::verdict_symbol(cell.verdict));
    let cell_width = matrix.cells.iter().map(|cell| columns(&text(cell))).max().unwrap_or(0);
    let heads: Vec<String> = (0..labels.len().saturating_sub(1)).map(|place| fit(label(place), LONGEST_NAME)).collect();
    let column_widths: Vec<usize> = heads.iter().map(|head| columns(head).max(cell_width)).collect();
    let name_width = labels.iter().map(|label| columns(label)).max().unwrap_or(0).min(LONGEST_NAME);
    if 2 + name_width + column_widths.iter().map(|column| column + 2).sum::<usize>() <= width {
        let head: String = heads.iter().zip(&column_widths).map(|(head, width)| format!("  {}", right(head, *width))).collect();
        lines.push(format!("  {}{head}", left("", name_width)));
        for row in 1..labels.len() {
            let mut line = format!("  {}", left(&fit(label(row), name_width), name_width));
            for (column, width) in column_widths.iter().enumerate().take(row) {
                match matrix.cells.iter().find(|cell| (cell.base, cell.new) == (column, row)) {
                    Some(cell) => {
                        let padded = right(&text(cell), *width);
                        line.push_str(&format!("  {}", paint(&padded, verdict_color(cell.verdict), colour)));
                    }
                    None => line.push_str(&format!("  {}", right(format::MISSING, *width))),
                }
            }
            lines.push(line);
        }
    } else {
        for cell in &matrix.cells {
            let names = format!("  {} minus {}:", label(cell.new), label(cell.base));
            let word = format::verdict_word(cell.verdict);
            lines.extend(wrap(&format!("{names} {} {word}", text(cell)), width, "    "));
        }
    }
    let ranking: Vec<String> = matrix
        .ranking
        .iter()
        .map(|ranked| {
            let place = match ranked.rank == ranked.worst_rank {
                true => ranked.rank.to_string(),
                false => format!("{}–{}", ranked.rank, ranked.worst_rank),
            };
            format!("{place} {}", label(ranked.run))
        })
        .collect();
    lines.extend(wrap(&format!("  Ranks that are beyond doubt: {}", ranking.join(" · ")), width, "    "));
}
