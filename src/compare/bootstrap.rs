//! Bootstrap intervals of metrics that are no plain mean.

use super::estimate::{Column, LEVEL};
use super::metric::Rows;
use super::pair::Pair;
use crate::benchmark::MetricSpec;
use crate::stats::{ClusteredSums, bootstrap_of_sums};

/// Resamples. The ends move by about a twentieth of the interval's half width between seeds.
const RESAMPLES: usize = 2_000;

/// Seed, fixed so that a comparison says the same each time.
const SEED: u64 = 0x626f_6f74;

/// The 95 % cluster bootstrap interval of the difference (BCa, or of percentiles where that is not to be had), in the metric's
/// units. `None` for plain means, whose t interval needs none, and where resamples have no value or no spread.
pub(super) fn interval(metric: &MetricSpec, pairs: &[Pair<'_>]) -> Option<[f64; 2]> {
    let rows = Rows::new(metric, pairs);
    let several = rows.categories.iter().any(|category| *category > 0);
    let by_category = several && (metric.mean_over_categories || metric.sum_over_categories);
    if !by_category && !metric.points && rows.base.is_mean() && rows.new.is_mean() || rows.base == rows.new {
        return None;
    }
    let categories = by_category.then_some(rows.categories.as_slice());
    let sums = |column: &Column| {
        let (numerators, denominators) = column.parts();
        ClusteredSums::new(numerators, denominators, categories, &rows.clusters)
    };
    let found = bootstrap_of_sums(&sums(&rows.new)?, Some(&sums(&rows.base)?), RESAMPLES, SEED, LEVEL)?;
    let counted = match by_category && metric.sum_over_categories {
        true => rows.categories.iter().max().map_or(1, |last| last + 1),
        false => 1,
    };
    let factor = metric.scale * counted as f64;
    let mut ends = found.bias_corrected.unwrap_or(found.percentile).map(|end| end * factor);
    ends.sort_by(f64::total_cmp);
    (ends.iter().all(|end| end.is_finite()) && ends[0] < ends[1]).then_some(ends)
}
