//! One run, summarised.

use std::collections::BTreeMap;

use super::estimate::{ScoredSample, single};
use super::{CategorySummary, MetricSummary, RunSummary, latency};
use crate::benchmark::MetricSpec;
use crate::store::{Run, SampleRecord};

/// Whether a sample has an answer that was scored.
pub(super) fn is_answered(record: &SampleRecord) -> bool {
    record.failure.is_none() && record.score.is_some()
}

fn scored(record: &SampleRecord) -> ScoredSample<'_> {
    ScoredSample { cluster: &record.cluster, category: record.category.as_deref(), contributions: &record.contributions }
}

/// The metrics, primary first; the order among the others stays.
pub(super) fn primary_first(metrics: &[MetricSpec]) -> Vec<&MetricSpec> {
    let mut ordered: Vec<&MetricSpec> = metrics.iter().collect();
    ordered.sort_by_key(|metric| !metric.primary);
    ordered
}

/// Every metric on a set of scored samples, primary first. A metric that has no value on them is left out.
pub fn summarise_scored(metrics: &[MetricSpec], samples: &[ScoredSample<'_>]) -> Vec<MetricSummary> {
    primary_first(metrics)
        .into_iter()
        .filter_map(|metric| {
            Some(MetricSummary {
                name: metric.name.clone(),
                primary: metric.primary,
                higher_is_better: metric.higher_is_better,
                estimate: single(metric, samples)?,
            })
        })
        .collect()
}

/// A run's metrics, categories and latency. Failed samples are counted and take no part in estimates.
pub fn summarise(run: &Run) -> RunSummary {
    let metrics = &run.header.benchmark.metrics;
    let answered: Vec<&SampleRecord> = run.records.iter().filter(|record| is_answered(record)).collect();
    let samples: Vec<ScoredSample<'_>> = answered.iter().map(|record| scored(record)).collect();
    RunSummary {
        header: run.header.clone(),
        complete: run.complete,
        records: run.records.len(),
        failed: run.records.iter().filter(|record| record.failure.is_some()).count(),
        unscored: run.records.iter().filter(|record| record.failure.is_none() && record.score.is_none()).count(),
        unparsed: answered.iter().filter(|record| record.parsed.is_none()).count(),
        metrics: summarise_scored(metrics, &samples),
        categories: categories(metrics, &samples),
        latency: latency::summarise(&run.records, &answered),
        peak_memory_bytes: run.records.iter().filter_map(|record| record.timings.group.peak_memory_bytes).max(),
        judge: run.judge.clone(),
    }
}

/// The primary metric within each category, by name.
fn categories(metrics: &[MetricSpec], samples: &[ScoredSample<'_>]) -> Vec<CategorySummary> {
    let Some(primary) = metrics.iter().find(|metric| metric.primary) else { return Vec::new() };
    let mut by_category: BTreeMap<&str, Vec<ScoredSample<'_>>> = BTreeMap::new();
    for sample in samples {
        if let Some(category) = sample.category {
            by_category.entry(category).or_default().push(*sample);
        }
    }
    by_category
        .into_iter()
        .filter_map(|(category, members)| {
            Some(CategorySummary { category: category.to_owned(), estimate: single(primary, &members)? })
        })
        .collect()
}
