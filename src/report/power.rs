//! A plan of sample sizes as text.

use crate::compare::{BenchmarkPower, DropPower, PowerBasis, PowerPlan};
use crate::guard::escape;

use super::format::{MISSING, Unit, count, counted, number};
use super::terminal::layout::wrap;

/// The plan as text: for each benchmark what it rests on, the smallest drop that its samples show, and a table of what each drop
/// needs. Sentences are wrapped at `width` columns; all text from outside is stripped of control characters. Every line ends
/// with a line feed.
pub fn text(plan: &PowerPlan, width: usize) -> String {
    let mut lines = vec![format!(
        "Samples needed to find a drop with {} probability, two-sided test at {}",
        percent(plan.power),
        percent(plan.alpha)
    )];
    for benchmark in &plan.benchmarks {
        lines.push(String::new());
        one(benchmark, plan, width, &mut lines);
    }
    let mut text = lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

/// `80 %`, `2.5 %`.
fn percent(share: f64) -> String {
    let value = share * 100.0;
    let decimals = if (value - value.round()).abs() < 1e-9 { 0 } else { 1 };
    format!("{} %", number(value, decimals))
}

fn one(benchmark: &BenchmarkPower, plan: &PowerPlan, width: usize, lines: &mut Vec<String>) {
    let unit = Unit { scale: benchmark.scale, points: benchmark.points };
    let packages = match &benchmark.new {
        Some(new) => format!("{} and {new}", benchmark.base),
        None => benchmark.base.clone(),
    };
    let title = format!("{} {}{}: {packages}", benchmark.benchmark, benchmark.metric, unit.suffix());
    lines.extend(wrap(&escape::terminal(&title), width, "  "));
    let mut facts =
        vec![format!("{} of {}", counted(benchmark.samples, "sample", "samples"), counted(benchmark.images, "image", "images"))];
    if let Some(share) = benchmark.mean_score {
        facts.push(format!("mean score {}", percent_1(share)));
    }
    if benchmark.basis == PowerBasis::Measured {
        let (fixed, broken) = (benchmark.fixed.unwrap_or(0), benchmark.broken.unwrap_or(0));
        let share = percent_1(benchmark.discordance);
        facts.push(format!("{share} of the scores differ ({} fixed, {} broken)", count(fixed), count(broken)));
    }
    if let Some(effect) = benchmark.design_effect {
        facts.push(format!("images multiply the variance by {effect:.2}"));
    }
    let facts = format!("  {}.", facts.join(", "));
    lines.extend(wrap(&facts, width, "  "));
    if let Some(smallest) = benchmark.minimum_detectable_effect {
        let digits = if unit.scale <= 1.0 { 4 } else { 2 };
        let smallest = format!(
            "  With these samples the smallest drop found with {} probability is {}{}.",
            percent(plan.power),
            number(smallest, digits),
            unit.difference_suffix()
        );
        lines.extend(wrap(&smallest, width, "  "));
    }
    for note in &benchmark.notes {
        lines.extend(wrap(&escape::terminal(&format!("  ! {note}")), width, "    "));
    }
    if !benchmark.drops.is_empty() {
        table(benchmark, unit, lines);
    }
}

fn percent_1(share: f64) -> String {
    format!("{} %", number(100.0 * share, 1))
}

fn table(benchmark: &BenchmarkPower, unit: Unit, lines: &mut Vec<String>) {
    let header = ["drop", "samples", "images", "found now"].map(str::to_owned);
    let mut rows: Vec<[String; 4]> = vec![header];
    let mut remarks = vec!["enough?".to_owned()];
    for drop in &benchmark.drops {
        let needed = |value: Option<u64>| value.map_or_else(|| MISSING.to_owned(), |value| count(value as usize));
        let chance = drop.detection_probability.map_or_else(|| MISSING.to_owned(), percent_whole);
        rows.push([size(drop.effect, unit), needed(drop.samples), needed(drop.images), chance]);
        remarks.push(enough(drop, benchmark));
    }
    let widths: Vec<usize> = (0..4)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for (row, remark) in rows.iter().zip(remarks) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        lines.push(format!("    {}  {remark}", cells.join("  ")));
    }
}

/// A drop without trailing zeros: `0.5`, `2`.
fn size(effect: f64, unit: Unit) -> String {
    let digits = if unit.scale <= 1.0 { 5 } else { 3 };
    number(effect, digits).trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Whole per cent, and never 0 % or 100 % for what is neither.
fn percent_whole(share: f64) -> String {
    match 100.0 * share {
        low if low < 1.0 => "< 1 %".to_owned(),
        high if high > 99.0 => "> 99 %".to_owned(),
        middle => format!("{} %", number(middle, 0)),
    }
}

fn enough(drop: &DropPower, benchmark: &BenchmarkPower) -> String {
    if drop.runs_suffice {
        "yes, these samples".to_owned()
    } else if drop.benchmark_suffices {
        format!("in the benchmark: it has {}", count(benchmark.samples_available))
    } else if drop.samples.is_none() {
        "no number is".to_owned()
    } else {
        format!("no, the benchmark has {}", count(benchmark.samples_available))
    }
}
