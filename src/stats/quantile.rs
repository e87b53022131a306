//! Means and quantiles, and when a sample is too small for one.

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
