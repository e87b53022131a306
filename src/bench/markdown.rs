//! The result as Markdown.

use super::results::BenchResult;
use super::table::{HEADINGS, columns, limits, notes, rows};
use crate::guard::escape;

/// The whole result as Markdown: the table, then notes as a list.
pub fn to_markdown(result: &BenchResult) -> String {
    let columns = columns(result);
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines = vec![row(columns.iter().filter_map(|&column| HEADINGS.get(column)).map(|cell| (*cell).to_owned()).collect())];
    lines.push(row(columns.iter().map(|&column| if column < 2 { "---" } else { "---:" }.to_owned()).collect()));
    for cells in rows(result) {
        lines.push(row(columns.iter().filter_map(|&column| cells.get(column)).map(|cell| escape::markdown(cell)).collect()));
    }
    lines.push(String::new());
    let warnings = result.warnings().into_iter().map(|warning| format!("warning: {warning}"));
    let notes = notes(result).into_iter().chain(limits(result)).chain(warnings);
    lines.extend(notes.map(|note| format!("- {}", escape::markdown(&note))));
    lines.join("\n") + "\n"
}
