//! What a sample could have seen.

use super::student::{normal_quantile, t_quantile};

/// The true difference that a two-sided test at level `alpha` would find with probability `power`, for an estimate with
/// this standard error: `(q(1 − α/2) + q(power)) · SE`, with t quantiles where `degrees_of_freedom` is given and normal ones
/// otherwise. `None` if the standard error is 0 (no spread was seen, so nothing can be said) or not finite.
pub fn minimum_detectable_effect(standard_error: f64, degrees_of_freedom: Option<f64>, alpha: f64, power: f64) -> Option<f64> {
    if !(standard_error.is_finite() && standard_error > 0.0) {
        return None;
    }
    let quantile = |probability| match degrees_of_freedom {
        Some(degrees) => t_quantile(probability, degrees),
        None => normal_quantile(probability),
    };
    Some((quantile(1.0 - alpha / 2.0)? + quantile(power)?) * standard_error)
}
