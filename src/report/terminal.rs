//! A comparison as aligned text for a terminal or a log.

use crate::compare::{Comparison, Verdict};
use crate::guard::escape;

use super::format::{self, MISSING};
use super::view::{BenchmarkView, Contest, View};

const NARROWEST: usize = 40;

/// The comparison as text of at most `width` columns where names allow it (40 at least): the verdict in a sentence,
/// accuracy by benchmark and package with half of the 95 % interval, paired differences, and latency.
///
/// All text from outside is stripped of control characters. `colour` adds ANSI colours to verdicts; symbols and words
/// carry the same meaning without them. Every line ends with a line feed.
pub fn comparison(comparison: &Comparison, width: usize, colour: bool) -> String {
    let view = View::new(comparison);
    let width = width.max(NARROWEST);
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
        differences(&view, contest, width, colour, &mut lines);
    }
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

fn differences(view: &View<'_>, contest: &Contest<'_>, width: usize, colour: bool, lines: &mut Vec<String>) {
    let title = format!("{} minus {}, paired, 95 % interval", view.package(contest.new), view.package(contest.base));
    lines.extend(wrap(&escape::terminal(&title), width, "").into_iter().map(|line| paint(&line, "1", colour)));
    let rows: Vec<[String; 5]> = contest
        .standings
        .iter()
        .map(|standing| {
            let difference = &standing.metric.difference;
            let verdict = standing.metric.verdict;
            let interval = match difference.interval {
                Some(_) => format!("[{}]", standing.unit.difference_interval(difference).replace(" to ", ", ")),
                None => MISSING.to_owned(),
            };
            [
                escape::terminal(standing.name),
                standing.unit.difference(difference),
                interval,
                format!("{} {}", format::verdict_symbol(verdict), format::verdict_word(verdict)),
                format!(
                    "{} fixed, {} broken, {} same",
                    format::count(standing.pair.fixed),
                    format::count(standing.pair.broken),
                    format::count(standing.pair.same)
                ),
            ]
        })
        .collect();
    let widths: Vec<usize> =
        (0..5).map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell)).max().unwrap_or(0)).collect();
    let [name, value, interval, verdict, flips] = widths.as_slice() else { return };
    let room = width.saturating_sub(2 + value + interval + verdict + 6).max(8);
    let name = &(*name).min(room);
    let flips_fit = 2 + name + value + interval + verdict + flips + 8 <= width;
    for ([benchmark, difference, bounds, word, counts], standing) in rows.iter().zip(&contest.standings) {
        let word = paint(&left(word, *verdict), verdict_color(standing.metric.verdict), colour);
        let flips = if flips_fit { format!("  {counts}") } else { String::new() };
        lines.push(format!(
            "  {}  {}  {}  {word}{flips}",
            left(&fit(benchmark, *name), *name),
            right(difference, *value),
            right(bounds, *interval)
        ));
        if !flips_fit {
            lines.push(format!("  {}  {counts}", left("", *name)));
        }
    }
    if contest.standings.iter().any(|standing| standing.metric.verdict == Verdict::NoWorse) {
        let margin = contest.standings.first().map_or_else(String::new, |standing| standing.unit.size(view.comparison.margin));
        lines.extend(wrap(&format!("  “no worse”: a loss of more than {margin} is excluded"), width, "  "));
    }
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

fn verdict_color(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Regressed => "31",
        Verdict::Improved => "32",
        Verdict::Inconclusive => "33",
        Verdict::NoWorse | Verdict::Identical => "36",
        Verdict::Descriptive => "2",
    }
}

pub(super) fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Columns that a text takes: two for East Asian wide characters and emoji, none for combining marks.
fn columns(text: &str) -> usize {
    text.chars()
        .map(|character| match character {
            '\u{0300}'..='\u{036F}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}' => 0,
            '\u{1100}'..='\u{115F}'
            | '\u{2E80}'..='\u{A4CF}'
            | '\u{AC00}'..='\u{D7A3}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{FE30}'..='\u{FE6F}'
            | '\u{FF00}'..='\u{FF60}'
            | '\u{FFE0}'..='\u{FFE6}'
            | '\u{1F300}'..='\u{1FAFF}'
            | '\u{20000}'..='\u{3FFFD}' => 2,
            _ => 1,
        })
        .sum()
}

pub(super) fn left(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

pub(super) fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

/// The text in at most `width` columns.
fn fit(text: &str, width: usize) -> String {
    let mut limit = width;
    let mut fitted = escape::shorten_middle(text, limit);
    while columns(&fitted) > width && limit > 1 {
        limit -= 1;
        fitted = escape::shorten_middle(text, limit);
    }
    fitted
}

/// Lines of at most `width` columns, broken at spaces; later lines are indented. A longer word stands alone.
pub(super) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let start: String = text.chars().take_while(|character| *character == ' ').collect();
    let mut line = start;
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !empty && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(columns("模型a"), 5);
        assert_eq!(columns("e\u{301}"), 1);
        assert_eq!(right("模", 4), "  模");
        assert!(columns(&fit("模型模型模型模型", 7)) <= 7);
    }

    #[test]
    fn long_lines_are_wrapped_at_spaces() {
        assert_eq!(wrap("  ! one two three", 9, "    "), ["  ! one", "    two", "    three"]);
        assert_eq!(wrap("unbreakable", 4, ""), ["unbreakable"]);
    }
}
