//! Shares of independent yes/no outcomes.

use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

use super::student::normal_quantile;

/// Wilson's score interval for `successes` out of `trials` independent ones at confidence `level` (Wilson 1927). Unlike the
/// Wald interval it does not collapse at 0 or 1. `None` without trials or with more successes than trials.
pub fn wilson_interval(successes: u64, trials: u64, level: f64) -> Option<[f64; 2]> {
    if trials == 0 || successes > trials {
        return None;
    }
    let z = normal_quantile(0.5 + level / 2.0)?;
    let n = trials as f64;
    let share = successes as f64 / n;
    let shrink = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / shrink;
    let half = z / shrink * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    // The ends are exact where the share is, and rounding must not carry them out of 0..=1.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == trials { 1.0 } else { (centre + half).min(1.0) };
    Some([low, high])
}

/// The share of events that none seen in `trials` independent ones still allows with 95 % confidence: `1 − 0.05^(1/n)`, the
/// exact form of the rule of three. 1 without trials.
pub fn zero_events_upper_bound(trials: u64) -> f64 {
    if trials == 0 { 1.0 } else { 1.0 - 0.05_f64.powf(1.0 / trials as f64) }
}

/// Twice the lower tail at the smaller count, and the probability of that count, of a fair binomial.
fn fair_binomial(fixed: u64, broken: u64) -> Option<(f64, f64)> {
    let smaller = fixed.min(broken);
    let binomial = Binomial::new(0.5, fixed.checked_add(broken)?).ok()?;
    Some((2.0 * binomial.cdf(smaller), binomial.pmf(smaller)))
}

/// McNemar's exact test for paired yes/no outcomes: the two-sided binomial p-value of `fixed` against `broken`. 1 when
/// nothing changed.
pub fn mcnemar_exact(fixed: u64, broken: u64) -> f64 {
    if fixed == 0 && broken == 0 {
        return 1.0;
    }
    fair_binomial(fixed, broken).map_or(1.0, |(two_tails, _)| two_tails.min(1.0))
}

/// McNemar's mid-p test, which counts the observed outcome half (Fagerland, Lydersen and Laake 2013): less conservative than
/// the exact test and nearly always within its level.
pub fn mcnemar_mid_p(fixed: u64, broken: u64) -> f64 {
    if fixed == 0 && broken == 0 {
        return 1.0;
    }
    fair_binomial(fixed, broken).map_or(1.0, |(two_tails, point)| (two_tails - point).clamp(0.0, 1.0))
}
