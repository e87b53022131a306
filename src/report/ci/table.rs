//! Gates as aligned text for a terminal or a log.

use crate::compare::gate::{GateOutcome, GateReport};
use crate::guard::escape;

use super::words;

/// Widest column of free text.
const WIDEST: usize = 44;

/// The result and every gate, one a line, with its reason below where it did not pass or has more to say. Text from outside is
/// stripped of control characters; `colour` adds ANSI colours to the words for outcomes.
pub fn table(report: &GateReport, colour: bool) -> String {
    let paint = |text: &str, code: &str| match colour {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    let mut text = paint(&escape::terminal(&words::headline(report)), "1");
    text.push('\n');
    let several = report.gates.iter().any(|gate| gate.package != report.gates.first().and_then(|first| first.package.clone()));
    let rows: Vec<[String; 4]> = report
        .gates
        .iter()
        .map(|gate| {
            let benchmark = gate.benchmark.as_deref().unwrap_or_default();
            let package = gate.package.as_deref().filter(|_| several).map_or_else(String::new, |name| format!("{name} "));
            let place = escape::terminal(&format!("{package}{benchmark}"));
            let cells = [place, escape::terminal(&words::subject(gate)), words::limit(gate), words::found(gate)];
            cells.map(|cell| escape::shorten_middle(&cell, WIDEST))
        })
        .collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    for (gate, row) in report.gates.iter().zip(&rows) {
        let code = match gate.outcome {
            GateOutcome::Passed => "32",
            GateOutcome::Failed => "31",
            GateOutcome::Incomplete => "33",
            GateOutcome::Skipped => "2",
        };
        let word = paint(&format!("{} {:<10}", words::symbol(gate.outcome), words::outcome(gate.outcome)), code);
        let mut line = format!("  {word}");
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("  {cell}{}", " ".repeat(width.saturating_sub(cell.chars().count()))));
        }
        text.push_str(line.trim_end());
        text.push('\n');
        let reason = escape::terminal(&words::reason(gate));
        if !reason.is_empty() {
            text.push_str(&format!("      {reason}\n"));
        }
    }
    text.push_str(&format!("{}\n", words::method(report)));
    text
}
