//! Means and quantiles, and when a sample is too small for one.

use statrs::distribution::{Binomial, DiscreteCDF};

/// The arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The finite values in ascending order.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut kept: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    kept.sort_by(f64::total_cmp);
    kept
}

/// The quantile of `probability` in 0..=1 of values in ascending order, linear between neighbours (type 7 of Hyndman and
/// Fan, numpy's default). `None` of nothing.
pub fn quantile_of_sorted(ascending: &[f64], probability: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let position = probability.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let low = *ascending.get(below)?;
    let high = *ascending.get((below + 1).min(last))?;
    Some(low + (high - low) * (position - below as f64))
}

/// The fewest observations from which an upper quantile can be told with 99 % confidence: the sample must reach beyond the
/// true quantile, `1 − p^n ≥ 0.99` (MLPerf LoadGen's early-stopping rule at its limit). 44 for P90, 459 for P99.
pub fn smallest_sample_for_quantile(probability: f64) -> usize {
    if !(probability > 0.0 && probability < 1.0) {
        return usize::MAX;
    }
    (0.01_f64.ln() / probability.ln()).ceil() as usize
}

/// The quantile, or `None` where the sample cannot support it.
pub fn supported_quantile(ascending: &[f64], probability: f64) -> Option<f64> {
    (ascending.len() >= smallest_sample_for_quantile(probability)).then(|| quantile_of_sorted(ascending, probability)).flatten()
}

/// An interval for the quantile of `probability` of the distribution that independent values in ascending order come from,
/// without assuming which one: the order statistics `l < u` with `P(B < l) ≤ (1 − level)/2` and `P(B ≥ u) ≤ (1 − level)/2`,
/// `B` binomial of n and the probability (Conover, *Practical Nonparametric Statistics*, 3rd ed., §3.2), as narrow as those
/// allow. It covers with at least the level; an equality of values only adds to that. `None` where an end would lie beyond the
/// smallest or the largest value: at 95 %, below 6 values for the median and below 36 for P90.
pub fn quantile_interval(ascending: &[f64], probability: f64, level: f64) -> Option<[f64; 2]> {
    let n = ascending.len() as u64;
    if n == 0 || !(probability > 0.0 && probability < 1.0) || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let below = Binomial::new(probability, n).ok()?;
    let tail = (1.0 - level) / 2.0;
    // The first count at which the lower tail exceeds its share, and the last at which the upper one does.
    let lower = first_count(n, |count| below.cdf(count) > tail);
    let upper = first_count(n, |count| below.sf(count) <= tail);
    let low = *ascending.get((lower as usize).checked_sub(1)?)?;
    let high = *ascending.get(upper as usize)?;
    Some([low, high])
}

/// The smallest count in 0..=n from which on `holds` is true; n if there is none before.
fn first_count(n: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}
