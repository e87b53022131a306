//! One metric of two runs: the paired difference, its test, and what may be said.

use std::collections::BTreeMap;

use super::estimate::{Column, LEVEL, bounded, estimated};
use super::notes::FEW_CLUSTERS;
use super::pair::Pair;
use super::{Estimate, PairedCategory, PairedMetric, PairedTest, Verdict};
use crate::benchmark::{Contribution, MetricSpec};
use crate::stats::{
    DEFAULT_PERMUTATIONS, MeasuredError, benjamini_hochberg, cluster_sums, dense_clusters, mcnemar_mid_p,
    minimum_detectable_effect, samples_for_effect, sign_flip_p_value, t_two_sided_p_value,
};

/// The power at which the minimum detectable effect is given.
const POWER: f64 = 0.8;

/// Level of every verdict.
pub(super) const ALPHA: f64 = 1.0 - LEVEL;

/// Seed of the signs that the permutation test draws, fixed so that a comparison says the same each time.
const SIGN_SEED: u64 = 0x7369_676e;

/// The contributions of the pairs that take part in a metric on both sides.
pub(super) struct Rows {
    pub base: Column,
    pub new: Column,
    pub clusters: Vec<usize>,
    pub categories: Vec<usize>,
}

impl Rows {
    pub fn new(metric: &MetricSpec, pairs: &[Pair<'_>]) -> Self {
        let mut both: Vec<(Contribution, Contribution)> = Vec::with_capacity(pairs.len());
        let (mut clusters, mut categories) = (Vec::new(), Vec::new());
        for (base, new) in pairs {
            if let (Some(left), Some(right)) = (base.contributions.get(&metric.name), new.contributions.get(&metric.name)) {
                both.push((*left, *right));
                clusters.push(base.cluster.as_str());
                categories.push(base.category.as_deref());
            }
        }
        Self {
            base: Column::new(both.iter().map(|(base, _)| *base)),
            new: Column::new(both.iter().map(|(_, new)| *new)),
            clusters: dense_clusters(clusters),
            categories: dense_clusters(categories),
        }
    }
}

/// One metric on the pairs in which it has contributions on both sides; `None` where either side has no value. `margin` is δ
/// in points.
pub(super) fn compare_metric(metric: &MetricSpec, pairs: &[Pair<'_>], margin: f64) -> Option<PairedMetric> {
    let rows = Rows::new(metric, pairs);
    let base = rows.base.linearised(metric, &rows.categories)?;
    let new = rows.new.linearised(metric, &rows.categories)?;
    let mut difference = estimated(new.minus(&base)?, &rows.clusters, metric.scale);
    let identical = rows.base == rows.new;
    let tested = test(metric, &rows, &mut difference, identical);
    limit(&mut difference, metric, &rows);
    let verdict = verdict(metric, &difference, tested.map(|(p_value, _)| p_value), margin, identical);
    let side = |linearised, column| bounded(estimated(linearised, &rows.clusters, metric.scale), column, metric);
    Some(PairedMetric {
        name: metric.name.clone(),
        primary: metric.primary,
        higher_is_better: metric.higher_is_better,
        base: side(base, &rows.base),
        new: side(new, &rows.new),
        p_value: tested.map(|(p_value, _)| p_value),
        test: tested.map(|(_, test)| test),
        minimum_detectable_effect: difference
            .standard_error
            .and_then(|error| minimum_detectable_effect(error, Some(difference.clusters.saturating_sub(1) as f64), ALPHA, POWER)),
        adjusted_p_value: None,
        bootstrap_interval: None,
        samples_to_settle: settling(metric, &difference, margin, verdict),
        verdict,
        uncorrected_verdict: None,
        difference,
    })
}

/// δ in the metric's units.
pub(super) fn margin_in_units(metric: &MetricSpec, margin: f64) -> f64 {
    margin * metric.scale.abs() / 100.0
}

/// The p-value and the test that suits the data: McNemar's where every score is 0 or 1 and every sample a cluster of its own;
/// flipped signs where clusters are few, which a t-test would need to be normal; the clustered t-test otherwise.
///
/// Where every cluster differs by the same amount there is no spread to divide by: the interval is withdrawn, and what is left
/// is that C clusters all point the same way, `2·2^−C` under the sign test.
fn test(metric: &MetricSpec, rows: &Rows, difference: &mut Estimate, identical: bool) -> Option<(f64, PairedTest)> {
    let error = difference.standard_error?;
    if error == 0.0 {
        difference.interval = None;
        let equal = identical || difference.value == 0.0;
        let p_value = if equal { 1.0 } else { 0.5_f64.powi(difference.clusters.min(1_000) as i32 - 1) };
        return Some((p_value, PairedTest::Sign));
    }
    // Over one category a mean over categories is a mean.
    let by_category = metric.mean_over_categories || metric.sum_over_categories;
    let by_category = by_category && rows.categories.iter().any(|category| *category > 0);
    if !by_category && rows.base.is_mean() && rows.new.is_mean() {
        if difference.clusters == difference.n && rows.base.is_binary() && rows.new.is_binary() {
            let (fixed, broken) = rows.base.rises_and_falls(&rows.new);
            return Some((mcnemar_mid_p(fixed, broken), PairedTest::McnemarMidP));
        }
        if difference.clusters < FEW_CLUSTERS {
            let sums = cluster_sums(&rows.base.differences(&rows.new), &rows.clusters);
            return Some((sign_flip_p_value(&sums, DEFAULT_PERMUTATIONS, SIGN_SEED)?, PairedTest::SignFlip));
        }
    }
    let p_value = t_two_sided_p_value(difference.value / error, difference.clusters as f64 - 1.0)?;
    Some((p_value, PairedTest::PairedT))
}

/// Keeps the interval of a difference of shares within what is possible: no share rises or falls by more than all of it.
fn limit(difference: &mut Estimate, metric: &MetricSpec, rows: &Rows) {
    if metric.points && !metric.sum_over_categories || !(rows.base.is_share() && rows.new.is_share()) {
        return;
    }
    let categories = if metric.sum_over_categories { rows.categories.iter().max().map_or(0, |last| last + 1) } else { 1 };
    let most = metric.scale.abs() * categories as f64;
    difference.interval = difference.interval.map(|ends| ends.map(|end| end.clamp(-most, most)));
}

/// `margin` is in points.
fn verdict(metric: &MetricSpec, difference: &Estimate, p_value: Option<f64>, margin: f64, identical: bool) -> Verdict {
    let Some(higher_is_better) = metric.higher_is_better else { return Verdict::Descriptive };
    if identical {
        return Verdict::Identical;
    }
    let gain = if higher_is_better { difference.value } else { -difference.value };
    let significant = p_value.is_some_and(|p_value| p_value <= ALPHA);
    match difference.interval {
        Some([low, high]) => {
            let (worst, best) = if higher_is_better { (low, high) } else { (-high, -low) };
            if best < 0.0 && significant {
                Verdict::Regressed
            } else if worst > 0.0 && significant {
                Verdict::Improved
            } else if worst > -margin_in_units(metric, margin) {
                Verdict::NoWorse
            } else {
                Verdict::Inconclusive
            }
        }
        None if significant && gain < 0.0 => Verdict::Regressed,
        None if significant && gain > 0.0 => Verdict::Improved,
        None => Verdict::Inconclusive,
    }
}

/// What is left of a verdict when its p-value, adjusted for everything that was tested beside it, is `adjusted`.
pub(super) fn corrected(own: Verdict, difference: &Estimate, adjusted: f64) -> Verdict {
    match own {
        Verdict::Regressed | Verdict::Improved if adjusted <= ALPHA => own,
        Verdict::Regressed => Verdict::Inconclusive,
        // An interval above zero is above the margin, too; no interval says nothing of it.
        Verdict::Improved if difference.interval.is_some() => Verdict::NoWorse,
        Verdict::Improved => Verdict::Inconclusive,
        other => other,
    }
}

/// Samples of this kind, in images with as many questions, from which a true difference of `margin` points is told with 80 %
/// power at 5 %. `None` where the verdict leaves nothing to settle, δ
/// is 0, or this many samples were enough already and had bad luck.
pub(super) fn settling(metric: &MetricSpec, difference: &Estimate, margin: f64, verdict: Verdict) -> Option<usize> {
    let margin = margin_in_units(metric, margin);
    if verdict != Verdict::Inconclusive || margin <= 0.0 {
        return None;
    }
    let error = difference.standard_error.filter(|error| *error > 0.0)?;
    let measured = MeasuredError { standard_error: error, samples: difference.n as u64, clusters: difference.clusters as u64 };
    let needed = usize::try_from(samples_for_effect(measured, margin, ALPHA, POWER)?.samples).ok()?;
    Some(needed).filter(|needed| *needed > difference.n)
}

/// The primary metric by category, its p-values adjusted for the categories of this pair.
pub(super) fn categories(metric: &MetricSpec, pairs: &[Pair<'_>], margin: f64) -> Vec<PairedCategory> {
    let mut by_category: BTreeMap<&str, Vec<Pair<'_>>> = BTreeMap::new();
    for pair in pairs {
        if let Some(category) = pair.0.category.as_deref() {
            by_category.entry(category).or_default().push(*pair);
        }
    }
    let mut found: Vec<PairedCategory> = Vec::with_capacity(by_category.len());
    for (name, members) in by_category {
        let Some(paired) = compare_metric(metric, &members, margin) else { continue };
        let PairedMetric { base, new, difference, p_value, .. } = paired;
        found.push(PairedCategory { category: name.to_owned(), base, new, difference, p_value, adjusted_p_value: None });
    }
    let p_values: Vec<f64> = found.iter().map(|category| category.p_value.unwrap_or(f64::NAN)).collect();
    for (category, adjusted) in found.iter_mut().zip(benjamini_hochberg(&p_values)) {
        category.adjusted_p_value = Some(adjusted).filter(|adjusted| adjusted.is_finite());
    }
    found
}
