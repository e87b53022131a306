//! A history as Markdown.

use std::fmt::Write as _;

use crate::compare::History;
use crate::guard::escape;

use super::{METHOD, change_caution, change_text, measure_and_part, number, point_value, run_label, suffix, summary};

/// The document.
pub(super) fn document(history: &History, title: &str) -> String {
    let mut text = format!("# {}\n\n{}.\n", escape::markdown(title), summary(history));
    // Writing to a String cannot fail.
    if !history.series.is_empty() {
        text.push_str("\n| package | benchmark | measure | runs | first | last | change points |\n| --- | --- | --- | --: | --: | --: | --- |\n");
    }
    for series in &history.series {
        let changes: Vec<String> =
            series.strong_changes().map(|change| escape::markdown(&change_text(history, series, change))).collect();
        let last = series.points.len().saturating_sub(1);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {}{sfx} | {}{sfx} | {} |",
            escape::markdown(&series.package),
            escape::markdown(&series.benchmark),
            escape::markdown(&measure_and_part(history, series)),
            series.points.len(),
            series.points.first().map_or_else(String::new, |point| number(series, point.estimate.value)),
            point_value(series, last),
            if changes.is_empty() { "none".to_owned() } else { changes.join("; ") },
            sfx = suffix(series),
        );
    }
    notes(history, &mut text);
    for series in history.series.iter().filter(|series| series.points.len() > 1) {
        let _ = write!(
            text,
            "\n{} · {} · {}\n\n<details><summary>every run</summary>\n\n| run | date | value |\n| --- | --- | --: |\n",
            escape::markdown(&series.package),
            escape::markdown(&series.benchmark),
            escape::markdown(&measure_and_part(history, series))
        );
        for (index, point) in series.points.iter().enumerate() {
            let Some(run) = history.runs.get(point.run) else { continue };
            let _ = writeln!(
                text,
                "| {} | {} | {}{} |",
                escape::markdown(&run_label(run)),
                escape::markdown(&run.started),
                point_value(series, index),
                suffix(series)
            );
        }
        text.push_str("\n</details>\n");
    }
    let _ = write!(text, "\n{METHOD}\n");
    text
}

fn notes(history: &History, text: &mut String) {
    let mut lines: Vec<String> = Vec::new();
    for series in &history.series {
        if let Some(begins) = &series.begins {
            lines.push(format!("{}, {}, {}: {begins}", series.package, series.benchmark, measure_and_part(history, series)));
        }
        let cautions = series.strong_changes().filter_map(|change| Some((change, change_caution(change)?)));
        lines.extend(cautions.map(|(change, caution)| {
            format!("{}, {}, {}: {caution}", series.package, series.benchmark, change_text(history, series, change))
        }));
    }
    lines.extend(history.notes.iter().cloned());
    if !lines.is_empty() {
        text.push('\n');
    }
    for line in lines {
        let _ = writeln!(text, "* {}", escape::markdown(&line));
    }
}
