//! `report.md`: the comparison in GitHub-flavoured Markdown. The first lines are the verdict.

mod more;

use std::fmt::Write as _;

use crate::guard::escape::markdown as escape;

use super::format::{self, MISSING};
use super::types::ReportInput;
use super::view::View;
use crate::compare::Attribution;

/// The whole document. All text from outside is escaped; there is no link and no image.
pub(super) fn document(input: &ReportInput<'_>, view: &View<'_>) -> String {
    document_with(input, view, &[])
}

/// As [`document`], with what `attribute` found.
pub(super) fn document_with(input: &ReportInput<'_>, view: &View<'_>, attributions: &[Attribution]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# {}\n", escape(input.title));
    verdict(&mut out, view);
    accuracy(&mut out, view);
    differences(&mut out, view);
    more::categories(&mut out, view);
    more::ranking(&mut out, view);
    latency(&mut out, view);
    more::speed(&mut out, view);
    more::trade_off(&mut out, view);
    more::stages(&mut out, view, attributions);
    basis(&mut out, view);
    let version = view.comparison.runs.first().map_or("", |run| run.header.environment.program_version.as_str());
    let _ = writeln!(out, "_Made by llava-gauge {} at {}._", escape(version), escape(input.generated_at));
    out
}

fn verdict(out: &mut String, view: &View<'_>) {
    let contests = view.contests();
    for contest in &contests {
        let _ = writeln!(out, "**{}**\n", escape(&contest.headline(view)));
        for (verdict, finding) in contest.findings(view.comparison.margin) {
            let _ =
                writeln!(out, "- {} {}: {}", format::verdict_symbol(verdict), format::verdict_word(verdict), escape(&finding));
        }
        if let Some(speed) = contest.speed(view) {
            let _ = writeln!(out, "- {}", escape(&speed));
        }
        out.push('\n');
    }
    if contests.is_empty() {
        let _ = writeln!(out, "**Nothing to compare: no benchmark was run by two packages.**\n");
    }
    let groups = view.caution_groups();
    if !groups.is_empty() {
        let _ = writeln!(out, "Before you believe it:\n");
        for group in &groups {
            let _ = writeln!(out, "- {} – {} {}", escape(&group.statement), escape(&group.who), escape(&group.place));
        }
        out.push('\n');
    }
    if let Some(sentence) = view.multiplicity() {
        let _ = writeln!(out, "{}\n", escape(&sentence));
    }
}

fn accuracy(out: &mut String, view: &View<'_>) {
    let _ = writeln!(out, "## Accuracy\n\nValue ± half of the 95 % interval, clustered by image.\n");
    let packages: Vec<String> = view.packages.iter().map(|package| escape(package)).collect();
    let mut header = vec!["Benchmark".to_owned(), "Metric".to_owned()];
    header.extend(packages);
    let mut rows = Vec::new();
    for benchmark in &view.benchmarks {
        for (order, name) in benchmark.metric_names().into_iter().enumerate() {
            let unit = benchmark.unit(name);
            let mut row = vec![if order == 0 { escape(benchmark.title) } else { String::new() }, metric_name(name, order == 0)];
            for package in 0..view.packages.len() {
                let metric = benchmark.run_of(package).and_then(|run| run.metric(name));
                row.push(metric.map_or_else(
                    || MISSING.to_owned(),
                    |metric| format!("{}{}", unit.value_and_half(&metric.estimate), unit.suffix()),
                ));
            }
            rows.push(row);
        }
    }
    table(out, &header, "ll", &rows);
}

fn metric_name(name: &str, primary: bool) -> String {
    if primary { format!("**{}**", escape(name)) } else { escape(name) }
}

