//! Two runs of one benchmark, paired by sample key.

use std::collections::HashMap;

use super::estimate::{Column, LEVEL, bounded, estimated};
use super::summary::{is_answered, primary_first};
use super::{
    CompareError, Comparison, Estimate, Flip, FlipSide, PairComparison, PairedMetric, PromptDifference, RunDifference, Verdict,
    latency, notes, summarise,
};
use crate::benchmark::{Contribution, MetricSpec};
use crate::stats::{dense_clusters, minimum_detectable_effect, t_two_sided_p_value};
use crate::store::{JudgeIdentity, Run, SampleRecord};

/// Margin δ where none is given, in points.
pub const DEFAULT_MARGIN: f64 = 1.0;

/// The power at which the minimum detectable effect is given.
const POWER: f64 = 0.8;

/// A sample answered in both runs.
pub(super) type Pair<'a> = (&'a SampleRecord, &'a SampleRecord);

/// Summarises every run and pairs each later run of a benchmark with its first, in the order given. `margin` is δ in points
/// (see [`Comparison::margin`]).
///
/// Runs of one benchmark must hold the same samples scored alike; packages, prompt templates, settings and machines may
/// differ and are noted.
pub fn compare(runs: &[Run], margin: f64) -> Result<Comparison, CompareError> {
    if !(margin.is_finite() && margin >= 0.0) {
        return Err(CompareError::Margin { found: margin });
    }
    let mut benchmarks: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        let same =
            |group: &&mut Vec<&Run>| group.first().is_some_and(|first| first.header.benchmark.name == run.header.benchmark.name);
        match benchmarks.iter_mut().find(same) {
            Some(group) => group.push(run),
            None => benchmarks.push(vec![run]),
        }
    }
    let pairs: Vec<(&Run, &Run)> = benchmarks
        .iter()
        .filter_map(|group| group.split_first())
        .flat_map(|(base, later)| later.iter().map(|new| (*base, *new)))
        .collect();
    let differences: Vec<RunDifference> = pairs.iter().flat_map(|(base, new)| differences(base, new)).collect();
    if !differences.is_empty() {
        return Err(CompareError::NotComparable { differences });
    }
    Ok(Comparison {
        format: 1,
        margin,
        runs: benchmarks.iter().flatten().map(|run| summarise(run)).collect(),
        pairs: pairs.iter().map(|(base, new)| compare_pair(base, new, margin)).collect(),
        matrices: Vec::new(),
    })
}

/// What forbids comparing two runs.
fn differences(base: &Run, new: &Run) -> Vec<RunDifference> {
    let difference = |field: &str, base_value: String, new_value: String| RunDifference {
        benchmark: base.header.benchmark.name.clone(),
        base: base.directory.display().to_string(),
        new: new.directory.display().to_string(),
        field: field.to_owned(),
        base_value,
        new_value,
    };
    let (left, right) = (&base.header.benchmark, &new.header.benchmark);
    let mut found = Vec::new();
    if left.samples_sha256 != right.samples_sha256 {
        let described = |hash: &str, samples: usize| format!("{} ({samples} samples)", hash.get(..12).unwrap_or(hash));
        found.push(difference(
            "the hash of the sample set",
            described(&left.samples_sha256, left.samples),
            described(&right.samples_sha256, right.samples),
        ));
    }
    if left.scorer != right.scorer {
        found.push(difference("the scorer", left.scorer.clone(), right.scorer.clone()));
    }
    if left.metrics != right.metrics {
        let names = |metrics: &[MetricSpec]| format!("{:?}", metrics.iter().map(|metric| &metric.name).collect::<Vec<_>>());
        found.push(difference("the definition of the metrics", names(&left.metrics), names(&right.metrics)));
    }
    if let (Some(left), Some(right)) = (&base.judge, &new.judge)
        && !left.judges_like(right)
    {
        // Judges differ from each other by more than models do: their scores say nothing about each other.
        let described = |judge: &JudgeIdentity| format!("{} ({}; {})", judge.model, judge.rule, judge.settings);
        found.push(difference("the judge", described(left), described(right)));
    }
    // Where the hashes agree the records must too, unless somebody changed a file; the first one says enough.
    let told_apart = paired(base, new, |_| true).into_iter().find(|(left, right)| {
        (&left.question, &left.reference, &left.cluster, &left.category)
            != (&right.question, &right.reference, &right.cluster, &right.category)
    });
    if let (true, Some((left, right))) = (found.is_empty(), told_apart) {
        let described =
            |record: &SampleRecord| format!("{:?} with {:?} of {:?}", record.question, record.reference, record.cluster);
        found.push(difference(&format!("sample {:?}", left.key), described(left), described(right)));
    }
    found
}

/// The samples that both runs hold and `keep` accepts on both sides, in the order of the first run.
fn paired<'a>(base: &'a Run, new: &'a Run, keep: impl Fn(&SampleRecord) -> bool) -> Vec<Pair<'a>> {
    let by_key: HashMap<&str, &SampleRecord> = new.records.iter().map(|record| (record.key.as_str(), record)).collect();
    let both = base.records.iter().filter_map(|record| Some((record, *by_key.get(record.key.as_str())?)));
    both.filter(|(base, new)| keep(base) && keep(new)).collect()
}

