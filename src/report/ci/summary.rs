//! GitHub's job summary and a comment on a pull request: Markdown that keeps within GitHub's limits by leaving out whole rows
//! and sections, and says which.

use std::fmt::Write as _;

use crate::compare::gate::{Gate, GateOutcome};
use crate::compare::{Flip, FlipSide};
use crate::guard::escape::{markdown as escape, shorten};

use super::super::format;
use super::super::view::View;
use super::{ExportInput, words};

/// GitHub drops a job summary above 1 MiB as a whole.
const SUMMARY_LIMIT_BYTES: usize = 1 << 20;

/// GitHub refuses a comment above 65,536 characters; bytes are no fewer.
const COMMENT_LIMIT_BYTES: usize = 65_536;

/// Room kept for saying what was left out.
const RESERVE_BYTES: usize = 2_048;

/// By this mark, which shows nothing, a bot finds its comment again and updates it.
pub(super) const COMMENT_MARKER: &str = "<!-- llava-gauge:report -->";

/// Longest question or answer shown, in characters.
const LONGEST_TEXT: usize = 300;

/// Rows with what stands around them. Where not all fit, the first ones stay.
struct Section {
    title: String,
    head: String,
    rows: Vec<String>,
    tail: &'static str,
}

/// The job summary.
pub(super) fn job_summary(input: &ExportInput<'_>, view: &View<'_>) -> String {
    fitted(String::new(), input, view, SUMMARY_LIMIT_BYTES)
}

/// The comment, with its marker first.
pub(super) fn comment(input: &ExportInput<'_>, view: &View<'_>) -> String {
    fitted(format!("{COMMENT_MARKER}\n"), input, view, COMMENT_LIMIT_BYTES)
}

fn fitted(mut out: String, input: &ExportInput<'_>, view: &View<'_>, limit_bytes: usize) -> String {
    out.push_str(&opening(input, view));
    let room = limit_bytes.saturating_sub(RESERVE_BYTES);
    if out.len() > room {
        // Only absurd names can make the opening that long; the marker comes first and stays.
        let mut end = room;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
    }
    let mut left_out = Vec::new();
    for section in sections(input, view) {
        let frame = section.head.len() + section.tail.len();
        let mut rows = String::new();
        let mut shown = 0;
        for row in &section.rows {
            if out.len() + frame + rows.len() + row.len() > room {
                break;
            }
            rows.push_str(row);
            shown += 1;
        }
        if shown == 0 && (!section.rows.is_empty() || out.len() + frame > room) {
            left_out.push(section.title);
            continue;
        }
        if shown < section.rows.len() {
            left_out.push(format!("{} of {} in “{}”", section.rows.len() - shown, section.rows.len(), section.title));
        }
        let _ = write!(out, "{}{rows}{}", section.head, section.tail);
    }
    if !left_out.is_empty() {
        let text = format!("Left out to stay within GitHub's {limit_bytes} bytes: {}.", left_out.join("; "));
        let _ = writeln!(out, "_{}_\n", escape(&shorten(&text, RESERVE_BYTES / 4)));
    }
    out
}

/// The verdict.
fn opening(input: &ExportInput<'_>, view: &View<'_>) -> String {
    let mut out = String::new();
    if let Some(gates) = input.gates {
        let symbol = match gates.result {
            crate::compare::gate::GateResult::Passed => "✅",
            crate::compare::gate::GateResult::Incomplete => "⏳",
            _ => "❌",
        };
        let _ = writeln!(out, "### {symbol} {}: {}\n", escape(input.title), escape(&words::headline(gates)));
    } else {
        let _ = writeln!(out, "### {}\n", escape(input.title));
        for contest in view.contests() {
            let _ = writeln!(out, "**{}**\n", escape(&contest.headline(view)));
        }
    }
    out
}

