//! Files for programs that draw trends over commits: github-action-benchmark and Bencher.

use serde_json::{Map, Value, json};

use crate::compare::{Estimate, LatencySummary, MetricSummary, Quantiles, RunSummary};

use super::super::format::Unit;
use super::Selected;

/// One number to be tracked.
struct Tracked {
    /// Package and benchmark, the same at every commit.
    place: String,
    /// What it measures.
    measure: String,
    unit: &'static str,
    value: f64,
    interval: Option<[f64; 2]>,
    bigger_is_better: bool,
    extra: String,
}

/// Every number of the selected runs whose better direction is known.
fn tracked(runs: &[Selected<'_>]) -> Vec<Tracked> {
    let mut all: Vec<Tracked> = Vec::new();
    for Selected { name, run } in runs {
        let place = format!("{name} / {}", run.header.benchmark.name);
        let mut add = |measure: &str, unit, estimate: (f64, Option<[f64; 2]>), bigger_is_better, extra: String| {
            let (value, interval) = estimate;
            if value.is_finite() {
                let interval = interval.filter(|ends| ends.iter().all(|end| end.is_finite()));
                let (place, measure) = (place.clone(), measure.to_owned());
                all.push(Tracked { place, measure, unit, value, interval, bigger_is_better, extra });
            }
        };
        for metric in &run.metrics {
            let Some(bigger) = metric.higher_is_better else { continue };
            let Estimate { value, interval, .. } = metric.estimate;
            add(&metric.name, unit(run, metric), (value, interval), bigger, facts(run, metric));
        }
        let Quantile { name: quantile, pick } = MEDIAN;
        let LatencySummary { image, vision, projector, prefill, decode, ttft, tpot, per_question_ms, .. } = &run.latency;
        let stages = [
            ("image", image),
            ("vision", vision),
            ("projector", projector),
            ("prefill", prefill),
            ("decode", decode),
            ("ttft", ttft),
            ("tpot", tpot),
        ];
        if let Some(value) = per_question_ms {
            add("per question", "ms", (*value, None), false, machine(run));
        }
        for (stage, quantiles) in stages {
            if let Some(quantiles) = quantiles {
                add(&format!("{stage} {quantile}"), "ms", (pick(quantiles), None), false, machine(run));
            }
        }
        if let Some(bytes) = run.peak_memory_bytes {
            add("peak memory", "bytes", (bytes as f64, None), false, machine(run));
        }
        if let Some(bytes) = run.header.model.weight_bytes {
            add("weights", "bytes", (bytes as f64, None), false, run.header.model.precision.clone());
        }
    }
    all
}

struct Quantile {
    name: &'static str,
    pick: fn(&Quantiles) -> f64,
}

const MEDIAN: Quantile = Quantile { name: "p50", pick: |quantiles| quantiles.p50_ms };

fn unit(run: &RunSummary, metric: &MetricSummary) -> &'static str {
    let spec = run.header.benchmark.metrics.iter().find(|spec| spec.name == metric.name);
    let unit = spec.map(|spec| Unit { scale: spec.scale, points: spec.points || spec.sum_over_categories });
    match unit {
        Some(unit) if unit.is_percent() => "%",
        Some(unit) if unit.points => "points",
        _ => "share",
    }
}

/// What a number needs to be believed.
fn facts(run: &RunSummary, metric: &MetricSummary) -> String {
    let Estimate { n, clusters, .. } = metric.estimate;
    format!("n = {n}, clusters = {clusters}, failed = {}, unparsed = {}", run.failed, run.unparsed)
}

fn machine(run: &RunSummary) -> String {
    let header = &run.header;
    format!("{}, {}, threads = {}", header.environment.processor, header.settings.provider, header.settings.intra_op_threads)
}

/// An array of `{name, unit, value, range, extra}`, as github-action-benchmark reads it with `tool: customBiggerIsBetter` or
/// `customSmallerIsBetter` (its README, "Custom benchmarks"). The two directions are two files. `range` is half of the 95 %
/// interval; what gates is our own interval, not a ratio of points.
pub(super) fn github_action_benchmark(runs: &[Selected<'_>], bigger: bool) -> Value {
    let entry = |one: Tracked| {
        let mut fields = Map::new();
        fields.insert("name".to_owned(), json!(format!("{} / {}", one.place, one.measure)));
        fields.insert("unit".to_owned(), json!(one.unit));
        fields.insert("value".to_owned(), json!(one.value));
        if let Some([low, high]) = one.interval {
            fields.insert("range".to_owned(), json!(format!("± {}", (high - low) / 2.0)));
        }
        fields.insert("extra".to_owned(), json!(one.extra));
        Value::Object(fields)
    };
    Value::Array(tracked(runs).into_iter().filter(|one| one.bigger_is_better == bigger).map(entry).collect())
}

/// Longest name of a benchmark and of a measure that Bencher takes, in characters.
const BENCHMARK_LIMIT: usize = 1024;
const MEASURE_LIMIT: usize = 64;

/// `{benchmark: {measure: {value, lower_value, upper_value}}}`: Bencher Metric Format, bencher.dev/bmf.json, for its `json`
/// adapter. The bounds are the 95 % interval.
pub(super) fn bencher(runs: &[Selected<'_>]) -> Value {
    let mut benchmarks: Map<String, Value> = Map::new();
    for one in tracked(runs) {
        let mut metric = Map::new();
        metric.insert("value".to_owned(), json!(one.value));
        if let Some([low, high]) = one.interval {
            metric.insert("lower_value".to_owned(), json!(low));
            metric.insert("upper_value".to_owned(), json!(high));
        }
        let place: String = one.place.chars().take(BENCHMARK_LIMIT).collect();
        let measures = benchmarks.entry(place).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(measures) = measures {
            let measure: String = one.measure.chars().take(MEASURE_LIMIT).collect();
            measures.insert(measure, Value::Object(metric));
        }
    }
    Value::Object(benchmarks)
}
