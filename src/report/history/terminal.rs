//! A history as text: one line a series with a sparkline, and the changes below.

use crate::compare::{History, HistorySeries};
use crate::guard::escape;

use super::{change_caution, change_text, measure_and_part, number, point_value, suffix, summary};

/// How the text is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryText {
    /// Columns.
    pub width: usize,
    /// ANSI colours for the words better and worse.
    pub colour: bool,
    /// Only ASCII in sparklines: digits 1 to 8 in the place of blocks.
    pub ascii: bool,
}

/// Levels of a sparkline, the lowest first.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const DIGITS: [char; 8] = ['1', '2', '3', '4', '5', '6', '7', '8'];

/// Most characters of a sparkline, where the width allows it; of a longer series its last points are shown.
const LONGEST: usize = 40;

/// Columns that first value, last value and count take at most, as a rule.
const RANGE_COLUMNS: usize = 38;

/// The history as text. Everything from outside is stripped of control characters.
pub fn text(history: &History, how: HistoryText) -> String {
    let mut lines = vec![summary(history)];
    let mut above: Option<(&str, &str)> = None;
    let names: Vec<String> = history.series.iter().map(|series| escape::terminal(&measure_and_part(history, series))).collect();
    let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(40);
    let longest = how.width.saturating_sub(name_width + RANGE_COLUMNS + 6).clamp(8, LONGEST);
    let spark_width = history.series.iter().map(|series| series.points.len().min(longest)).max().unwrap_or(0);
    for (series, name) in history.series.iter().zip(&names) {
        let here = (series.package.as_str(), series.benchmark.as_str());
        if above != Some(here) {
            lines.push(String::new());
            let heading = format!("{} · {}", escape::terminal(here.0), escape::terminal(here.1));
            lines.push(if how.colour { format!("\u{1b}[1m{heading}\u{1b}[0m") } else { heading });
            above = Some(here);
        }
        let name = escape::shorten_middle(name, name_width);
        let spark = sparkline(series, how.ascii, longest);
        let pad = |text: &str, width: usize| format!("{text}{}", " ".repeat(width.saturating_sub(text.chars().count())));
        lines.push(format!("  {}  {}  {}", pad(&name, name_width), pad(&spark, spark_width), range(series)));
        if let Some(begins) = &series.begins {
            lines.push(format!("      begins anew: {}", escape::terminal(begins)));
        }
        for change in series.strong_changes() {
            let said = escape::terminal(&change_text(history, series, change));
            let (mark, code) = match change.better {
                Some(true) => ("+", "32"),
                Some(false) => ("!", "31"),
                None => ("*", "33"),
            };
            lines.push(if how.colour {
                format!("    \u{1b}[{code}m{mark} {said}\u{1b}[0m")
            } else {
                format!("    {mark} {said}")
            });
            if let Some(caution) = change_caution(change) {
                lines.push(format!("      {caution}"));
            }
        }
    }
    if !history.notes.is_empty() {
        lines.push(String::new());
        lines.extend(history.notes.iter().map(|note| format!("! {}", escape::terminal(note))));
    }
    let mut text = lines.iter().map(|line| fitted(line, how.width)).collect::<Vec<_>>().join("\n");
    if how.ascii {
        let plain =
            [("→", "->"), ("±", "+/-"), ("−", "-"), ("–", "-"), ("·", "/"), ("…", "..."), ("\u{202F}", " "), ("\u{a0}", " ")];
        text = plain.iter().fold(text, |text, (from, to)| text.replace(from, to));
    }
    text.push('\n');
    text
}

/// A line in the columns there are, continued on indented lines; broken at spaces.
fn fitted(line: &str, width: usize) -> String {
    let width = width.max(40);
    let visible = |text: &str| text.chars().filter(|character| *character != '\u{1b}').count();
    // Escape codes take a few characters that are not seen: such a line may be broken a little early.
    if visible(line) <= width {
        return line.trim_end().to_owned();
    }
    let indent: String = line.chars().take_while(|character| *character == ' ').chain("    ".chars()).collect();
    let mut done = String::new();
    let mut current: String = line.chars().take_while(|character| *character == ' ').collect();
    let mut empty = true;
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        if !empty && visible(&current) + 1 + visible(word) > width {
            done.push_str(current.trim_end());
            done.push('\n');
            current.clone_from(&indent);
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    done.push_str(current.trim_end());
    done
}

/// First value, last value and how many.
fn range(series: &HistorySeries) -> String {
    let count = series.points.len();
    let last = format!("{}{}", point_value(series, count.saturating_sub(1)), suffix(series));
    if count < 2 {
        return format!("{last}  (1 run)");
    }
    let first = series.points.first().map_or_else(String::new, |point| number(series, point.estimate.value));
    format!("{first} → {last}  ({count} runs)")
}

/// A character a point, from the lowest value to the highest; a series without any difference stands in the middle.
fn sparkline(series: &HistorySeries, ascii: bool, longest: usize) -> String {
    let levels = if ascii { DIGITS } else { BLOCKS };
    let from = series.points.len().saturating_sub(longest);
    let values: Vec<f64> = series.points.iter().skip(from).map(|point| point.estimate.value).collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let level = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        levels.get(((share * 7.0).round() as usize).min(7)).copied().unwrap_or(' ')
    };
    values.into_iter().map(level).collect()
}
