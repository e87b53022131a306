//! The parts of the document beyond accuracy, differences and times: categories, ranks, trade-off, stages.

use std::fmt::Write as _;

use super::super::charts;
use super::super::format::{self, MISSING};
use super::super::html::{blame, front, rank, share, start_sentence, trade_off_basis, unit_of};
use super::super::view::View;
use super::{escape, table};
use crate::compare::{Attribution, Side, StageDivergence, trade_offs};

/// The primary metric by category, with the paired differences from the base.
pub(super) fn categories(out: &mut String, view: &View<'_>) {
    let mut heading = false;
    for benchmark in &view.benchmarks {
        let rows = charts::category_rows(view, benchmark);
        if rows.len() < 2 {
            continue;
        }
        if !heading {
            let _ = writeln!(
                out,
                "## By category\n\nValue ± half of the 95 % interval; in brackets the paired difference from the base and its p-value, \
                 corrected over the categories (Benjamini and Hochberg).\n"
            );
            heading = true;
        }
        let name = benchmark.primary_name();
        let unit = benchmark.unit(name);
        let _ = writeln!(out, "### {}: {}\n", escape(benchmark.title), escape(name));
        let mut header = vec!["Category".to_owned(), "n".to_owned()];
        header.extend(benchmark.runs.iter().map(|run| escape(view.package(run.package))));
        let described = |package: usize, row: &charts::CategoryRow<'_>| {
            let Some(estimate) = row.estimates.get(package).copied().flatten() else { return MISSING.to_owned() };
            let mut text = unit.value_and_half(estimate);
            let pair = benchmark.pairs.iter().find(|pair| pair.new == package);
            let paired = pair.and_then(|pair| pair.pair.categories.iter().find(|category| category.category == row.name));
            if let Some(paired) = paired {
                let p = format::p_value(paired.adjusted_p_value).replace('<', "&lt;");
                let _ = write!(text, " ({}, p {p})", unit.difference(&paired.difference));
            }
            text
        };
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let n = row.estimates.iter().flatten().next().map_or_else(|| MISSING.to_owned(), |first| format::count(first.n));
                let values = benchmark.runs.iter().map(|run| described(run.package, row));
                [escape(row.name), n].into_iter().chain(values).collect()
            })
            .collect();
        table(out, &header, "l", &rows);
    }
}

/// Who ranks where on the benchmarks that at least three packages ran.
pub(super) fn ranking(out: &mut String, view: &View<'_>) {
    let matrices: Vec<_> = view
        .comparison
        .matrices
        .iter()
        .filter_map(|matrix| Some((view.benchmarks.iter().find(|benchmark| benchmark.name == matrix.benchmark)?, matrix)))
        .collect();
    if matrices.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## Ranking\n\n1 is best; a range means that these samples cannot say which of those ranks it is (5 % for all pairs of a \
         benchmark, Holm).\n"
    );
    let mut header = vec!["Benchmark".to_owned()];
    header.extend(view.packages.iter().map(|package| escape(package)));
    let rows: Vec<Vec<String>> = matrices
        .iter()
        .map(|(benchmark, matrix)| {
            let place = |package: usize| {
                let of = |run: usize| benchmark.runs.get(run).map(|run| run.package);
                let ranked = matrix.ranking.iter().find(|ranked| of(ranked.run) == Some(package));
                ranked.map_or_else(|| MISSING.to_owned(), rank)
            };
            std::iter::once(escape(benchmark.title)).chain((0..view.packages.len()).map(place)).collect()
        })
        .collect();
    table(out, &header, "l", &rows);
}

/// Engine time against the base's.
pub(super) fn speed(out: &mut String, view: &View<'_>) {
    let header = ["Benchmark", "New", "Base", "Ratio of engine time", "95 % interval", "Verdict"].map(str::to_owned);
    let mut rows = Vec::new();
    for benchmark in &view.benchmarks {
        for pair in &benchmark.pairs {
            let Some(latency) = &pair.pair.latency else { continue };
            let interval = latency.ratio.interval.map_or_else(
                || MISSING.to_owned(),
                |[low, high]| format!("{} to {}", format::significant(low), format::significant(high)),
            );
            rows.push(vec![
                escape(benchmark.title),
                escape(view.package(pair.new)),
                escape(view.package(pair.base)),
                format::significant(latency.ratio.value),
                interval,
                format!("{} {}", format::latency_symbol(latency.verdict), format::latency_word(latency.verdict)),
            ]);
        }
    }
    if !rows.is_empty() {
        table(out, &header, "lllrrl", &rows);
    }
}

