//! `results.csv`: one row per run and metric, with the paired difference against the benchmark's first run.

use crate::compare::{Estimate, Quantiles};
use crate::guard::escape;

use super::format;
use super::types::ReportError;
use super::view::{BenchmarkView, RunView, View};

const COLUMNS: [&str; 56] = [
    "benchmark",
    "package",
    "package_identity",
    "metric",
    "primary",
    "higher_is_better",
    "scale",
    "value",
    "standard_error",
    "interval_low",
    "interval_high",
    "n",
    "clusters",
    "design_effect",
    "base_package",
    "difference",
    "difference_low",
    "difference_high",
    "p_value",
    "minimum_detectable_effect",
    "verdict",
    "fixed",
    "broken",
    "same",
    "latency_ratio",
    "records",
    "complete",
    "failed",
    "unparsed",
    "per_question_ms",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "tpot_p50_ms",
    "precision",
    "prompt_template",
    "image_recipe",
    "provider",
    "intra_op_threads",
    "scheduling",
    "scorer",
    "samples_sha256",
    "started",
    "unscored",
    "judge",
    "test",
    "adjusted_p_value",
    "uncorrected_verdict",
    "samples_to_settle",
    "bootstrap_low",
    "bootstrap_high",
    "latency_low",
    "latency_high",
    "latency_p_value",
    "latency_band",
    "latency_verdict",
    "peak_memory_bytes",
];

/// The table as CSV (RFC 4180, UTF-8, header row). Missing values are empty. Text that a spreadsheet would take for a
/// formula begins with `'`; numbers are plain, with a point and as many digits as they have.
pub(super) fn table(view: &View<'_>) -> Result<Vec<u8>, ReportError> {
    let content = |error: ::csv::Error| ReportError::Content { name: "results.csv", message: error.to_string() };
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(content)?;
    for benchmark in &view.benchmarks {
        for run in &benchmark.runs {
            for name in benchmark.metric_names() {
                if run.metric(name).is_some() {
                    writer.write_record(row(view, benchmark, run, name)).map_err(content)?;
                }
            }
        }
    }
    writer.into_inner().map_err(|error| ReportError::Content { name: "results.csv", message: error.to_string() })
}

fn row(view: &View<'_>, benchmark: &BenchmarkView<'_>, run: &RunView<'_>, metric: &str) -> Vec<String> {
    let summary = run.metric(metric);
    let estimate = summary.map(|summary| &summary.estimate);
    let pair = benchmark.pairs.iter().find(|pair| pair.new == run.package);
    let paired = pair.and_then(|pair| pair.pair.metrics.iter().find(|paired| paired.name == metric));
    let difference = paired.map(|paired| &paired.difference);
    let bootstrap = paired.and_then(|paired| paired.bootstrap_interval);
    let speed = pair.and_then(|pair| pair.pair.latency.as_ref());
    let header = &run.run.header;
    let latency = &run.run.latency;
    let text = |text: &str| escape::csv(text);
    vec![
        text(benchmark.name),
        text(view.package(run.package)),
        text(&header.model.identity),
        text(metric),
        summary.map_or_else(String::new, |summary| summary.primary.to_string()),
        summary.and_then(|summary| summary.higher_is_better).map_or_else(String::new, |higher| higher.to_string()),
        benchmark.unit(metric).scale.to_string(),
        number(estimate.map(|estimate| estimate.value)),
        number(estimate.and_then(|estimate| estimate.standard_error)),
        number(bound(estimate, 0)),
        number(bound(estimate, 1)),
        estimate.map_or_else(String::new, |estimate| estimate.n.to_string()),
        estimate.map_or_else(String::new, |estimate| estimate.clusters.to_string()),
        number(estimate.and_then(|estimate| estimate.design_effect)),
        pair.map_or_else(String::new, |pair| text(view.package(pair.base))),
        number(difference.map(|difference| difference.value)),
        number(bound(difference, 0)),
        number(bound(difference, 1)),
        number(paired.and_then(|paired| paired.p_value)),
        number(paired.and_then(|paired| paired.minimum_detectable_effect)),
        paired.map_or_else(String::new, |paired| format::verdict_word(paired.verdict).to_owned()),
        pair.map_or_else(String::new, |pair| pair.pair.fixed.to_string()),
        pair.map_or_else(String::new, |pair| pair.pair.broken.to_string()),
        pair.map_or_else(String::new, |pair| pair.pair.same.to_string()),
        number(pair.and_then(|pair| pair.pair.latency.as_ref()).map(|latency| latency.ratio.value)),
        run.run.records.to_string(),
        run.run.complete.to_string(),
        run.run.failed.to_string(),
        run.run.unparsed.to_string(),
        number(latency.per_question_ms),
        number(latency.ttft.as_ref().map(|quantiles: &Quantiles| quantiles.p50_ms)),
        number(latency.ttft.as_ref().and_then(|quantiles| quantiles.p90_ms)),
        number(latency.tpot.as_ref().map(|quantiles| quantiles.p50_ms)),
        text(&header.model.precision),
        text(&header.model.template),
        text(&header.model.image_recipe),
        text(&header.settings.provider),
        header.settings.intra_op_threads.to_string(),
        text(&header.settings.scheduling),
        text(&header.benchmark.scorer),
        text(&header.benchmark.samples_sha256),
        text(&header.started),
        run.run.unscored.to_string(),
        run.run.judge.as_ref().map_or_else(String::new, |judge| text(&judge.model)),
        paired.and_then(|paired| paired.test).map_or_else(String::new, |test| test.as_str().to_owned()),
        number(paired.and_then(|paired| paired.adjusted_p_value)),
        paired.and_then(|paired| paired.uncorrected_verdict).map_or_else(String::new, |own| format::verdict_word(own).to_owned()),
        paired.and_then(|paired| paired.samples_to_settle).map_or_else(String::new, |samples| samples.to_string()),
        number(bootstrap.and_then(|interval| interval.first().copied())),
        number(bootstrap.and_then(|interval| interval.get(1).copied())),
        number(bound(speed.map(|latency| &latency.ratio), 0)),
        number(bound(speed.map(|latency| &latency.ratio), 1)),
        number(speed.and_then(|latency| latency.p_value)),
        number(speed.map(|latency| latency.noise_band)),
        speed.map_or_else(String::new, |latency| latency.verdict.as_str().to_owned()),
        run.run.peak_memory_bytes.map_or_else(String::new, |bytes| bytes.to_string()),
    ]
}

fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(String::new, |value| value.to_string())
}

fn bound(estimate: Option<&Estimate>, side: usize) -> Option<f64> {
    estimate.and_then(|estimate| estimate.interval).and_then(|interval| interval.get(side).copied())
}
