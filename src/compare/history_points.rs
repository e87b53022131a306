//! What a run has to give to a history: its values, and the facts by which they may be compared.

use super::history::HistoryUnit;
use super::{Estimate, RunSummary};

/// Something of which a run has a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measure {
    pub name: String,
    pub unit: HistoryUnit,
    pub scale: f64,
    pub points: bool,
    pub higher_is_better: Option<bool>,
}

/// A fact that must be equal in all runs of a series: its name for people, and its value.
pub(super) type Fact = (&'static str, String);

/// Name of the measure of a package's size.
const WEIGHT_BYTES: &str = "weight_bytes";

fn bare(value: f64, n: usize) -> Estimate {
    Estimate { value, standard_error: None, interval: None, n, clusters: n, design_effect: None }
}

/// The values of a run: the metrics named, or the primary one, then time, memory and size where they are known.
pub(super) fn measures(run: &RunSummary, metrics: &[String]) -> Vec<(Measure, Estimate)> {
    let mut found = Vec::new();
    for metric in &run.metrics {
        if !(metrics.contains(&metric.name) || metrics.is_empty() && metric.primary) {
            continue;
        }
        let spec = run.header.benchmark.metrics.iter().find(|spec| spec.name == metric.name);
        let measure = Measure {
            name: metric.name.clone(),
            unit: HistoryUnit::Metric,
            scale: spec.map_or(1.0, |spec| spec.scale),
            points: spec.is_some_and(|spec| spec.points || spec.sum_over_categories),
            higher_is_better: metric.higher_is_better,
        };
        found.push((measure, metric.estimate));
    }
    let mut cost = |name: &str, unit: HistoryUnit, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            let measure = Measure { name: name.to_owned(), unit, scale: 1.0, points: false, higher_is_better: Some(false) };
            found.push((measure, bare(value, run.records)));
        }
    };
    cost("per_question_ms", HistoryUnit::Milliseconds, run.latency.per_question_ms);
    cost("ttft_p50_ms", HistoryUnit::Milliseconds, run.latency.ttft.as_ref().map(|ttft| ttft.p50_ms));
    cost("peak_memory_bytes", HistoryUnit::Bytes, run.peak_memory_bytes.map(|bytes| bytes as f64));
    cost(WEIGHT_BYTES, HistoryUnit::Bytes, run.header.model.weight_bytes.map(|bytes| bytes as f64));
    found.retain(|(_, estimate)| estimate.value.is_finite());
    found
}

/// The facts that values of this measure depend on besides the package. The size of the weights depends on nothing else.
pub(super) fn facts(run: &RunSummary, measure: &Measure) -> Vec<Fact> {
    if measure.name == WEIGHT_BYTES {
        return Vec::new();
    }
    let header = &run.header;
    let settings = &header.settings;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let mut facts = vec![
        ("samples", format!("{} ({})", short(&header.benchmark.samples_sha256), header.benchmark.samples)),
        ("prompt", settings.prompt_sha256.as_deref().map_or_else(|| "none".to_owned(), short)),
        ("longest answer in tokens", settings.max_new_tokens.to_string()),
        ("how answers are had", settings.answering.clone().unwrap_or_else(|| "generated".to_owned())),
    ];
    if measure.unit == HistoryUnit::Metric {
        facts.push(("scorer", header.benchmark.scorer.clone()));
        let judge = run.judge.as_ref().map(|judge| format!("{} ({}; {})", judge.model, judge.rule, judge.settings));
        facts.push(("judge", text(&judge)));
    } else {
        let environment = &header.environment;
        facts.push(("processor", environment.processor.clone()));
        facts.push(("physical cores", environment.physical_cores.to_string()));
        facts.push(("platform", environment.platform.clone()));
        facts.push(("execution provider", settings.provider.clone()));
        facts.push(("threads", settings.intra_op_threads.to_string()));
        facts.push(("scheduling of questions", settings.scheduling.clone()));
        if settings.low_memory {
            facts.push(("weights", "mapped files (low memory)".to_owned()));
        }
        if settings.stop_when_decided {
            facts.push(("answers end", "as soon as they decide their score".to_owned()));
        }
    }
    facts
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The facts that differ, in words.
pub(super) fn differing(before: &[Fact], after: &[Fact]) -> String {
    let unlike = before.iter().zip(after).filter(|(before, after)| before != after);
    let said: Vec<String> = unlike.map(|((name, before), (_, after))| format!("{name}: {after} instead of {before}")).collect();
    if said.is_empty() { "the measure is defined otherwise".to_owned() } else { said.join("; ") }
}
