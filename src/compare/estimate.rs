//! From contributions to estimates: one linearisation for every metric.

use super::Estimate;
use crate::benchmark::{Contribution, Contributions, MetricSpec};
use crate::stats::{Linearised, clustered_standard_error, dense_clusters, naive_standard_error, t_interval, wilson_interval};

/// Confidence of every interval.
pub(super) const LEVEL: f64 = 0.95;

/// A standard error below this share of the scale is rounding, not spread.
const ROUNDING: f64 = 1e-13;

/// One answered and scored sample, from a run or straight from a scorer.
#[derive(Clone, Copy, Debug)]
pub struct ScoredSample<'a> {
    /// Samples that are not independent share a cluster: normally the image.
    pub cluster: &'a str,
    /// Category, if the benchmark has any.
    pub category: Option<&'a str>,
    /// Contributions by metric name.
    pub contributions: &'a Contributions,
}

/// One metric's contributions of the samples that take part in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    numerators: Vec<f64>,
    denominators: Vec<f64>,
}

impl Column {
    pub fn new(contributions: impl IntoIterator<Item = Contribution>) -> Self {
        let (numerators, denominators) = contributions.into_iter().map(|one| (one.numerator, one.denominator)).unzip();
        Self { numerators, denominators }
    }

    /// The metric as a share or ratio, not yet scaled; `None` where it has no value.
    pub fn linearised(&self, metric: &MetricSpec, categories: &[usize]) -> Option<Linearised> {
        if metric.sum_over_categories {
            let count = categories.iter().max().map_or(0, |last| last + 1);
            let mean = Linearised::mean_over_categories(&self.numerators, &self.denominators, categories)?;
            Some(mean.scaled(count as f64))
        } else if metric.mean_over_categories {
            Linearised::mean_over_categories(&self.numerators, &self.denominators, categories)
        } else {
            Linearised::ratio_of_sums(&self.numerators, &self.denominators)
        }
    }

    /// Numerators and denominators.
    pub fn parts(&self) -> (&[f64], &[f64]) {
        (&self.numerators, &self.denominators)
    }

    /// Whether the ratio is a plain mean of the numerators.
    pub fn is_mean(&self) -> bool {
        self.denominators.iter().all(|denominator| *denominator == 1.0)
    }

    /// Whether every numerator is 0 or 1.
    pub fn is_binary(&self) -> bool {
        self.numerators.iter().all(|numerator| *numerator == 0.0 || *numerator == 1.0)
    }

    /// How many numerators are larger, and how many smaller, in `new`.
    pub fn rises_and_falls(&self, new: &Self) -> (u64, u64) {
        let differences = self.differences(new);
        let count = |sign: f64| differences.iter().filter(|difference| **difference * sign > 0.0).count() as u64;
        (count(1.0), count(-1.0))
    }

    /// The numerators of `new` minus these.
    pub fn differences(&self, new: &Self) -> Vec<f64> {
        new.numerators.iter().zip(&self.numerators).map(|(new, base)| new - base).collect()
    }

    /// Whether the metric is a share: no sample gives more to the numerator than to the denominator, nor less than 0.
    pub fn is_share(&self) -> bool {
        self.numerators.iter().zip(&self.denominators).all(|(numerator, denominator)| (0.0..=*denominator).contains(numerator))
    }
}

/// An estimate with its clustered interval, scaled. Nothing bounds the interval yet.
pub(super) fn estimated(linearised: Linearised, clusters: &[usize], scale: f64) -> Estimate {
    let n = linearised.influence.len();
    let Linearised { value, influence } = linearised.scaled(scale);
    let error = clustered_standard_error(&influence, clusters).map(|mut error| {
        if error.standard_error <= ROUNDING * scale.abs() {
            error.standard_error = 0.0;
        }
        error
    });
    let naive = naive_standard_error(&influence).filter(|naive| *naive > ROUNDING * scale.abs());
    Estimate {
        value,
        standard_error: error.map(|error| error.standard_error),
        interval: error.and_then(|error| t_interval(value, error.standard_error, error.degrees_of_freedom, LEVEL)),
        n,
        clusters: clusters.iter().max().map_or(0, |last| last + 1),
        design_effect: error.zip(naive).map(|(error, naive)| (error.standard_error / naive).powi(2)),
    }
}

/// The estimate of one metric on one set of samples; `None` where it has no value.
pub(super) fn single(metric: &MetricSpec, samples: &[ScoredSample<'_>]) -> Option<Estimate> {
    let taking_part: Vec<(&ScoredSample<'_>, Contribution)> =
        samples.iter().filter_map(|sample| Some((sample, *sample.contributions.get(&metric.name)?))).collect();
    let column = Column::new(taking_part.iter().map(|(_, contribution)| *contribution));
    let clusters = dense_clusters(taking_part.iter().map(|(sample, _)| sample.cluster));
    let categories = dense_clusters(taking_part.iter().map(|(sample, _)| sample.category));
    let linearised = column.linearised(metric, &categories)?;
    Some(bounded(estimated(linearised, &clusters, metric.scale), &column, metric))
}

/// Keeps the interval of a share within 0 and the scale. Where no sample differs from 0, or none from 1, the t interval has
/// no width although the truth may well lie elsewhere; Wilson's has, and counts clusters because samples of one image may
/// all be right together.
pub(super) fn bounded(mut estimate: Estimate, column: &Column, metric: &MetricSpec) -> Estimate {
    let scale = metric.scale;
    let Some([low, high]) = estimate.interval else { return estimate };
    // A sum over categories may be many times the scale, and points have no end.
    if !column.is_share() || scale <= 0.0 || metric.sum_over_categories || metric.points {
        return estimate;
    }
    let at_end = estimate.value <= ROUNDING * scale || estimate.value >= scale * (1.0 - ROUNDING);
    estimate.interval = if estimate.standard_error == Some(0.0) && at_end {
        let trials = estimate.clusters as u64;
        let successes = if estimate.value > scale / 2.0 { trials } else { 0 };
        wilson_interval(successes, trials, LEVEL).map(|ends| ends.map(|end| end * scale))
    } else {
        Some([low.max(0.0), high.min(scale)])
    };
    estimate
}