fn compare_pair(base: &Run, new: &Run, margin: f64) -> PairComparison {
    let pairs = paired(base, new, is_answered);
    let specs = primary_first(&base.header.benchmark.metrics);
    let metrics: Vec<PairedMetric> = specs.iter().filter_map(|metric| compare_metric(metric, &pairs, margin)).collect();
    let broken = flips(&pairs, |base, new| new < base);
    let fixed = flips(&pairs, |base, new| new > base);
    PairComparison {
        benchmark: base.header.benchmark.name.clone(),
        base: base.header.model.name.clone(),
        new: new.header.model.name.clone(),
        paired: pairs.len(),
        fixed: fixed.len(),
        broken: broken.len(),
        same: pairs.len() - fixed.len() - broken.len(),
        notes: notes::of_pair(base, new, &pairs, &specs, &metrics),
        metrics,
        flips: broken.into_iter().chain(fixed).collect(),
        categories: Vec::new(),
        latency: if notes::same_machine(base, new) { latency::compare(&base.records, &new.records) } else { None },
        prompt_difference: prompt_difference(&pairs),
    }
}

/// The pairs whose headline scores stand in the given relation, in sample order.
fn flips(pairs: &[Pair<'_>], relation: impl Fn(f64, f64) -> bool) -> Vec<Flip> {
    let side = |record: &SampleRecord| FlipSide { text: record.text.clone(), parsed: record.parsed.clone(), score: record.score };
    pairs
        .iter()
        .filter(|(base, new)| base.score.zip(new.score).is_some_and(|(base, new)| relation(base, new)))
        .map(|(base, new)| Flip { key: base.key.clone(), question: base.question.clone(), base: side(base), new: side(new) })
        .collect()
}

/// One metric on the pairs in which it has contributions on both sides; `None` where either side has no value.
fn compare_metric(metric: &MetricSpec, pairs: &[Pair<'_>], margin: f64) -> Option<PairedMetric> {
    let rows: Vec<(&SampleRecord, Contribution, Contribution)> = pairs
        .iter()
        .filter_map(|(base, new)| Some((*base, *base.contributions.get(&metric.name)?, *new.contributions.get(&metric.name)?)))
        .collect();
    let clusters = dense_clusters(rows.iter().map(|(record, ..)| record.cluster.as_str()));
    let categories = dense_clusters(rows.iter().map(|(record, ..)| record.category.as_deref()));
    let (base_column, new_column) =
        (Column::new(rows.iter().map(|(_, base, _)| *base)), Column::new(rows.iter().map(|(.., new)| *new)));
    let base = base_column.linearised(metric, &categories)?;
    let new = new_column.linearised(metric, &categories)?;
    let mut difference = estimated(new.minus(&base)?, &clusters, metric.scale);
    let identical = rows.iter().all(|(_, base, new)| base == new);
    let p_value = p_value(&mut difference, identical);
    let side = |linearised, column| bounded(estimated(linearised, &clusters, metric.scale), column, metric);
    Some(PairedMetric {
        name: metric.name.clone(),
        primary: metric.primary,
        higher_is_better: metric.higher_is_better,
        base: side(base, &base_column),
        new: side(new, &new_column),
        p_value,
        minimum_detectable_effect: difference.standard_error.and_then(|error| {
            minimum_detectable_effect(error, Some(difference.clusters.saturating_sub(1) as f64), 1.0 - LEVEL, POWER)
        }),
        verdict: verdict(metric, &difference, p_value, margin * metric.scale.abs() / 100.0, identical),
        adjusted_p_value: None,
        bootstrap_interval: None,
        samples_to_settle: None,
        difference,
    })
}

fn prompt_difference(pairs: &[Pair<'_>]) -> Option<PromptDifference> {
    let mut differing = pairs.iter().filter(|(base, new)| base.prompt != new.prompt);
    let (base, new) = differing.next()?;
    Some(PromptDifference {
        key: base.key.clone(),
        samples: 1 + differing.count(),
        base: base.prompt.clone(),
        new: new.prompt.clone(),
    })
}

/// The t-test's p-value. Where every cluster differs by the same amount there is no spread to divide by: the interval is
/// withdrawn, and what is left is that C clusters all point the same way, `2·2^−C` under the sign test.
fn p_value(difference: &mut Estimate, identical: bool) -> Option<f64> {
    let error = difference.standard_error?;
    if error > 0.0 {
        return t_two_sided_p_value(difference.value / error, difference.clusters as f64 - 1.0);
    }
    difference.interval = None;
    let equal = identical || difference.value == 0.0;
    Some(if equal { 1.0 } else { 0.5_f64.powi(difference.clusters.min(1_000) as i32 - 1) })
}

/// `margin` is in the metric's units.
fn verdict(metric: &MetricSpec, difference: &Estimate, p_value: Option<f64>, margin: f64, identical: bool) -> Verdict {
    let Some(higher_is_better) = metric.higher_is_better else { return Verdict::Descriptive };
    if identical {
        return Verdict::Identical;
    }
    let sign = if higher_is_better { 1.0 } else { -1.0 };
    let gain = sign * difference.value;
    match difference.interval {
        Some([low, high]) => {
            let (worst, best) = if higher_is_better { (low, high) } else { (-high, -low) };
            if best < 0.0 {
                Verdict::Regressed
            } else if worst > 0.0 {
                Verdict::Improved
            } else if worst > -margin {
                Verdict::NoWorse
            } else {
                Verdict::Inconclusive
            }
        }
        None if p_value.is_some_and(|p_value| p_value <= 1.0 - LEVEL) && gain < 0.0 => Verdict::Regressed,
        None if p_value.is_some_and(|p_value| p_value <= 1.0 - LEVEL) && gain > 0.0 => Verdict::Improved,
        None => Verdict::Inconclusive,
    }
}