fn sections(input: &ExportInput<'_>, view: &View<'_>) -> Vec<Section> {
    let mut sections = Vec::new();
    if let Some(gates) = input.gates {
        let pick = |wanted: bool| -> Vec<&Gate> {
            let urgent = |gate: &&Gate| matches!(gate.outcome, GateOutcome::Failed | GateOutcome::Incomplete) == wanted;
            gates.gates.iter().filter(urgent).collect()
        };
        sections.extend(gate_table("Gates that did not pass", &pick(true), false));
        sections.extend(gate_table("Gates that passed or were not judged", &pick(false), true));
        let head = format!("{}\n\n", escape(&words::method(gates)));
        sections.push(Section { title: "Method".to_owned(), head, rows: Vec::new(), tail: "" });
    }
    sections.push(accuracy(view));
    // What is long comes last.
    let cautions: Vec<String> = view.cautions().iter().map(|caution| format!("- {}\n", escape(caution))).collect();
    sections.extend(details("Caveats", "", cautions));
    for pair in &input.comparison.pairs {
        let title = format!("{}: {} broken, {} fixed samples", pair.benchmark, pair.broken, pair.fixed);
        let rows = pair.flips.iter().map(flip).collect();
        sections.extend(details(&title, "| sample | question | before | now |\n|---|---|---|---|\n", rows));
    }
    sections
}

fn gate_table(title: &str, gates: &[&Gate], folded: bool) -> Option<Section> {
    const HEAD: &str = "| | package | benchmark | gate | limit | found | why |\n|---|---|---|---|---|---|---|\n";
    let row = |gate: &&Gate| {
        let cell = |text: &str| escape(&shorten(text, LONGEST_TEXT));
        format!(
            "| {} {} | {} | {} | {} | {} | {} | {} |\n",
            words::symbol(gate.outcome),
            words::outcome(gate.outcome),
            cell(gate.package.as_deref().unwrap_or_default()),
            cell(gate.benchmark.as_deref().unwrap_or_default()),
            cell(&words::subject(gate)),
            cell(&words::limit(gate)),
            cell(&words::found(gate)),
            cell(&words::reason(gate)),
        )
    };
    let rows: Vec<String> = gates.iter().map(row).collect();
    match (rows.is_empty(), folded) {
        (true, _) => None,
        (false, true) => details(title, HEAD, rows),
        (false, false) => Some(Section { title: title.to_owned(), head: format!("#### {title}\n\n{HEAD}"), rows, tail: "\n" }),
    }
}

/// A section that is folded away until somebody opens it.
fn details(title: &str, head: &str, rows: Vec<String>) -> Option<Section> {
    let head = format!("<details><summary>{}</summary>\n\n{head}", escape(title));
    (!rows.is_empty()).then(|| Section { title: title.to_owned(), head, rows, tail: "\n</details>\n\n" })
}

fn accuracy(view: &View<'_>) -> Section {
    let mut rows = Vec::new();
    for benchmark in &view.benchmarks {
        let name = benchmark.primary_name();
        for run in &benchmark.runs {
            let value = run.metric(name).map_or_else(
                || format::MISSING.to_owned(),
                |metric| format!("{}{}", benchmark.unit(name).value_and_half(&metric.estimate), benchmark.unit(name).suffix()),
            );
            let latency = format::milliseconds(run.run.latency.per_question_ms);
            rows.push(format!(
                "| {} | {} | {} | {} | {} | {} | {latency} |\n",
                escape(&shorten(benchmark.name, LONGEST_TEXT)),
                escape(&shorten(view.package(run.package), LONGEST_TEXT)),
                escape(&shorten(name, LONGEST_TEXT)),
                escape(&value),
                format::count(run.run.records),
                run.run.failed,
            ));
        }
    }
    let head = "#### Scores\n\nValue ± half of the 95 % interval, clustered by image.\n\n\
                | benchmark | package | metric | value | samples | failed | ms per question |\n|---|---|---|---|---|---|---|\n";
    Section { title: "Scores".to_owned(), head: head.to_owned(), rows, tail: "\n" }
}

fn flip(flip: &Flip) -> String {
    let cell = |text: &str| escape(&shorten(text, LONGEST_TEXT));
    let side = |side: &FlipSide| {
        let score = side.score.map_or_else(|| format::MISSING.to_owned(), |score| format::number(score, 2));
        format!("{score}: {}", shorten(&side.text, LONGEST_TEXT))
    };
    format!("| {} | {} | {} | {} |\n", cell(&flip.key), cell(&flip.question), escape(&side(&flip.base)), escape(&side(&flip.new)))
}