fn differences(out: &mut String, view: &View<'_>) {
    if view.benchmarks.iter().all(|benchmark| benchmark.pairs.is_empty()) {
        return;
    }
    let _ = writeln!(out, "## Paired differences\n\nNew minus base over the same samples.\n");
    let header = [
        "Benchmark",
        "Metric",
        "New",
        "Base",
        "New value",
        "Base value",
        "Difference",
        "95 % interval",
        "p",
        "p corrected",
        "MDE",
        "Fixed",
        "Broken",
        "Same",
        "Verdict",
    ]
    .map(str::to_owned);
    let mut rows = Vec::new();
    for benchmark in &view.benchmarks {
        for pair in &benchmark.pairs {
            for metric in &pair.pair.metrics {
                let unit = benchmark.unit(&metric.name);
                let flips = |value: usize| if metric.primary { format::count(value) } else { String::new() };
                rows.push(vec![
                    escape(benchmark.title),
                    metric_name(&metric.name, metric.primary),
                    escape(view.package(pair.new)),
                    escape(view.package(pair.base)),
                    unit.value(&metric.new),
                    unit.value(&metric.base),
                    unit.difference(&metric.difference),
                    unit.difference_interval(&metric.difference),
                    format::p_value(metric.p_value).replace('<', "&lt;"),
                    format::p_value(metric.adjusted_p_value).replace('<', "&lt;"),
                    metric.minimum_detectable_effect.map_or_else(|| MISSING.to_owned(), |effect| unit.size(effect)),
                    flips(pair.pair.fixed),
                    flips(pair.pair.broken),
                    flips(pair.pair.same),
                    format!("{} {}", format::verdict_symbol(metric.verdict), format::verdict_word(metric.verdict)),
                ]);
            }
        }
    }
    table(out, &header, "llllrrrrrrrrrrl", &rows);
    let _ = writeln!(
        out,
        "MDE: the smallest difference that this many samples detect with 80 % power at the 5 % level. \
         Fixed and broken count samples whose score rose and fell. The corrected p-value (Holm) counts all primary metrics of \
         all pairs.\n"
    );
}

fn latency(out: &mut String, view: &View<'_>) {
    let _ = writeln!(out, "## Latency\n\nMilliseconds; medians, engine time per question over the whole run.\n");
    let header =
        ["Benchmark", "Package", "Per question", "TTFT", "TPOT", "Vision", "Projector", "Prefill", "Decode"].map(str::to_owned);
    let mut rows = Vec::new();
    for benchmark in &view.benchmarks {
        for run in &benchmark.runs {
            let latency = &run.run.latency;
            rows.push(vec![
                escape(benchmark.title),
                escape(view.package(run.package)),
                format::milliseconds(latency.per_question_ms),
                format::median_ms(latency.ttft.as_ref()),
                format::median_ms(latency.tpot.as_ref()),
                format::median_ms(latency.vision.as_ref()),
                format::median_ms(latency.projector.as_ref()),
                format::median_ms(latency.prefill.as_ref()),
                format::median_ms(latency.decode.as_ref()),
            ]);
        }
    }
    table(out, &header, "ll", &rows);
    let _ = writeln!(out, "TTFT and TPOT are per question, the stages per image with all its questions.\n");
}

fn basis(out: &mut String, view: &View<'_>) {
    let _ = writeln!(out, "## What the numbers rest on\n");
    let header = [
        "Benchmark",
        "Package",
        "Identity",
        "Samples",
        "Clusters",
        "Failed",
        "Unparsed",
        "Precision",
        "Prompt",
        "Provider",
        "Threads",
        "Scheduling",
        "Scorer",
    ]
    .map(str::to_owned);
    let mut rows = Vec::new();
    for benchmark in &view.benchmarks {
        for run in &benchmark.runs {
            let (summary, header) = (run.run, &run.run.header);
            rows.push(vec![
                escape(benchmark.title),
                escape(view.package(run.package)),
                escape(&format::short_hash(&header.model.identity)),
                samples(summary.records, header.benchmark.samples_available),
                run.primary().map_or_else(|| MISSING.to_owned(), |metric| format::count(metric.estimate.clusters)),
                format::count(summary.failed),
                format::count(summary.unparsed),
                escape(&header.model.precision_text()),
                escape(&header.model.template),
                escape(&header.settings.provider_text()),
                header.settings.intra_op_threads.to_string(),
                escape(&header.settings.scheduling_text()),
                escape(&header.benchmark.scorer),
            ]);
        }
    }
    table(out, &header, "lllrrrrlllrll", &rows);
    for execution in view.executions() {
        let _ = writeln!(out, "- {}", escape(&execution));
    }
    for judge in view.judges() {
        let _ = writeln!(out, "- {}", escape(&judge));
    }
    for environment in view.environments() {
        let _ = writeln!(out, "- {}", escape(&environment));
    }
    out.push('\n');
}

fn samples(records: usize, available: usize) -> String {
    if records == available {
        format::count(records)
    } else {
        format!("{} of {}", format::count(records), format::count(available))
    }
}

/// A table; `alignment` has an `l` for every column of text, an `r` for numbers, and numbers follow where it ends.
fn table(out: &mut String, header: &[String], alignment: &str, rows: &[Vec<String>]) {
    let _ = writeln!(out, "| {} |", header.join(" | "));
    let alignment = alignment.chars().chain(std::iter::repeat('r'));
    let rule: Vec<&str> = header.iter().zip(alignment).map(|(_, side)| if side == 'l' { "---" } else { "---:" }).collect();
    let _ = writeln!(out, "| {} |", rule.join(" | "));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out.push('\n');
}