/// Accuracy, time and size of every package on the benchmarks that they share.
pub(super) fn trade_off(out: &mut String, view: &View<'_>) {
    let offs = trade_offs(&view.grid());
    if offs.packages.iter().flatten().count() < 2 {
        return;
    }
    let basis = trade_off_basis(view, &offs);
    let _ = writeln!(out, "## Accuracy, time and size\n\n{}\n", escape(&basis));
    let header = ["Package", "Accuracy, %", "ms per question", "Weights", "Pareto front"].map(str::to_owned);
    let points = offs.packages.iter().enumerate().filter_map(|(package, point)| Some((package, (*point)?)));
    let rows: Vec<Vec<String>> = points
        .map(|(package, point)| {
            vec![
                escape(view.package(package)),
                format::number(point.accuracy, 1),
                format::significant(point.per_question_ms),
                point.weight_bytes.map_or_else(|| MISSING.to_owned(), format::bytes),
                front(&point).to_owned(),
            ]
        })
        .collect();
    table(out, &header, "lrrrl", &rows);
}

/// Which stage made the difference.
pub(super) fn stages(out: &mut String, view: &View<'_>, attributions: &[Attribution]) {
    for attribution in attributions {
        let _ = writeln!(
            out,
            "## Stages: {} against {}\n\nA stage's contribution is its Shapley value over the mixes of both packages' stages.\n",
            escape(&attribution.new),
            escape(&attribution.base)
        );
        if !attribution.equal_stages.is_empty() {
            let equal: Vec<&str> = attribution.equal_stages.iter().map(|stage| stage.as_str()).collect();
            let _ = writeln!(out, "Equal in both, so not to blame: {}.\n", equal.join(", "));
        }
        for benchmark in &attribution.benchmarks {
            let unit = unit_of(view, benchmark);
            let _ = writeln!(out, "{}\n", escape(&blame(benchmark, unit)));
            let rows: Vec<Vec<String>> = benchmark
                .stages
                .iter()
                .map(|stage| {
                    vec![
                        stage.stage.as_str().to_owned(),
                        unit.difference(&stage.contribution),
                        unit.difference_interval(&stage.contribution),
                        share(stage.share),
                    ]
                })
                .collect();
            table(out, &["Stage", "Contribution", "95 % interval", "Share"].map(str::to_owned), "l", &rows);
            let side = |side: Side| if side == Side::New { "**new**" } else { "base" }.to_owned();
            let rows: Vec<Vec<String>> = benchmark
                .mixes
                .iter()
                .map(|mix| vec![side(mix.vision), side(mix.projector), side(mix.llm), unit.value_and_half(&mix.estimate)])
                .collect();
            table(out, &["Vision", "Projector", "LLM", "Score"].map(str::to_owned), "lll", &rows);
            for note in &benchmark.notes {
                let _ = writeln!(out, "- {}", escape(note));
            }
        }
        if let Some(divergence) = &attribution.divergence {
            divergences(out, divergence);
        }
        for note in &attribution.notes {
            let _ = writeln!(out, "- {}", escape(note));
        }
        out.push('\n');
    }
}

fn divergences(out: &mut String, divergence: &StageDivergence) {
    let header = ["Stage", "Mean cosine", "Relative error", "Mean KL, nats", "Same first token"].map(str::to_owned);
    let mut rows = Vec::new();
    for (name, tensor) in [("vision", &divergence.vision), ("projector", &divergence.projector)] {
        let cells = [format::number(tensor.mean_cosine, 4), format::significant(tensor.relative_error)];
        rows.push([name.to_owned()].into_iter().chain(cells).chain([MISSING, MISSING].map(str::to_owned)).collect());
    }
    for (name, token) in [("llm", &divergence.llm), ("whole", &divergence.whole)] {
        let cells = [format::significant(token.mean_kl), format!("{} %", format::number(100.0 * token.top1_agreement, 1))];
        rows.push([name, MISSING, MISSING].map(str::to_owned).into_iter().chain(cells).collect());
    }
    table(out, &header, "l", &rows);
    for start in &divergence.starts {
        let _ = writeln!(out, "{}\n", start_sentence(start));
    }
}
