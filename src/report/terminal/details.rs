//! What a comparison of two packages says beside its verdict.

use super::super::format::{self, MISSING, Unit};
use super::super::view::{Contest, Standing, View};
use super::layout::{columns, fit, left, paint, right, wrap};
use crate::compare::{
    Estimate, LatencyComparison, LatencyVerdict, PairedTest, PromptDifference, Verdict, WordChange, word_changes,
};
use crate::guard::escape;

/// Paired differences of all benchmarks, each with what its verdict rests on.
pub(super) fn differences(view: &View<'_>, contest: &Contest<'_>, width: usize, colour: bool, lines: &mut Vec<String>) {
    let title = format!("{} minus {}, paired, 95 % interval", view.package(contest.new), view.package(contest.base));
    lines.extend(wrap(&escape::terminal(&title), width, "").into_iter().map(|line| paint(&line, "1", colour)));
    let rows: Vec<[String; 5]> = contest
        .standings
        .iter()
        .map(|standing| {
            let verdict = standing.metric.verdict;
            [
                escape::terminal(standing.name),
                standing.unit.difference(&standing.metric.difference),
                interval(standing.unit, &standing.metric.difference),
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
        let indent = " ".repeat(4);
        for grounds in [grounds(standing), speed(standing)].into_iter().flatten() {
            lines.extend(wrap(&format!("{indent}{grounds}"), width, &indent));
        }
    }
    if contest.standings.iter().any(|standing| standing.metric.verdict == Verdict::NoWorse) {
        let margin = contest.standings.first().map_or_else(String::new, |standing| standing.unit.size(view.comparison.margin));
        lines.extend(wrap(&format!("  “no worse”: a loss of more than {margin} is excluded"), width, "  "));
    }
}

/// `[−1.2, +0.4]`.
fn interval(unit: Unit, difference: &Estimate) -> String {
    match difference.interval {
        Some(_) => format!("[{}]", unit.difference_interval(difference).replace(" to ", ", ")),
        None => MISSING.to_owned(),
    }
}

/// The p-values and what these samples could have seen.
fn grounds(standing: &Standing<'_>) -> Option<String> {
    let metric = standing.metric;
    if metric.verdict == Verdict::Identical {
        return None;
    }
    let mut parts = Vec::new();
    if let Some(p_value) = metric.p_value {
        let test = match metric.test {
            Some(PairedTest::McnemarMidP) => ", McNemar's mid-p",
            Some(PairedTest::SignFlip) => ", signs of few clusters flipped",
            Some(PairedTest::Sign) => ", sign test over clusters",
            Some(PairedTest::PairedT) | None => "",
        };
        let adjusted = match metric.adjusted_p_value {
            Some(adjusted) if adjusted != p_value => format!(", corrected {}", p_text(adjusted)),
            _ => String::new(),
        };
        parts.push(format!("p {}{adjusted}{test}", p_text(p_value)));
    }
    if let Some(own) = metric.uncorrected_verdict {
        parts.push(format!("alone it would be “{}”", format::verdict_word(own)));
    }
    if let Some(effect) = metric.minimum_detectable_effect {
        let suffix = standing.unit.difference_suffix();
        parts.push(format!("{}{suffix} could be seen with 80 % power", standing.unit.size(effect)));
    }
    if let Some(samples) = metric.samples_to_settle {
        parts.push(format!("about {} samples would settle it", format::count(samples)));
    }
    if let Some(bounds) = metric.bootstrap_interval {
        let bootstrap = Estimate { interval: Some(bounds), ..metric.difference };
        parts.push(format!("bootstrap {}", interval(standing.unit, &bootstrap)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn p_text(value: f64) -> String {
    let text = format::p_value(Some(value));
    if text.starts_with('<') { text } else { format!("= {text}") }
}

/// Speed against the noise of the machine.
fn speed(standing: &Standing<'_>) -> Option<String> {
    let latency: &LatencyComparison = standing.pair.latency.as_ref()?;
    let ratio = &latency.ratio;
    let bounds = ratio
        .interval
        .map_or_else(String::new, |[low, high]| format!(" [{}, {}]", format::significant(low), format::significant(high)));
    let word = match latency.verdict {
        LatencyVerdict::Slower => "▼ slower",
        LatencyVerdict::Faster => "▲ faster",
        LatencyVerdict::WithinNoise => "= within noise",
        LatencyVerdict::TooFew => "? too few images to tell",
    };
    let source = match latency.noise_pairs {
        0 => "by default".to_owned(),
        1 => "from 1 pair of runs of one package".to_owned(),
        pairs => format!("from {pairs} pairs of runs of one package"),
    };
    let how = if latency.unpaired { ", unpaired" } else { "" };
    Some(format!(
        "engine time × {}{bounds}{how}: {word} (band ±{} %, {source})",
        format::significant(ratio.value),
        format::significant(100.0 * latency.noise_band)
    ))
}

/// How many verdicts were corrected for each other, where there are several.
pub(super) fn correction(view: &View<'_>, width: usize, lines: &mut Vec<String>) {
    if let Some(sentence) = view.multiplicity() {
        lines.push(String::new());
        lines.extend(wrap(&escape::terminal(&sentence), width, ""));
    }
}

/// The primary metric by category.
pub(super) fn categories(standing: &Standing<'_>, width: usize, lines: &mut Vec<String>) {
    let categories = &standing.pair.categories;
    if categories.is_empty() {
        return;
    }
    lines.push(String::new());
    let title = format!("{} by category; p adjusted for looking at all of them (Benjamini and Hochberg)", standing.name);
    lines.extend(wrap(&escape::terminal(&title), width, ""));
    let unit = standing.unit;
    let rows: Vec<[String; 6]> = categories
        .iter()
        .map(|category| {
            [
                escape::terminal(&category.category),
                format!("{} → {}", unit.value(&category.base), unit.value(&category.new)),
                unit.difference(&category.difference),
                interval(unit, &category.difference),
                format!("p {}", category.adjusted_p_value.map_or_else(|| MISSING.to_owned(), p_text)),
                format!("n {}", format::count(category.difference.n)),
            ]
        })
        .collect();
    table(&rows, width, lines);
}

/// Rows whose first column gives way where they are too wide; where that is not enough, the last columns go below.
fn table<const N: usize>(rows: &[[String; N]], width: usize, lines: &mut Vec<String>) {
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell)).max().unwrap_or(0);
    let rest: usize = (1..N).map(|column| widest(column) + 2).sum();
    let room = width.saturating_sub(2 + rest);
    if room >= 12 || room >= widest(0) {
        let first = widest(0).min(room);
        for row in rows {
            let mut line = String::from("  ");
            for (column, cell) in row.iter().enumerate() {
                match column {
                    0 => line.push_str(&left(&fit(cell, first), first)),
                    _ => line.push_str(&format!("  {}", right(cell, widest(column)))),
                }
            }
            lines.push(line);
        }
        return;
    }
    for row in rows {
        let Some((name, cells)) = row.split_first() else { continue };
        lines.push(format!("  {}", fit(name, width.saturating_sub(2))));
        lines.extend(wrap(&format!("    {}", cells.join("  ")), width, "    "));
    }
}

/// Characters of an answer or a question that a line shows.
const SHOWN: usize = 60;

/// The first samples whose score changed, broken ones first.
pub(super) fn flips(standing: &Standing<'_>, most: usize, width: usize, lines: &mut Vec<String>) {
    let all = &standing.pair.flips;
    if most == 0 || all.is_empty() {
        return;
    }
    lines.push(String::new());
    let shown = all.len().min(most);
    let of = if shown < all.len() { format!(", {shown} of {}", format::count(all.len())) } else { String::new() };
    let title = format!("{}: changed scores{of} (− broken, + fixed)", standing.name);
    lines.extend(wrap(&escape::terminal(&title), width, ""));
    for flip in all.iter().take(most) {
        let sign = match format::compare_scores(flip.base.score, flip.new.score) {
            std::cmp::Ordering::Less => '+',
            _ => '−',
        };
        let answer = |text: &str| format!("“{}”", escape::shorten_middle(escape::terminal(text).trim(), SHOWN));
        let key = escape::shorten_middle(&escape::terminal(&flip.key), SHOWN);
        let question = escape::shorten_middle(escape::terminal(&flip.question).trim(), SHOWN);
        let question = if question.is_empty() { String::new() } else { format!("  {question}") };
        let text = format!("  {sign} {key}  {} → {}{question}", answer(&flip.base.text), answer(&flip.new.text));
        lines.extend(wrap(&text, width, "      "));
    }
}

/// How the prompts of two runs differ, if they do.
pub(super) fn prompts(standing: &Standing<'_>, width: usize, lines: &mut Vec<String>) {
    let Some(prompts) = &standing.pair.prompt_difference else { return };
    lines.push(String::new());
    let key = escape::shorten_middle(&prompts.key, SHOWN);
    let title = format!("{}: {} were asked in other words, such as {key}", standing.name, samples(prompts.samples));
    lines.extend(wrap(&escape::terminal(&title), width, ""));
    lines.extend(prompt_changes(prompts, width));
}

fn samples(count: usize) -> String {
    format::counted(count, "sample", "samples")
}

/// Unchanged characters that are shown at either side of a change.
const CONTEXT: usize = 40;

/// The difference of two prompts as lines of at most `width` columns: `[-words of the first-]{+words of the second+}`, with a
/// mark for each line feed, and long unchanged stretches shortened.
pub fn prompt_changes(prompts: &PromptDifference, width: usize) -> Vec<String> {
    let changes = word_changes(&prompts.base, &prompts.new);
    let last = changes.len().saturating_sub(1);
    let plain = |text: &str| escape::terminal(&text.replace('\n', "⏎ "));
    let mut shown = String::from("    ");
    for (place, change) in changes.iter().enumerate() {
        match change {
            WordChange::Same(text) => {
                let characters: Vec<char> = plain(text).chars().collect();
                let begin = if place == 0 { 0 } else { CONTEXT };
                let end = if place == last { 0 } else { CONTEXT };
                if characters.len() <= begin + end + 3 {
                    shown.extend(&characters);
                } else {
                    shown.extend(characters.iter().take(begin));
                    shown.push_str(" … ");
                    shown.extend(characters.iter().skip(characters.len() - end));
                }
            }
            WordChange::Removed(text) => shown.push_str(&format!("[-{}-]", plain(text))),
            WordChange::Added(text) => shown.push_str(&format!("{{+{}+}}", plain(text))),
        }
    }
    wrap(&shown, width, "    ")
}

pub(super) fn verdict_color(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Regressed => "31",
        Verdict::Improved => "32",
        Verdict::Inconclusive => "33",
        Verdict::NoWorse | Verdict::Identical => "36",
        Verdict::Descriptive => "2",
    }
}
