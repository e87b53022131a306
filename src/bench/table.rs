//! The result for people: lines of a table, which the terminal and Markdown share, and notes below it.

use std::fmt::Write as _;

use super::plan::Test;
use super::results::{BenchResult, Ratio, Summary, caches, summarise};

/// Headings of the table of times.
pub(super) const HEADINGS: [&str; 7] = ["test", "package", "median ms", "min to max", "rate", "ratio", "of limit"];

/// A number with as many digits as it is good for.
pub(super) fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 1_000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// `0.62 (0.60 to 0.64)`.
pub(super) fn ratio_text(ratio: &Ratio) -> String {
    match ratio.interval {
        Some([low, high]) => format!("{:.3} ({low:.3} to {high:.3})", ratio.value),
        None => format!("{:.3}", ratio.value),
    }
}

fn rate(test: &Test, summary: &Summary) -> String {
    format!("{} {}/s", short(summary.per_second), test.units().1)
}

/// The rows of the table of times.
pub(super) fn rows(result: &BenchResult) -> Vec<[String; 7]> {
    let rows = result.series.iter().filter_map(|series| {
        let summary = summarise(&series.test, &series.samples_ms)?;
        let name = result.packages.get(series.package).map_or_else(String::new, |package| package.name.clone());
        let share = result.roofline.as_ref().and_then(|roofline| {
            let name = series.test.name();
            roofline.shares.iter().find(|share| share.package == series.package && share.test == name)
        });
        Some([
            series.test.name(),
            name,
            short(summary.median_ms),
            format!("{} to {}", short(summary.min_ms), short(summary.max_ms)),
            rate(&series.test, &summary),
            result.ratio_of(series).map_or_else(|| "-".to_owned(), |ratio| ratio_text(&ratio)),
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share.share)),
        ])
    });
    rows.collect()
}

/// Columns of [`HEADINGS`] that say something about this result.
pub(super) fn columns(result: &BenchResult) -> Vec<usize> {
    let shown = |column: &usize| match column {
        5 => result.packages.len() > 1,
        6 => result.roofline.as_ref().is_some_and(|roofline| !roofline.shares.is_empty()),
        _ => true,
    };
    (0..HEADINGS.len()).filter(shown).collect()
}

/// What stands below the table, a line each.
pub(super) fn notes(result: &BenchResult) -> Vec<String> {
    let mut notes = Vec::new();
    for package in &result.packages {
        let memory = package
            .load_memory_bytes
            .map_or_else(String::new, |bytes| format!(", {:.2} GB of memory by loading", bytes as f64 / 1e9));
        notes.push(format!(
            "{}: {}, {:.2} GB on disk, loaded in {:.2} s{memory}, {}",
            package.name,
            package.precision.join("/"),
            package.disk_bytes as f64 / 1e9,
            package.load_ms / 1e3,
            package.scheduling,
        ));
    }
    let repetitions = result.series.first().map_or(0, |series| series.samples_ms.len());
    let peak =
        result.peak_memory_bytes.map_or_else(|| "not readable here".to_owned(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
    let machine = &result.machine;
    let provider = if result.provider == "cpu" { String::new() } else { format!("on {}, ", result.provider) };
    let features = machine.cpu_features.join(" ");
    notes.push(format!("{}, {} physical cores ({features})", machine.cpu, machine.physical_cores));
    notes.push(format!(
        "{provider}{} threads, {repetitions} repetitions after {} of warm-up, peak memory of the process {peak}, ONNX Runtime {}",
        result.threads, result.warmup, result.runtime_version,
    ));
    notes.push(format!("caches {}", caches(result.warmup)));
    notes.push(result.conditions.facts());
    if result.packages.len() > 1 {
        notes.push("ratio: time over the first package's in neighbouring repetitions, geometric mean with 95 % interval; below 1 is faster".to_owned());
    }
    if result
        .series
        .iter()
        .all(|series| summarise(&series.test, &series.samples_ms).is_none_or(|summary| summary.p90_ms.is_none()))
    {
        notes.push("no percentiles: P90 takes 44 repetitions, P99 takes 459".to_owned());
    } else {
        for series in &result.series {
            let Some(summary) = summarise(&series.test, &series.samples_ms) else { continue };
            let name = result.packages.get(series.package).map_or("", |package| package.name.as_str());
            let mut line = format!("{name}, {}:", series.test.name());
            for (label, value) in [("P90", summary.p90_ms), ("P99", summary.p99_ms)] {
                if let Some(value) = value {
                    // Writing to a String cannot fail.
                    let _ = write!(line, " {label} {} ms", short(value));
                }
            }
            notes.push(line);
        }
    }
    notes
}

/// The limits of the machine, a line each; empty where they were not measured.
pub(super) fn limits(result: &BenchResult) -> Vec<String> {
    let Some(roofline) = &result.roofline else { return Vec::new() };
    let mut lines = vec![format!("reading: {:.1} GB/s", roofline.read_gigabytes_per_second)];
    for limit in &roofline.limits {
        let [rows, inputs, outputs] = limit.shape;
        let speed = limit.giga_operations_per_second;
        lines.push(format!("{} {rows} x {inputs} x {outputs}: {speed:.0} G operations/s", limit.arithmetic));
    }
    for share in &roofline.shares {
        let name = result.packages.get(share.package).map_or("", |package| package.name.as_str());
        lines.push(format!(
            "{name}, {}: {} G operations, at least {} ms, {:.0} % of it bound by memory; reached {:.0} %",
            share.test,
            short(share.giga_operations),
            short(share.floor_ms),
            100.0 * share.memory_bound,
            100.0 * share.share,
        ));
    }
    lines
}

/// The whole result for a terminal.
pub fn to_table(result: &BenchResult) -> String {
    let (rows, columns) = (rows(result), columns(result));
    let clean = |text: &str| crate::guard::escape::terminal(text);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| clean(cell).chars().count());
        cells.chain(HEADINGS.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().map(|&column| width(column)).collect();
    let line = |cells: &dyn Fn(usize) -> String| {
        let padded = columns.iter().zip(&widths).map(|(&column, &width)| {
            let cell = cells(column);
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&|column| HEADINGS.get(column).map_or_else(String::new, |heading| (*heading).to_owned()))];
    lines.extend(rows.iter().map(|row| line(&|column| row.get(column).map_or_else(String::new, |cell| clean(cell)))));
    lines.push(String::new());
    lines.extend(notes(result).iter().map(|note| clean(note)));
    let limits = limits(result);
    if !limits.is_empty() {
        lines.push(String::new());
        lines.push("Limits of this machine".to_owned());
        lines.extend(limits.iter().map(|limit| clean(limit)));
    }
    lines.extend(result.warnings().iter().map(|warning| format!("warning: {}", clean(warning))));
    lines.join("\n")
}
