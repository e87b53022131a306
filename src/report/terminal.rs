//! A comparison as aligned text for a terminal or a log.

mod details;
pub(super) mod layout;
mod matrix;

use crate::compare::Comparison;
use crate::guard::escape;

use super::format::{self, MISSING};
use super::view::{BenchmarkView, View};
use layout::{columns, fit, left, paint, right, wrap};

pub use details::prompt_changes;

const NARROWEST: usize = 40;

/// What is shown, and how.
#[derive(Clone, Copy, Debug)]
pub struct TerminalOptions {
    /// Columns; 40 at least are used.
    pub width: usize,
    /// Whether verdicts have ANSI colours; symbols and words carry the same meaning without them.
    pub colour: bool,
    /// Samples whose score changed that are listed for each pair of runs.
    pub flips: usize,
    /// Whether each pair is shown by category.
    pub categories: bool,
}

/// [`comparison_with`] neither flips nor categories.
pub fn comparison(comparison: &Comparison, width: usize, colour: bool) -> String {
    comparison_with(comparison, &TerminalOptions { width, colour, flips: 0, categories: false })
}

/// The comparison as text of at most `width` columns where names allow it: the verdict in a sentence, accuracy by benchmark and
/// package with half of the 95 % interval, paired differences with what they rest on, changed samples and categories as far as
/// they are wanted, all runs of a benchmark against each other, and latency.
///
/// All text from outside is stripped of control characters. Every line ends with a line feed.
pub fn comparison_with(comparison: &Comparison, options: &TerminalOptions) -> String {
    let view = View::new(comparison);
    let TerminalOptions { colour, .. } = *options;
    let width = options.width.max(NARROWEST);
    let mut lines = Vec::new();
    let contests = view.contests();
    for contest in &contests {
        let headline = escape::terminal(&contest.headline(&view));
        lines.extend(wrap(&headline, width, "").into_iter().map(|line| paint(&line, "1", colour)));
    }
    if !contests.is_empty() {
        lines.push(String::new());
    }
    accuracy(&view, width, colour, &mut lines);
    for contest in &contests {
        lines.push(String::new());
        details::differences(&view, contest, width, colour, &mut lines);
        for standing in &contest.standings {
            if options.categories {
                details::categories(standing, width, &mut lines);
            }
            details::prompts(standing, width, &mut lines);
            details::flips(standing, options.flips, width, &mut lines);
        }
    }
    details::correction(&view, width, &mut lines);
    matrix::all(&view, width, colour, &mut lines);
    latency(&view, width, colour, &mut lines);
    let judges = view.judges();
    if !judges.is_empty() {
        lines.push(String::new());
        lines.push(paint("Judges", "1", colour));
        for judge in judges {
            lines.extend(wrap(&escape::terminal(&format!("  {judge}")), width, "    "));
        }
    }
    let cautions = view.cautions();
    if !cautions.is_empty() {
        lines.push(String::new());
        lines.push(paint("Caveats", "1", colour));
        for caution in cautions {
            lines.extend(wrap(&escape::terminal(&format!("  ! {caution}")), width, "    "));
        }
    }
    let mut text = lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

fn accuracy(view: &View<'_>, width: usize, colour: bool, lines: &mut Vec<String>) {
    let names: Vec<String> = view.packages.iter().map(|package| escape::terminal(package)).collect();
    let rows: Vec<Row> = view
        .benchmarks
        .iter()
        .map(|benchmark| {
            let has_run = |package: &usize| benchmark.run_of(*package).is_some();
            let values =
                (0..names.len()).map(|package| Some(package).filter(has_run).map(|package| value(benchmark, package))).collect();
            (benchmark_label(benchmark), values)
        })
        .collect();
    lines.push(paint("Accuracy, ± half of the 95 % interval", "1", colour));
    grid(&names, &rows, width, lines);
}

fn value(benchmark: &BenchmarkView<'_>, package: usize) -> String {
    let name = benchmark.primary_name();
    let metric = benchmark.run_of(package).and_then(|run| run.metric(name));
    metric.map_or_else(|| MISSING.to_owned(), |metric| benchmark.unit(name).value_and_half(&metric.estimate))
}

/// `pope  accuracy, %`.
fn benchmark_label(benchmark: &BenchmarkView<'_>) -> String {
    let name = benchmark.primary_name();
    let unit = if benchmark.unit(name).is_percent() { " %" } else { "" };
    escape::terminal(&format!("{} {name}{unit}", benchmark.name))
}

/// A label, and a value for each package that has a run.
type Row = (String, Vec<Option<String>>);

/// Rows × packages, as a table where it fits, otherwise package by package below each row's label, those without a run left
/// out.
fn grid(names: &[String], rows: &[Row], width: usize, lines: &mut Vec<String>) {
    let label = rows.iter().map(|(label, _)| columns(label)).max().unwrap_or(0).min(34);
    let cells: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let shown = rows.iter().filter_map(|(_, values)| values.get(column)).map(|value| columns(shown(value)));
            let widest = shown.max().unwrap_or(0);
            widest.max(columns(name).min(18))
        })
        .collect();
    let needed = 2 + label + cells.iter().map(|cell| cell + 2).sum::<usize>();
    if needed <= width {
        let header: String =
            names.iter().zip(&cells).map(|(name, cell)| format!("  {}", right(&fit(name, *cell), *cell))).collect();
        lines.push(format!("  {}{header}", left("", label)));
        for (name, values) in rows {
            let cells: String =
                values.iter().zip(&cells).map(|(value, cell)| format!("  {}", right(shown(value), *cell))).collect();
            lines.push(format!("  {}{cells}", left(&fit(name, label), label)));
        }
        return;
    }
    let value_width = rows.iter().flat_map(|(_, values)| values.iter().flatten()).map(|value| columns(value)).max().unwrap_or(0);
    let name_width = names.iter().map(|name| columns(name)).max().unwrap_or(0).min(width.saturating_sub(value_width + 6));
    for (name, values) in rows {
        lines.push(format!("  {}", fit(name, width - 2)));
        for (package, value) in names.iter().zip(values) {
            let Some(value) = value else { continue };
            lines.push(format!("    {}  {}", left(&fit(package, name_width), name_width), right(value, value_width)));
        }
    }
}

fn shown(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or(MISSING)
}

fn latency(view: &View<'_>, width: usize, colour: bool, lines: &mut Vec<String>) {
    let runs = || view.benchmarks.iter().flat_map(|benchmark| &benchmark.runs);
    if runs().all(|run| run.run.latency.per_question_ms.is_none() && run.run.latency.ttft.is_none()) {
        return;
    }
    let names: Vec<String> = view.packages.iter().map(|package| escape::terminal(package)).collect();
    let rows: Vec<Row> = view
        .benchmarks
        .iter()
        .map(|benchmark| {
            let values = (0..names.len()).map(|package| {
                let latency = &benchmark.run_of(package)?.run.latency;
                let per_question = format::milliseconds(latency.per_question_ms);
                let first = format::median_ms(latency.ttft.as_ref());
                Some(format!("{per_question} / {first}"))
            });
            (escape::terminal(benchmark.name), values.collect())
        })
        .collect();
    lines.push(String::new());
    let title = wrap("Milliseconds per question / to the first token (median)", width, "");
    lines.extend(title.into_iter().map(|line| paint(&line, "1", colour)));
    grid(&names, &rows, width, lines);
}
